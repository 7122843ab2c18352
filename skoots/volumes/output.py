"""Outputs: said before the work whether they can be made, and given their disk space in advance."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from skoots.errors import VolumeError
from skoots.refusals import refusal_in


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
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise VolumeError(f"{path} cannot be written: {folder} is not a folder. Choose another path.")
    try:
        # asking for permissions is not enough: disks are mounted read-only, and root may everything
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        refusal = refusal_in(error)
        raise VolumeError(
            f"{path} cannot be written: the folder {folder} is not writable ({error.strerror}). "
            f"{'Choose another path.' if refusal is None else refusal.remedy}"
        ) from error
