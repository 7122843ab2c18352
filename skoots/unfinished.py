"""Files and folders that bear their name whole or not at all, and what a killed process has left of them.

What is being written lies in a hidden folder beside its place, ``.NAME.1a2b3c4d.partial``, which is locked
for as long as the process lives that made it; the system frees the lock however that ends. Whoever writes the
same name next finds the folders that nobody holds, and removes them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import BaseFileLock, FileLock, Timeout

from skoots.errors import SkootsError

ENDING = ".partial"  # keeps it out of every search for images and snapshots
_LOCK, _CONTENT, _REPLACED = "lock", "content", "replaced"
_AT_THIS_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD of Linux; RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


class Scratch:
    """A hidden folder beside a path, that the next process with the same path removes if this one is killed.

    Args:
        path: the file or folder in whose course it is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._is_removed = path, False
        sweep(path)
        while True:
            self.folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}{ENDING}")
            # A signal may come between its making and the block that removes it.
            self._lost = weakref.finalize(self, _remove_lost, self.folder, os.getpid())
            self.folder.mkdir()
            self._lock = _lock_of(self.folder)
            try:
                held = _acquired(self._lock)
            except BaseException:  # no file can be opened, or a signal came
                remove_tree(self.folder)
                raise
            # another process may have taken the folder for a dead one's before it was locked
            if held is not False and self.folder.exists():
                return
            self._lost.detach()
            self._lock.release()

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, which may be another's; a copy where there are no hard links.

        Args:
            source: the file.
            target: the name, on the file system of this folder.
        """
        # never the name of the last time: it stays where the target was the same file already
        second = self.folder / secrets.token_hex(8)
        try:
            os.link(source, second)
        except OSError:
            shutil.copyfile(source, second)
            flush_to_disk(second)
        os.replace(second, target)

    def remove(self) -> None:
        """Remove it with all that it holds; a second call does nothing."""
        if self._is_removed:
            return
        self._is_removed = True
        self._lost.detach()
        self._lock.release()  # first: Windows removes no open file, and to remove a folder takes an open one
        remove_tree(self.folder)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


class Unfinished(Scratch):
    """A file or folder that is written as ``temporary`` and takes its name when it is done.

    Args:
        path: what it is to become.
        overwrite: whether it may take the place of something.
        kind: of the error if it may not.
    """

    def __init__(self, path: Path, overwrite: bool = True, kind: type[SkootsError] = SkootsError) -> None:
        super().__init__(path)
        self.overwrite, self._kind = overwrite, kind
        self.temporary = self.folder / _CONTENT

    def commit(self) -> None:
        """Give it its name: at every instant this is the whole old one, or the whole new one.

        Raises:
            SkootsError: something of this name has appeared meanwhile.
        """
        if self.path.exists() and not self.overwrite:
            raise self._kind(
                f"{self.path} has appeared meanwhile; what was to be written there is in {self.set_aside()}."
            )
        flush_to_disk(self.temporary)
        if self.temporary.is_dir() and os.path.lexists(self.path):
            if not _exchange(self.temporary, self.path):
                self.path.rename(self.folder / _REPLACED)  # ``sweep`` puts it back
                self.temporary.rename(self.path)
        else:
            os.replace(self.temporary, self.path)
        flush_to_disk(self.path.parent)
        self.remove()

    def set_aside(self) -> Path:
        """Give it another name, as it cannot have its own; this is returned."""
        kept = self.path.with_name(f"{self.path.stem}-{secrets.token_hex(4)}{self.path.suffix}")
        self.temporary.rename(kept)
        return kept

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.remove()


def _remove_lost(folder: Path, owner: int) -> None:
    """A forked process forgets what is still in use in another."""
    if os.getpid() == owner:
        remove_tree(folder)


def sweep(path: Path) -> None:
    """Remove what killed processes have left beside a path of what they were writing there; what a living one
    writes is left alone, and so is what cannot be told."""
    for folder in _folders_of(path.parent, path.name):
        _sweep(folder, path)


def sweep_folder(folder: Path) -> None:
    """As ``sweep``, for all that was being written in a folder."""
    for found in _folders_of(folder):
        _sweep(found, folder / found.name[1:].rsplit(".", 2)[0])


def _folders_of(parent: Path, name: str | None = None) -> Iterator[Path]:
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{8}}{re.escape(ENDING)}")
    with suppress(OSError):
        yield from [Path(entry.path) for entry in os.scandir(parent) if pattern.fullmatch(entry.name)]


def _sweep(folder: Path, path: Path) -> None:
    lock = _lock_of(folder)
    try:
        if not _acquired(lock):
            return
        replaced = folder / _REPLACED
        if replaced.exists() and not os.path.lexists(path):  # it was killed between two renames
            replaced.rename(path)
        if os.name == "nt":
            lock.release()
        remove_tree(folder)
    except OSError:  # in a folder that is read-only, or without locks
        return
    finally:
        lock.release()


def _lock_of(folder: Path) -> BaseFileLock:
    return FileLock(folder / _LOCK, thread_local=False)  # one thread may begin a file and another end it


def _acquired(lock: BaseFileLock) -> bool | None:
    """Whether a lock could be had; None on a file system that has none.

    Raises:
        OSError: its file cannot be made.
    """
    try:
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError):  # or the folder has just been removed
        return False
    except NotImplementedError:
        return None
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
            return None
        raise
    return True


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, as far as the system lets us, and with one open file if need be."""
    shutil.rmtree(folder, ignore_errors=True)
    for place, _, _ in os.walk(folder, topdown=False) if folder.exists() else ():
        with suppress(OSError):
            for name in os.listdir(place):
                (Path(place) / name).unlink(missing_ok=True)
        with suppress(OSError):
            os.rmdir(place)
    with suppress(OSError):
        os.rmdir(folder)


def flush_to_disk(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk, before a power cut."""
    if os.name != "posix" and path.is_dir():
        return  # elsewhere a folder cannot be opened
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot do it for folders
            raise
    finally:
        os.close(handle)


def _exchange(one: Path, other: Path) -> bool:
    """Give two names each other's content in one step; False where the system or the file system cannot."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            status = library.renamex_np(os.fsencode(one), os.fsencode(other), _EXCHANGE)
        else:
            here = _AT_THIS_FOLDER
            status = library.renameat2(here, os.fsencode(one), here, os.fsencode(other), _EXCHANGE)
    except (AttributeError, TypeError):  # the C library lacks it; Windows has none of that kind
        return False
    if status == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))
