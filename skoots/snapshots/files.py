"""Snapshot files: written so that no name ever holds half a one, and read only when whole.

A file is what ``torch.save`` writes, with the SHA-256 of these bytes as the comment of the zip archive: one
file, which ``torch.load(path, weights_only=True)`` reads too, and in which every flipped bit shows."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import pickle
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from skoots.errors import SnapshotError
from skoots.refusals import refusal_in
from skoots.snapshots.archive import damaged_record, fault_of_records
from skoots.snapshots.contents import check_plain, plain
from skoots.snapshots.run_folder import what_lies_in
from skoots.snapshots.schema import check_schema
from skoots.unfinished import Scratch, Unfinished, flush_to_disk

FORMAT = 1
"""Number of the layout that this version writes; it reads this one and all before."""

log = logging.getLogger("skoots")

_SEAL = b"skoots sha256 "
_SEAL_LENGTH = len(_SEAL) + 64
# The record that closes a zip archive: its beginning, and its length. Its last two bytes count the comment's.
_ZIP_END = b"PK\x05\x06"
_ZIP_END_LENGTH = 22


# Writing ----------------------------------------------------------------------------------------------------


def check_free(path: Path, overwrite: bool) -> None:
    """Whether a snapshot may be written where the user says.

    Raises:
        SnapshotError: it is a folder, it exists and may not be replaced, or its folder does not exist.
    """
    if path.is_dir():
        raise SnapshotError(f"{path} is a folder; name a file, such as {path / 'model.pt'}.")
    if path.exists() and not overwrite:
        raise SnapshotError(f"{path} exists; choose another output or say --overwrite.")
    if not path.absolute().parent.is_dir():
        raise SnapshotError(
            f"{path} cannot be written: the folder {path.parent} does not exist. Make it first."
        )


class _HashingFile(io.RawIOBase):
    """Passes bytes on to a file and keeps their digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self._file.write(data)


def write_snapshot(
    state: Mapping[str, Any],
    path: Path | str,
    links: Sequence[Path | str] = (),
    keep_as: Path | str | None = None,
) -> Path:
    """Write a snapshot so that at every instant each name holds a whole snapshot or what it held before.

    The bytes go to a temporary name in the same folder, are flushed to disk, read back and compared with
    their digest, and only then renamed.

    Args:
        state: the keys of this module's page; ``format`` is added.
        path: the file.
        links: more names on the same file system for the same bytes, put in place before ``path``.
        keep_as: a name in the same folder for what ``path`` holds until now.

    Returns:
        ``path``.

    Raises:
        SnapshotError: the disk is full, the folder cannot be written, or ``state`` holds what a snapshot may
            not.
    """
    path = Path(path)
    content = plain({"format": FORMAT, **state})
    try:
        with replacing(path, content) as file:
            if keep_as is not None and path.exists():
                file.link(path, Path(keep_as))
            for name in map(Path, links):
                name.parent.mkdir(exist_ok=True)
                file.link(file.temporary, name)
            for folder in {name.parent for name in map(Path, links)} - {path.parent}:
                flush_to_disk(folder)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        refusal = refusal_in(error)
        reason, remedy = (_reason(error), "") if refusal is None else (refusal.reason, f" {refusal.remedy}")
        if refusal is not None and refusal.is_room:
            reason += _free_space(path.parent, _size(content))
        raise SnapshotError(
            f"Snapshot {path} could not be written: {reason}. "
            f"The snapshots already there are untouched.{remedy}"
        ) from error
    return path


@contextmanager
def replacing(path: Path, content: dict[str, Any]) -> Iterator[Unfinished]:
    """A sealed file, on disk and read back, that takes its name at the end of the context.

    Args:
        path: its name afterwards.
        content: tensors and plain values.

    Raises:
        OSError: it cannot be written; so does a RuntimeError, as torch reports a full disk.
    """
    with Unfinished(path) as file:
        _write_sealed(content, file.temporary)
        verify(file.temporary)
        yield file


