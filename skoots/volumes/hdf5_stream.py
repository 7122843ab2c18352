"""The file under an HDF5 library that cannot bear a full disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


class HDF5Stream(io.RawIOBase):
    """A file that takes every write: what the disk refuses is kept in memory, and said by ``check``.

    After a failed write HDF5 2.0 cannot close its file, and ends the process with a segmentation fault when
    it tries. So it never sees one; the file is thrown away once ``check`` has raised.

    Args:
        path: the file; it is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "r+b" if path.exists() else "w+b", buffering=0)  # noqa: SIM115 - closed with this one
        self._failure: OSError | None = None
        self._refused: list[tuple[int, bytes]] = []  # where they belong, oldest first
        self._at = 0

    def check(self) -> None:
        """Raise the error of the first write that the disk has refused.

        Raises:
            OSError: there is one.
        """
        if self._failure is not None:
            raise self._failure

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._at)
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):
            done += count
        view[done:] = bytes(len(view) - done)
        for start, data in self._refused:
            first, last = max(start, self._at), min(start + len(data), self._at + len(view))
            if first < last:
                view[first - self._at : last - self._at] = data[first - start : last - start]
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            self.check()
            self._file.seek(self._at)
            done = 0
            while done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self._failure = error
            self._refused.append((self._at, bytes(view)))
        self._at += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            ends = [start + len(data) for start, data in self._refused]
            self._at = max(self._file.seek(0, io.SEEK_END), *ends, 0) + offset
        else:
            self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        try:
            self.check()
            self._file.truncate(size)
        except OSError as error:
            self._failure = error
        return size

    def close(self) -> None:
        self._file.close()
        super().close()
