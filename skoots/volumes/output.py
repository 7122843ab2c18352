"""Outputs: said before the work whether they can be made, and never half there."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from skoots.errors import VolumeError


class Unfinished:
    """A file or folder under a temporary name beside its own, which it takes when it is done.

    Args:
        path: what it is to become.
        overwrite: whether it may take the place of something.
    """

    def __init__(self, path: Path, overwrite: bool) -> None:
        self.path = path
        self.overwrite = overwrite
        # the ending keeps it out of every search for images
        self.temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)

    def commit(self) -> None:
        """Give it its name.

        Raises:
            VolumeError: something of this name has appeared meanwhile.
        """
        if self.path.exists() and not self.overwrite:
            raise VolumeError(
                f"{self.path} has appeared meanwhile; what was to be written there is in {self.temporary}."
            )
        if not self.path.is_dir():
            os.replace(self.temporary, self.path)
            return
        aside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.replaced")
        self.path.rename(aside)  # a folder cannot be replaced in one step; the old one goes last
        self.temporary.rename(self.path)
        shutil.rmtree(aside)

    def discard(self) -> None:
        """Remove what was written."""
        if self.temporary.is_dir():
            shutil.rmtree(self.temporary)
        else:
            self.temporary.unlink(missing_ok=True)

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()


def reserve(path: Path) -> None:
    """Claim the disk space of a file that is long but still empty, where the system can.

    Through a memory map a full disk shows as a killed process; claimed beforehand it is an ``OSError``.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, path.stat().st_size))


def exists_error(path: str) -> VolumeError:
    """The error of an output that is there already."""
    return VolumeError(f"{path} exists; pass --overwrite or choose another path.")


def check_folder(path: Path) -> None:
    """Try out whether something can be written at ``path``.

    Raises:
        VolumeError: its folder (or the nearest that exists) is none, or cannot be written to.
    """
    folder = path.parent
    try:
        os.lstat(path.with_name(f".{path.name}.01234567.partial"))  # the name that it has until it is done
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EACCES, errno.ELOOP):
            raise VolumeError(f"{path} cannot be written: {error.strerror}. Choose another path.") from error
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise VolumeError(f"{path} cannot be written: {folder} is not a folder. Choose another path.")
    try:
        # asking for permissions is not enough: disks are mounted read-only, and root may everything
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise VolumeError(
            f"{path} cannot be written: the folder {folder} is not writable ({error.strerror}). Choose "
            "another path."
        ) from error