def _write_sealed(content: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:
        hashing = _HashingFile(file)
        torch.save(content, cast(IO[bytes], hashing))
        file.seek(-2, os.SEEK_END)
        file.write(_SEAL_LENGTH.to_bytes(2, "little") + _SEAL + hashing.digest.hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())


def link(source: Path, target: Path) -> None:
    """A second name for the same bytes; a copy where the file system has no hard links."""
    with Scratch(target) as scratch:
        scratch.link(source, target)


def remove_if_there(path: Path) -> None:
    """Remove a file; one that cannot be removed is only reported."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s could not be removed: %s.", path, error)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n")[0].rstrip(".")


def _free_space(folder: Path, needed: int) -> str:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f" ({needed / 2**20:.1f} MiB are needed and {free / 2**20:.1f} MiB free)"


def _size(content: Any) -> int:
    """Bytes of the tensors."""
    if isinstance(content, torch.Tensor):
        return content.nbytes
    values = content.values() if isinstance(content, dict) else content
    return sum(map(_size, values)) if isinstance(content, dict | list | tuple | set) else 0


# What torch's reader raises for a pickle that makes no sense.
_GARBLED = (
    *(RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(AssertionError, ArithmeticError, MemoryError, struct.error),
)

# Reading ----------------------------------------------------------------------------------------------------


def read_snapshot(path: Path | str, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a snapshot after comparing it with its digest; never runs code from the file.

    Args:
        path: the file.
        map_location: where the tensors go.

    Raises:
        SnapshotError: the file is missing, empty, truncated, damaged, no snapshot, holds more than tensors
            and plain values, or other values than a snapshot has, or comes from a newer skoots.
    """
    path = Path(path)
    verify(path)
    state = load_safely(path, path, map_location)
    if not isinstance(state, dict) or type(state.get("format")) is not int or "net" not in state:
        raise no_snapshot(path)
    if state["format"] > FORMAT:
        raise SnapshotError(
            f"Snapshot {path} was written by a newer skoots (format {state['format']}; this one reads up "
            f"to {FORMAT}). Upgrade skoots."
        )
    check_schema(state, path)
    return state


def load_safely(file: Path | BinaryIO, path: Path, map_location: str | torch.device = "cpu") -> Any:
    """What torch reads from a file without ever running code from it.

    Args:
        file: to read, or an open one.
        path: its name, for messages.
        map_location: where the tensors go.

    Raises:
        SnapshotError: it holds more than tensors and plain values, or is nothing that torch writes.
    """
    try:
        state = torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise SnapshotError(
            f"{path} holds more than tensors and plain Python values and was refused, because loading it "
            "could run code. Ask for the file that skoots wrote, or for one with weights alone."
        ) from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch's way of stumbling over a file of another kind
            raise no_snapshot(path) from error
        raise SnapshotError(f"Snapshot {path} cannot be read: {_reason(error)}.") from error
    except _GARBLED as error:
        raise no_snapshot(path) from error
    check_plain(state, path)
    return state


def no_snapshot(path: Path) -> SnapshotError:
    """The error for a file that is something else."""
    return SnapshotError(f"{path} is no skoots snapshot. Give a snapshot-*.pt file or a run folder.")


def _damaged(path: Path, how: str) -> SnapshotError:
    return SnapshotError(f"Snapshot {path} is damaged: {how}. Use an earlier snapshot of the run.")


def verify(path: Path) -> None:
    """Compare the bytes of a file with their digest; of one without (saved again by hand, or by another
    program), check the archive's own sums.

    Raises:
        SnapshotError: the file is missing, damaged, or nothing that torch writes.
    """
    try:
        _verify(path)
    except FileNotFoundError:
        raise SnapshotError(f"Snapshot {path} does not exist.{what_lies_in(path.parent)}") from None
    except IsADirectoryError:
        raise SnapshotError(f"{path} is a folder, no snapshot file.") from None
    except OSError as error:
        raise SnapshotError(f"Snapshot {path} cannot be read: {_reason(error)}.") from error


def _verify(path: Path) -> None:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise _damaged(path, "the file is empty")
        beginning = file.read(2)
        archive_length = size - _SEAL_LENGTH
        if archive_length >= _ZIP_END_LENGTH:
            file.seek(archive_length - _ZIP_END_LENGTH)
            ending = file.read()
            if ending.startswith(_ZIP_END) or _SEAL in ending:
                _verify_digest(file, path, archive_length, ending[_ZIP_END_LENGTH:])
                _refuse(path, fault_of_records(path))
                return
    if beginning != b"PK":
        raise no_snapshot(path)
    _refuse(path, damaged_record(path))


def _refuse(path: Path, fault: str | None) -> None:
    if fault is not None:
        raise _damaged(path, fault)


def _verify_digest(file: BinaryIO, path: Path, archive_length: int, seal: bytes) -> None:
    digest = hashlib.sha256()
    file.seek(0)
    for start in range(0, archive_length - 2, 2**20):
        digest.update(file.read(min(2**20, archive_length - 2 - start)))
    digest.update(b"\0\0")  # the archive was sealed when its comment was empty
    if file.read(2) != _SEAL_LENGTH.to_bytes(2, "little") or seal != _SEAL + digest.hexdigest().encode():
        raise _damaged(path, "its bytes do not match their checksum")


def checksum(path: Path) -> str:
    """SHA-256 of a snapshot's bytes as they were written, in hexadecimal, as its last bytes say.

    Raises:
        SnapshotError: it carries none.
    """
    with open(path, "rb") as file:
        file.seek(-min(_SEAL_LENGTH, path.stat().st_size), os.SEEK_END)
        seal = file.read()
    if not seal.startswith(_SEAL):
        raise SnapshotError(f"{path} carries no checksum of skoots; it was saved by another program.")
    return seal.removeprefix(_SEAL).decode()


def file_sha256(path: Path) -> str:
    """SHA-256 of a whole file in hexadecimal, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
