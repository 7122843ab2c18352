"""``skoots train``: from a config to a trained model, and how good it is."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skoots.api.build import LoadedModel, config_in, load_model, open_volumes
from skoots.api.edits import with_precision_of, without_late_edits
from skoots.api.held_out import compare_with_components
from skoots.api.launch import Job, origin_after, processes_wanted, train_in_processes
from skoots.api.prepare import Prepared, check_gpus, device_of, prepare
from skoots.api.runner import build_loggers, build_runner
from skoots.api.start import Origin, Start, beginning, in_its_run, removed_if_it_fails
from skoots.api.tune import Tuning, choose, store
from skoots.config import Config, load_config, write_config
from skoots.config.yaml12 import dump
from skoots.errors import ConfigError, SkootsError, signal_of
from skoots.refusals import writing
from skoots.reports.figures import training_curves
from skoots.runtime import choose_device
from skoots.snapshots import find_run, link, read_newest, snapshot_name
from skoots.training.distributed import Processes, is_one_of_several, joined, local_rank
from skoots.training.fit_result import FitResult
from skoots.training.stopping import StopSignals

log = logging.getLogger("skoots")


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training brought.

    Args:
        run_folder: where everything lies.
        best_snapshot: by the key metric; None without validation data.
        latest_snapshot: after the last epoch.
        epochs: epochs completed.
        best_epoch: epoch of the best snapshot.
        metrics: of the last epoch that was measured.
        test_scores: of the best snapshot on held-out volumes, see ``skoots.metrics.score``.
        baseline_scores: of connected components of the same network's foreground.
        figure: picture of a held-out volume.
        test_volume: names of the held-out volumes.
        stopped_by: number of the signal that ended it early; None if it came to its end.
        failed_saves: snapshots that could not be written; the log says why.
        average_snapshot: of the best epochs, if it was asked for.
        swa_snapshot: of the last epochs, if it was asked for.
        ended_early: why it ended before its last epoch of its own accord.
        seconds: how long training took.
        history: what each epoch measured, by name.
        held_out: whether the scored volumes are ``data.test``, which had no say in anything, or the
            validation volumes, which chose the best snapshot.
        tuning: the decoder that was chosen for the best snapshot, and by what; None if none was looked for.
    """

    run_folder: Path
    best_snapshot: Path | None
    latest_snapshot: Path
    epochs: int
    best_epoch: int | None
    metrics: dict[str, float]
    test_scores: dict[str, float] | None = None
    baseline_scores: dict[str, float] | None = None
    figure: Path | None = None
    test_volume: str | None = None
    stopped_by: int | None = None
    failed_saves: int = 0
    average_snapshot: Path | None = None
    swa_snapshot: Path | None = None
    ended_early: str | None = None
    seconds: float = 0.0
    held_out: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    tuning: Tuning | None = None

    @property
    def interrupted(self) -> bool:
        """Whether it ended early."""
        return self.stopped_by is not None


def train(
    config: Path | str | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    runs: Path | str = "runs",
    device: str | None = None,
    progress: bool = True,
    resume: str | bool | None = None,
) -> TrainingOutcome:
    """Train the model that a config describes.

    Args:
        config: a ``pytorch_config.yaml``, or the same as a mapping.
        overrides: ``key.path=value``, e.g. ``train_settings.epochs=5``.
        plugins: modules or files that register parts, besides those that the config names.
        runs: folder in which the run gets its own.
        device: wins over the config's.
        progress: show a progress bar.
        resume: True or ``"latest"`` goes on with the newest run of the experiment, ``"RUN_..."`` with that
            run, in its folder. A snapshot, by file or as ``runs/mito:best``, is gone on from in a new run; so
            is ``wandb:entity/project/run``.

    Returns:
        Where the run lies and how good it is.

    Raises:
        SkootsError: the config has faults (all are named), the data cannot be read, or the run folder not be
            written; another process trains in the run; the snapshot to go on from is missing or does not fit.
    """
    settings = load_config(config, overrides, plugins)
    job = Job(config, overrides, plugins, True, Origin(resume, str(runs)), device, progress)
    return _begin(settings, job)


