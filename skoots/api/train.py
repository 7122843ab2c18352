"""``skoots train``: from a config to a trained model, and how good it is."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skoots.api.build import (
    build_augmentations,
    config_in,
    decoding_of,
    load_model,
    map_channels,
    open_volumes,
)
from skoots.api.held_out import compare_with_components
from skoots.api.prepare import Prepared, prepare
from skoots.api.provenance import provenance
from skoots.api.start import Start, in_its_run, removed_if_it_fails, starting
from skoots.config import Config, load_config, write_config
from skoots.config.changes import changes
from skoots.config.yaml12 import dump
from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.data.loaders import covering_loader, train_loader
from skoots.errors import ConfigError, Fault, SkootsError, SnapshotError, signal_of
from skoots.inference.segment_volume import DECODED
from skoots.loggers.base import LOGGERS, Logger
from skoots.loggers.csv import CSVLogger
from skoots.metrics import METRIC_NAMES
from skoots.reports.figures import training_curves
from skoots.snapshots import SnapshotManager, find_run, link, pool_name, snapshot_name, verify
from skoots.training.averaging import ExponentialAverage
from skoots.training.evaluator import Evaluator
from skoots.training.observers import LoggerObserver, Observer, ProgressObserver
from skoots.training.optimizers import build_optimizer
from skoots.training.runner import RUNNERS, FitResult, TrainingRunner
from skoots.training.schedules import build_scheduler

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
        seconds: how long training took.
        held_out: whether the scored volumes are ``data.test``, which had no say in anything, or the
            validation volumes, which chose the best snapshot.
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
    seconds: float = 0.0
    held_out: bool = False

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
    with starting(settings, resume, runs) as start:
        return _train(settings, start, device, progress)


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
    with in_its_run(find_run(run)) as start:
        assert start.state is not None
        config = config_in(start.state, start.source or start.folder)
        settings = load_config(config, overrides, plugins, trusted=False)
        return _train(settings, start, device, progress)


def _train(settings: Config, start: Start, device: str | None, progress: bool) -> TrainingOutcome:
    began = time.monotonic()
    folder = start.folder
    with log_to(folder / "train.log"):
        with nullcontext() if start.in_place else removed_if_it_fails(folder):
            # Loggers first: a fault in their arguments needs no data to be found.
            loggers = build_loggers(settings, folder)
            prepared = prepare(settings, device, with_weights=start.state is None)
            for sentence in prepared.decided:
                log.info(sentence)
            runner = build_runner(prepared, start, loggers, progress)
            _write_config(prepared.config, start)
        result = runner.fit()
        outcome = _outcome(folder, result, time.monotonic() - began)
        if outcome.interrupted:
            return outcome
        try:
            return _conclude(prepared, outcome)
        except KeyboardInterrupt as stop:
            return replace(outcome, stopped_by=signal_of(stop))


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


# The runner ----------------------------------------------------------------------------------------------


def build_runner(
    prepared: Prepared, start: Start, loggers: Sequence[Logger] = (), progress: bool = True
) -> TrainingRunner:
    """The runner with all its parts, at the point where it starts.

    Raises:
        SkootsError: the snapshot to go on from does not fit.
    """
    config, model, device = prepared.config, prepared.model, prepared.device
    settings, section = config.train_settings, config.runner
    dataset = CropDataset(
        prepared.train,
        prepared.crop,
        build_augmentations(config),
        settings.seed,
        config.data.object_rate,
        on_device=config.data.augment_on == "device",
    )
    loader = train_loader(
        dataset,
        settings.batch_size,
        settings.seed,
        settings.dataloader_workers,
        settings.dataloader_pin_memory,
    )
    evaluate = build_evaluator(prepared) if prepared.validation else None
    if evaluate is not None:
        _check_key_metric(prepared)
    optimizer = build_optimizer(section.optimizer, model)
    ascending = bool(section.key_metric_asc)
    scheduler = (
        None if section.scheduler is None else build_scheduler(section.scheduler, optimizer, ascending)
    )
    plain = config.resolved()
    observers: list[Observer] = [
        ProgressObserver(settings.display_iters, progress),
        LoggerObserver(loggers, plain),
    ]
    runner = RUNNERS.get(section.type)(
        model,
        optimizer,
        loader,
        SnapshotManager(start.folder, **section.snapshots.model_dump()),
        device=device,
        epochs=settings.epochs,
        key_metric=section.key_metric,
        key_metric_asc=ascending,
        eval_interval=section.eval_interval,
        scheduler=scheduler,
        evaluate=evaluate,
        observers=observers,
        clip_gradient=section.clip_gradient,
        accumulate=section.batch_accumulate,
        ema=None if section.ema is None else ExponentialAverage(model, **section.ema.model_dump()),
        max_nonfinite_steps=section.max_nonfinite_steps,
        config=plain,
        facts=prepared.facts.plain(),
        provenance=provenance(config, [*prepared.train, *prepared.validation], start.parent),
    )
    if evaluate is not None:
        evaluate.heed = runner.heed
    if start.state is not None:
        _go_on(runner, start, config)
    return runner


def build_evaluator(prepared: Prepared) -> Evaluator:
    """Validation as the config describes it."""
    volumes = [volume for volume, _ in prepared.validation]
    loader = covering_loader(CoveringDataset(volumes, prepared.validation_crop))
    return Evaluator(loader, decoding_of(prepared.config), prepared.device)


def _check_key_metric(prepared: Prepared) -> None:
    """Instance metrics need the three maps that decoding reads; only the built model says which maps it
    gives."""
    wanted = prepared.config.runner.key_metric
    maps = map_channels(prepared.model, prepared.facts.in_channels)
    if wanted.removeprefix("test.") in METRIC_NAMES and not set(DECODED) <= set(maps):
        problem = f"{wanted} needs the maps {', '.join(DECODED)}; this model gives {', '.join(maps)}"
        raise ConfigError([Fault("runner.key_metric", problem, "Write key_metric: test.loss")])


def build_loggers(config: Config, folder: Path) -> list[Logger]:
    """The CSV file, and those that the config names."""
    own = CSVLogger(folder)
    return [
        own,
        *(LOGGERS.build(node, folder=folder) for node in config.logger if node["type"] != "CSVLogger"),
    ]


def _go_on(runner: TrainingRunner, start: Start, config: Config) -> None:
    assert start.state is not None and start.source is not None
    for change in changes(start.state.get("cfg", {}), runner.config):
        log.info("Changed since the snapshot: %s.", change)
    runner.load_state(start.state, config.runner.load_scheduler_state_dict)
    _take_along(runner, start.source)
    where = f"{start.source}, after epoch {runner.epoch} of {runner.epochs}"
    if runner.progress.batches:
        where += f" and {runner.progress.batches} of {len(runner.loader)} batches"
    if runner.epoch < runner.epochs:
        log.info("Going on from %s.", where)
    elif start.in_place and runner.epoch == runner.epochs:
        log.info("The run is complete (%s); only its conclusion is made.", where)
    else:
        problem = f"is {runner.epochs} and {start.source} is at epoch {runner.epoch}: nothing is left to do"
        raise ConfigError([Fault("train_settings.epochs", problem, "Raise it to train on")])


def _take_along(runner: TrainingRunner, source: Path) -> None:
    """Have the best snapshot so far also in a new run, where none may become better, and those that are to be
    averaged."""
    if runner.best is not None:
        epoch = runner.best["epoch"]
        names = [snapshot_name(epoch, best=True), snapshot_name(epoch)]
        if not _have(runner, source, epoch, names):
            log.warning(
                "The best snapshot, of epoch %d, is not in %s any more; the best is sought anew.",
                epoch,
                source.parent,
            )
            runner.best = None
    members = runner.pool
    runner.pool = [m for m in members if _have(runner, source, m["epoch"], [pool_name(m["epoch"])])]
    lost = [member["epoch"] for member in members if member not in runner.pool]
    if lost:
        log.warning("Epochs %s cannot be averaged: they are not in %s any more.", lost, source.parent)


def _have(runner: TrainingRunner, source: Path, epoch: int, names: Sequence[str]) -> bool:
    """Whether the snapshot of an epoch is in the run under the first of the names, whole, or can be had from
    where the source lies, or is the source itself."""
    path = runner.snapshots.folder / names[0]
    itself = [source] if (runner.epoch, runner.progress.batches) == (epoch, 0) else []
    for holder in [path, *(source.parent / name for name in names), *itself]:
        try:
            verify(holder)
        except SnapshotError:
            continue
        if holder != path:
            path.parent.mkdir(exist_ok=True)
            link(holder, path)
        return True
    return False


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
    try:
        handler = _RunLog(path, encoding="utf-8")
    except OSError as error:
        raise SkootsError(f"{path} cannot be written: {error.strerror}. Train in another folder.") from error
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
        average_snapshot=next((path for path in [folder / "snapshot-average.pt"] if path.is_file()), None),
        seconds=seconds,
    )


def _conclude(prepared: Prepared, outcome: TrainingOutcome) -> TrainingOutcome:
    """Draw the curves, and score the best snapshot on held-out volumes."""
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
