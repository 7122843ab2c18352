"""The folder of a run: made once, and trained in by one process at a time."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from skoots.errors import SkootsError
from skoots.snapshots.names import PREFIX, newest_first

LOCK = ".lock"
log = logging.getLogger("skoots")


def new_run_folder(root: Path | str, experiment: str) -> Path:
    """Make the folder of a new run: ``<root>/<experiment>/RUN_<date>_<time>_<microseconds>``.

    It is never one that exists, so that two trainings started at the same instant get two.

    Raises:
        SkootsError: it cannot be made, or ``experiment`` is no plain name.
    """
    if not experiment.strip(" .") or any(character in experiment for character in "/\\:"):
        raise SkootsError(
            f"The experiment name {experiment!r} must be a plain folder name, without / \\ or a colon."
        )
    parent = Path(os.path.expanduser(root)) / experiment
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / datetime.now().strftime("RUN_%Y%m%d_%H%M%S_%f")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        in_the_way = error.errno in (errno.EEXIST, errno.ENOTDIR)
        why = "a file is in its place" if in_the_way else error.strerror
        raise SkootsError(
            f"The run folder cannot be made in {parent}: {why}. Give another output folder."
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from training in a run folder; the system frees it if this one is killed.

    Raises:
        SkootsError: another process trains there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SkootsError(
            f"Another process is training in {folder}. Wait for it or stop it; to train beside it, branch "
            f"into a new run: --resume {folder / f'{PREFIX}-latest.pt'}."
        ) from None
    except (OSError, NotImplementedError) as error:  # network folders without locks, read-only ones
        log.warning("%s cannot be locked (%s); see to it that only one process trains in it.", folder, error)
    try:
        yield
    finally:
        lock.release()


def names_in(folder: Path) -> list[str]:
    """Names of the files in a folder that may be snapshots."""
    return sorted(path.name for path in folder.glob("*.pt") if path.is_file()) if folder.is_dir() else []


def newest_run(folder: Path) -> Path:
    """The newest run of an experiment that has snapshots; a folder that has none below is returned itself."""
    if newest_first(names_in(folder)):
        return folder
    runs = sorted((run for run in folder.glob("RUN_*") if newest_first(names_in(run))), reverse=True)
    return runs[0] if runs else folder


def what_lies_in(folder: Path) -> str:
    """A sentence with what could have been meant instead."""
    if not folder.is_dir():
        return ""
    snapshots = [name for name in names_in(folder) if name.startswith(f"{PREFIX}-")]
    runs = sorted(path.name for path in folder.glob("RUN_*"))
    if snapshots:
        tags = ", ".join(name.removeprefix(f"{PREFIX}-").removesuffix(".pt") for name in snapshots)
        return f" {folder} has the snapshots {tags}."
    if runs:
        return f" {folder} has the runs {', '.join(runs[-5:])}."
    folders = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    return (
        f" {folder} has the folders {', '.join(folders[:10])}."
        if folders
        else f" {folder} has no snapshots and no runs."
    )