def _begin(settings: Config, job: Job) -> TrainingOutcome:
    """Train here, or in processes that are started for it."""
    if job.device is None:
        check_gpus(settings)
    count = processes_wanted(settings, job.device)
    if count > 1:
        return train_in_processes(count, job, settings.runner.max_restarts)
    device = choose_device(device_of(settings, local_rank()) if job.device is None else job.device)
    with joined(device) as processes:
        begun = None
        origin = job.origin
        if processes.world > 1:  # torchrun may begin it again
            begun = Path(origin.runs) / f".begun-{os.environ['TORCHELASTIC_RUN_ID']}"
            begun.parent.mkdir(parents=True, exist_ok=True)
            origin = origin_after(origin, begun)
        outcome = train_here(settings, origin, job.device, job.progress, processes, begun=begun)
        if begun is not None and processes.is_first:
            begun.unlink(missing_ok=True)
        return outcome


def train_here(
    settings: Config,
    origin: Origin,
    device: str | None,
    progress: bool,
    processes: Processes,
    stop: StopSignals | None = None,
    begun: Path | None = None,
) -> TrainingOutcome:
    """Train in this process, alone or as one of several; see ``train``.

    Args:
        settings: the config.
        origin: where to begin.
        device: wins over the config's.
        progress: whether bars are drawn.
        processes: those that train together.
        stop: what ends the training early.
        begun: file that is told the run folder.
    """
    with beginning(settings, origin, processes) as start:
        if begun is not None and processes.is_first:
            with writing(begun):
                begun.write_text(str(start.folder.resolve()), encoding="utf-8")
        return _train(settings, start, device, progress, processes, stop)


def resume(
    run: Path | str,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    device: str | None = None,
    progress: bool = True,
) -> TrainingOutcome:
    """Go on with a run, with the config in its newest snapshot, whatever the config's file says today.

    Args:
        run: its folder, ``runs/mito`` (the newest run) or ``runs/mito:RUN_...``.
        overrides: what is to be different from now on, e.g. ``train_settings.epochs=300``.
        plugins: those that the run was trained with; code that a snapshot names is never run unasked.
        device: None takes the config's.
        progress: show a progress bar.

    Raises:
        SkootsError: there is no such run, no snapshot of it is whole, or another process trains in it.
    """
    folder = find_run(run)
    if is_one_of_several():  # each reads the config, and only the first one locks the run
        state, source = read_newest(folder)
    else:
        with in_its_run(folder) as start:
            assert start.state is not None
            state, source = start.state, start.source or folder
    config = config_in(state, source)
    settings = load_config(config, overrides, plugins, trusted=False)
    return _begin(settings, Job(config, overrides, plugins, False, Origin(folder=folder), device, progress))


def _train(
    settings: Config,
    start: Start,
    device: str | None,
    progress: bool,
    processes: Processes | None = None,
    stop: StopSignals | None = None,
) -> TrainingOutcome:
    began = time.monotonic()
    folder, processes = start.folder, processes or Processes()
    with ExitStack() as stack:
        fresh = processes.is_first and not start.in_place
        with removed_if_it_fails(folder) if fresh else nullcontext(), ExitStack() as begun:
            if processes.is_first:
                begun.enter_context(log_to(folder / "train.log"))
            # Loggers first: a fault in their arguments needs no data to be found.
            loggers = build_loggers(settings, folder) if processes.is_first else []
            settings = with_precision_of(without_late_edits(settings, start), start)
            with processes.first_before_others():
                prepared = prepare(settings, device, start.state is None, processes)
            for sentence in prepared.decided:
                log.info(sentence)
            runner = build_runner(prepared, start, loggers, progress, processes, stop)
            if processes.is_first:
                _write_config(prepared.config, start)
            stack.enter_context(begun.pop_all())  # the log goes on; after a failure it is closed by now
        result = runner.fit()
        outcome = _outcome(folder, result, time.monotonic() - began)
        if outcome.interrupted or not processes.is_first:
            return outcome
        try:
            return _conclude(prepared, outcome)
        except KeyboardInterrupt as stopped:
            return replace(outcome, stopped_by=signal_of(stopped))


