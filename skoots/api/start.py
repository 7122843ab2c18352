"""Where a training begins: anew, on in the folder of its run, or in a new run from a snapshot of another."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skoots.config import Config
from skoots.errors import SkootsError, SnapshotError
from skoots.snapshots import (
    checksum,
    find_run,
    locked,
    new_run_folder,
    read_newest,
    read_reference,
    read_snapshot,
)
from skoots.snapshots.run_folder import LOCK
from skoots.training.distributed import Processes
from skoots.unfinished import remove_tree

REMOTE = "wandb:"
log = logging.getLogger("skoots")


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Args:
        folder: of its run, kept from other processes.
        state: the snapshot that it goes on from; None starts fresh.
        source: the file of it.
        in_place: whether the run is the snapshot's own.
        parent: what the run descends from, for its provenance.
    """

    folder: Path
    state: dict[str, Any] | None = None
    source: Path | None = None
    in_place: bool = False
    parent: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """What was asked for: where a training is to begin.

    Args:
        resume: see ``train``.
        runs: folder of the runs.
        folder: of a run that is gone on with; wins over ``resume``.
    """

    resume: str | bool | None = None
    runs: str = "runs"
    folder: Path | None = None


@contextmanager
def beginning(config: Config, origin: Origin, processes: Processes) -> Iterator[Start]:
    """The start that is asked for; of several processes the first one decides and keeps the lock, and all
    read the same snapshot.

    Raises:
        SkootsError: as ``starting`` or ``in_its_run``, on every process.
    """
    own: list[Start] = []

    def begin() -> tuple[Path, Path | None, bool]:
        begun = (
            in_its_run(origin.folder)
            if origin.folder is not None
            else starting(config, origin.resume, origin.runs)
        )
        own.append(stack.enter_context(begun))
        return own[0].folder, own[0].source, own[0].in_place

    with ExitStack() as stack:
        folder, source, in_place = processes.on_first(begin)
        if own:
            yield own[0]
        else:
            yield Start(folder, None if source is None else read_snapshot(source), source, in_place)


@contextmanager
def starting(config: Config, resume: str | bool | None, runs: Path | str) -> Iterator[Start]:
    """The start that a config and ``resume`` ask for; see ``train``.

    Raises:
        SkootsError: there is nothing to go on from, or another process trains in the run.
    """
    experiment = experiment_name(config)
    wanted = "" if resume is None or resume is False else "latest" if resume is True else str(resume)
    if not wanted and isinstance(resume, str):
        raise SnapshotError("--resume names nothing. Give a run or a snapshot, or leave out the equals sign.")
    if wanted == "latest" or wanted.startswith("RUN_"):
        with in_its_run(_run_in(Path(os.path.expanduser(runs)) / experiment, wanted)) as start:
            yield start
        return
    if Path(wanted).name.startswith("RUN_") and Path(os.path.expanduser(wanted)).is_dir():
        with in_its_run(find_run(wanted)) as start:
            yield start
        return
    remote = wanted.startswith(REMOTE)
    reference = "" if remote else wanted or config.resume_training_from or ""
    state, source = read_reference(reference) if reference else (None, None)
    folder = new_run_folder(runs, experiment)
    with locked(folder):
        if remote:
            with removed_if_it_fails(folder):
                state, source = _fetched(wanted, folder)
        parent = {} if source is None else _parent(state, source, wanted if remote else str(source))
        yield Start(folder, state, source, parent=parent)


@contextmanager
def in_its_run(folder: Path) -> Iterator[Start]:
    """The start in a run folder, from its newest snapshot that is whole.

    Raises:
        SkootsError: no snapshot is whole, or another process trains there.
    """
    with locked(folder):
        state, source = read_newest(folder, set_aside=True)
        yield Start(folder, state, source, True, dict(state.get("provenance", {}).get("parent", {})))


def experiment_name(config: Config) -> str:
    """``metadata.experiment``, else the name of the config file."""
    named = config.metadata.get("experiment")
    if named:
        return str(named)
    return config.source.stem if config.source is not None else "experiment"


@contextmanager
def removed_if_it_fails(folder: Path) -> Iterator[None]:
    """Leave no empty run behind a training that could not begin."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            (folder / LOCK).unlink()  # with no file left to open, the rest would find nothing to remove
        remove_tree(folder)
        with suppress(OSError):
            folder.parent.rmdir()  # of an experiment that has no other run
        raise


def _run_in(experiment: Path, wanted: str) -> Path:
    if not experiment.is_dir():
        raise SnapshotError(
            f"There is nothing to resume: {experiment} does not exist. Leave out --resume to begin, or name "
            "the folder of the runs with --runs."
        )
    return find_run(experiment if wanted == "latest" else f"{experiment}:{wanted}")


def _fetched(reference: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """A snapshot out of W&B, whose run goes on there under its id."""
    from skoots.loggers.wandb_artifacts import download_snapshot, go_on_with_run

    path = download_snapshot(reference, folder)
    go_on_with_run(reference, folder)
    state, path = read_reference(path)
    if (state.get("best") or {"epoch": state["epoch"]})["epoch"] != state["epoch"]:
        try:  # without it, a worse one would become the best
            download_snapshot(f"wandb:{reference.removeprefix(REMOTE).split(':')[0]}:best", folder)
        except SnapshotError as error:
            log.warning("%s", error)
    return state, path


def _parent(state: dict[str, Any] | None, source: Path, called: str) -> dict[str, Any]:
    try:
        digest = checksum(source)
    except SkootsError:  # saved again by hand
        digest = ""
    told = state or {}
    return {"snapshot": called, "sha256": digest, "epoch": told.get("epoch"), "step": told.get("step")}
