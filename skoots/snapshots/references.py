"""From what a user calls a snapshot to its file, and to what it holds."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from skoots.errors import SnapshotError
from skoots.snapshots.files import read_snapshot
from skoots.snapshots.names import PREFIX, epochs_by_name, newest_first, snapshot_name
from skoots.snapshots.run_folder import names_in, newest_run, what_lies_in

log = logging.getLogger("skoots")


def find_snapshot(reference: Path | str) -> Path:
    """The file that a reference means.

    Args:
        reference: a file; a run folder (its best, else its latest snapshot); an experiment folder (its newest
            run that has snapshots); either folder with ``:latest``, ``:best``, ``:average``, ``:swa`` or an
            epoch such as ``:010``; an experiment folder with a run, ``runs/mito:RUN_...``, and perhaps one of
            these after it.

    Raises:
        SnapshotError: nothing is there; the message says what is.
    """
    with _readable(reference):
        path, folder, tag = _split(reference)
        if folder is None:
            return path
        run = newest_run(folder)
        name = _name_for(tag, names_in(run))
        if name is None:
            raise SnapshotError(f"There is no snapshot {reference}.{what_lies_in(run)}")
        return run / name


def find_run(reference: Path | str) -> Path:
    """The run folder that a reference means: itself, ``runs/mito`` (its newest run) or ``runs/mito:RUN_...``.

    Raises:
        SnapshotError: it is none, or has no snapshot.
    """
    with _readable(reference):
        path, folder, tag = _split(reference)
        if folder is None or tag is not None:
            run = path.parent if folder is None else newest_run(folder)
            raise SnapshotError(f"{reference} is a snapshot, no run. Give the run's folder: {run}.")
        run = newest_run(folder)
        if not newest_first(names_in(run)):
            raise SnapshotError(f"No run in {folder} has a snapshot.{what_lies_in(folder)}")
        return run


@contextmanager
def _readable(reference: Path | str) -> Iterator[None]:
    """A folder that may not be read is said, too."""
    try:
        yield
    except OSError as error:
        where = error.filename or reference
        raise SnapshotError(
            f"Snapshot {reference} cannot be looked for: {where}: {error.strerror}."
        ) from error


def read_reference(
    reference: Path | str, map_location: str | torch.device = "cpu"
) -> tuple[dict[str, Any], Path]:
    """Find and read a snapshot. Where ``latest`` of a run is meant, the newest whole one takes the place of a
    damaged one, loudly; a file that is asked for by its name must be whole.

    Returns:
        The snapshot and its file.

    Raises:
        SnapshotError: there is none, or it is damaged.
    """
    path = find_snapshot(reference)
    if path.name == f"{PREFIX}-latest.pt" and not Path(os.path.expanduser(reference)).is_file():
        return read_newest(path.parent, map_location)
    return read_snapshot(path, map_location), path


def read_newest(
    folder: Path | str, map_location: str | torch.device = "cpu", set_aside: bool = False
) -> tuple[dict[str, Any], Path]:
    """The newest snapshot of a run that is whole; each damaged one is reported and the one before it is
    tried.

    Args:
        folder: a run folder.
        map_location: where the tensors go.
        set_aside: rename each damaged file that is newer than the one found to ``NAME.corrupt``, so that a
            training that goes on in the folder does not meet it again.

    Returns:
        The snapshot and its file.

    Raises:
        SnapshotError: there is none, or none is whole; the message lists each and why.
    """
    folder = Path(folder)
    names = newest_first(names_in(folder))
    if not names:
        raise SnapshotError(f"{folder} holds no snapshot.{what_lies_in(folder)}")
    damaged: list[Path] = []
    reasons = []
    for name in names:
        try:
            state = read_snapshot(folder / name, map_location)
        except SnapshotError as error:
            log.warning("%s Trying the snapshot before it.", error)
            reasons.append(str(error))
            damaged.append(folder / name)
            continue
        if reasons:
            log.warning(
                "Going on from %s, epoch %s, step %s; what came after it is lost.",
                folder / name,
                state.get("epoch"),
                state.get("step"),
            )
        if set_aside:
            for path in damaged:
                path.replace(path.with_name(f"{path.name}.corrupt"))
        return state, folder / name
    raise SnapshotError(
        f"No snapshot in {folder} is whole:" + "".join(f"\n  - {reason}" for reason in reasons)
    )


def _split(reference: Path | str) -> tuple[Path, Path | None, str | None]:
    """A reference as path, folder and tag; the folder is None if it is a file."""
    path = Path(os.path.expanduser(reference))
    if path.is_file():
        return path, None, None
    if path.is_dir():
        return path, path, None
    stem, colon, tag = str(path).rpartition(":")
    folder = Path(stem)
    if ":RUN_" in stem:
        experiment, _, run = stem.rpartition(":")
        folder = Path(experiment) / run
    if not colon or not folder.is_dir():
        missing = folder if colon and stem else path
        raise SnapshotError(
            f"There is no snapshot {reference}: {missing} does not exist.{what_lies_in(missing.parent)}"
        )
    if not tag.startswith("RUN_"):
        return path, folder, tag
    if not (folder / tag).is_dir():
        raise SnapshotError(f"There is no run {tag} in {folder}.{what_lies_in(folder)}")
    return path, folder / tag, None


def _name_for(tag: str | None, names: Collection[str]) -> str | None:
    """The file name that a tag means; no tag means best, else latest, else the newest there is."""
    if tag is None:
        return _name_for("best", names) or next(iter(newest_first(names)), None)
    if tag == "best":
        epochs = epochs_by_name(names, best=True)
        return max(epochs, key=lambda name: epochs[name]) if epochs else None
    if tag.isdecimal():
        candidates = [snapshot_name(int(tag)), snapshot_name(int(tag), best=True)]
    else:
        candidates = [f"{PREFIX}-{tag}.pt"]
    return next((name for name in candidates if name in names), None)