def _write_config(config: Config, start: Start) -> None:
    """The resolved config of the run; one that it had before, if it differs, is kept under another name."""
    path = start.folder / "pytorch_config.yaml"
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else None
        if before is not None and start.state is not None and before != dump(config.resolved()):
            link(path, path.with_name(f"pytorch_config-until-{start.state['epoch']:03d}.yaml"))
        write_config(config, path)
    except (OSError, ConfigError) as error:
        if not start.in_place:
            raise
        log.error("%s The config is in the snapshots too; training goes on.", error)


# The log --------------------------------------------------------------------------------------------------


class _RunLog(logging.FileHandler):
    """A full disk costs lines of the log, and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Also write what is logged into a file."""
    with writing(path):
        handler = _RunLog(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    if log.getEffectiveLevel() > logging.INFO:
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
        handler.close()


# Afterwards ----------------------------------------------------------------------------------------------


def _outcome(folder: Path, result: FitResult, seconds: float) -> TrainingOutcome:
    best = [] if result.best_epoch is None else [folder / snapshot_name(result.best_epoch, best=True)]
    return TrainingOutcome(
        folder,
        next((path for path in best if path.is_file()), None),
        folder / "snapshot-latest.pt",
        result.epochs,
        result.best_epoch,
        result.metrics,
        stopped_by=result.stopped_by,
        failed_saves=result.failed_saves,
        average_snapshot=_if_there(folder / "snapshot-average.pt"),
        swa_snapshot=_if_there(folder / "snapshot-swa.pt"),
        ended_early=result.ended_early,
        seconds=seconds,
        history=result.history,
    )


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _conclude(prepared: Prepared, outcome: TrainingOutcome) -> TrainingOutcome:
    """Draw the curves, choose a decoder for the best snapshot, and score it on held-out volumes."""
    figures = outcome.run_folder / "figures"
    try:
        training_curves(figures / "curves.png", outcome.run_folder / "learning_stats.csv")
    except SkootsError as error:  # a full disk takes the picture, not the scores
        log.error("%s", error)
    test = open_volumes(prepared.config, "test")
    scored = test or prepared.validation
    if not scored:
        return outcome
    snapshot = outcome.best_snapshot or outcome.latest_snapshot
    if not snapshot.is_file():
        log.error("Nothing is scored: no snapshot could be written.")
        return outcome
    loaded = load_model(snapshot, str(prepared.device), prepared.config.plugins)
    outcome = replace(outcome, tuning=_tune(prepared, loaded))
    if outcome.tuning is not None:
        loaded = replace(loaded, decoding=outcome.tuning.decoding)
    scores, baseline, figure = compare_with_components(loaded, [v for v, _ in scored], figures / "test.png")
    names = ", ".join(volume.name for volume, _ in scored)
    return replace(
        outcome,
        test_scores=scores,
        baseline_scores=baseline,
        figure=figure,
        test_volume=names,
        held_out=bool(test),
    )


def _tune(prepared: Prepared, loaded: LoadedModel) -> Tuning | None:
    """Choose a decoder on the validation volumes, never on those of the test, and store it."""
    seconds = prepared.config.inference.tune
    if not seconds or not prepared.validation:
        return None
    try:
        tuning = store(choose(loaded, [volume for volume, _ in prepared.validation], seconds))
    except SkootsError as error:  # the model is trained, and scored with the decoder of its config
        log.warning("decoder: that of the config stays. %s", error)
        return None
    log.info("decoder of %s: %s", loaded.snapshot.name, tuning.sentence())
    return tuning
