"""``skoots train``: from a config to a trained model, and how good it is."""

from __future__ import annotations

import logging
import platform
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from skoots._version import __version__
from skoots.api.build import (
    build_augmentations,
    decoding_of,
    load_model,
    map_channels,
    open_volumes,
    read_reference,
)
from skoots.api.held_out import compare_with_components
from skoots.api.prepare import Prepared, prepare
from skoots.config import Config, load_config, write_config
from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.data.loaders import covering_loader, train_loader
from skoots.errors import ConfigError, Fault
from skoots.inference.segment_volume import DECODED
from skoots.loggers.base import LOGGERS, Logger
from skoots.loggers.csv import CSVLogger
from skoots.metrics import METRIC_NAMES
from skoots.reports.figures import training_curves
from skoots.snapshots import SnapshotManager, new_run_folder, snapshot_name
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
        interrupted: stopped by Ctrl-C.
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
    interrupted: bool = False
    seconds: float = 0.0
    held_out: bool = False


def train(
    config: Path | str | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    runs: Path | str = "runs",
    device: str | None = None,
    progress: bool = True,
) -> TrainingOutcome:
    """Train the model that a config describes.

    Args:
        config: a ``pytorch_config.yaml``, or the same as a mapping.
        overrides: ``key.path=value``, e.g. ``train_settings.epochs=5``.
        plugins: modules or files that register parts, besides those that the config names.
        runs: folder in which the run gets its own.
        device: wins over the config's.
        progress: show a progress bar.

    Returns:
        Where the run lies and how good it is.

    Raises:
        SkootsError: the config has faults (all are named), the data cannot be read, or the run folder not be
        written.
    """
    began = time.monotonic()
    settings = load_config(config, overrides, plugins)
    folder = new_run_folder(runs, experiment_name(settings))
    with log_to(folder / "train.log"):
        with removed_if_it_fails(folder):
            # Loggers first: a fault in their arguments needs no data to be found.
            loggers = build_loggers(settings, folder)
            prepared = prepare(settings, device)
            for sentence in prepared.decided:
                log.info(sentence)
            write_config(prepared.config, folder / "pytorch_config.yaml")
            runner = build_runner(prepared, folder, loggers, progress)
        result = runner.fit()
        outcome = _outcome(folder, result, time.monotonic() - began)
        if outcome.interrupted:
            return outcome
        try:
            return _conclude(prepared, outcome)
        except KeyboardInterrupt:
            return replace(outcome, interrupted=True)


def experiment_name(config: Config) -> str:
    """``metadata.experiment``, else the name of the config file."""
    named = config.metadata.get("experiment")
    if named:
        return str(named)
    return config.source.stem if config.source is not None else "experiment"


# The runner ----------------------------------------------------------------------------------------------


def build_runner(
    prepared: Prepared, folder: Path, loggers: Sequence[Logger] = (), progress: bool = True
) -> TrainingRunner:
    """The runner with all its parts, resumed if the config says so.

    Raises:
        SkootsError: the snapshot to resume from is missing or does not fit.
    """
    config, model, device = prepared.config, prepared.model, prepared.device
    settings, section = config.train_settings, config.runner
    dataset = CropDataset(
        prepared.train, prepared.crop, build_augmentations(config), settings.seed, config.data.object_rate
    )
    loader = train_loader(
        dataset,
        settings.batch_size,
        settings.seed,
        settings.dataloader_workers,
        settings.dataloader_pin_memory,
    )
    evaluate = None
    if prepared.validation:
        _check_key_metric(prepared)
        covering = CoveringDataset([volume for volume, _ in prepared.validation], prepared.validation_crop)
        evaluate = Evaluator(covering_loader(covering), decoding_of(config), device)
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
        SnapshotManager(folder, **section.snapshots.model_dump()),
        device=device,
        epochs=settings.epochs,
        key_metric=section.key_metric,
        key_metric_asc=ascending,
        eval_interval=section.eval_interval,
        scheduler=scheduler,
        evaluate=evaluate,
        observers=observers,
        clip_gradient=section.clip_gradient,
        max_nonfinite_steps=section.max_nonfinite_steps,
        config=plain,
        facts=prepared.facts.plain(),
        provenance=provenance(),
    )
    if config.resume_training_from:
        _resume(runner, config)
    return runner


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


def _resume(runner: TrainingRunner, config: Config) -> None:
    state, path = read_reference(str(config.resume_training_from))
    runner.load_state(state, config.runner.load_scheduler_state_dict)
    _take_along_best(runner, path)
    if runner.epoch >= runner.epochs:
        raise ConfigError(
            [
                Fault(
                    "resume_training_from",
                    f"{path} is at epoch {runner.epoch} and train_settings.epochs is {runner.epochs}, so "
                    f"nothing is left to do",
                    "Raise train_settings.epochs",
                )
            ]
        )
    log.info("Going on from %s, after epoch %d of %d.", path, runner.epoch, runner.epochs)


def _take_along_best(runner: TrainingRunner, source: Path) -> None:
    """Keep the best snapshot so far also in the new run, where none may become better."""
    if runner.best is None:
        return
    epoch, folder = runner.best["epoch"], source.parent
    name = snapshot_name(epoch, best=True)
    holders = [folder / name, folder / snapshot_name(epoch), *([source] if runner.epoch == epoch else [])]
    holder = next((path for path in holders if path.is_file()), None)
    if holder is None:
        log.warning(
            "The best snapshot, of epoch %d, is not in %s any more; the best is sought anew.", epoch, folder
        )
        runner.best = None
    else:
        shutil.copy2(holder, runner.snapshots.folder / name)


def provenance() -> dict[str, str]:
    """What made a snapshot."""
    return {
        "skoots": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


@contextmanager
def removed_if_it_fails(folder: Path) -> Iterator[None]:
    """Leave no empty run behind a training that could not begin."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Also write what is logged into a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
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
        interrupted=result.interrupted,
        seconds=seconds,
    )


def _conclude(prepared: Prepared, outcome: TrainingOutcome) -> TrainingOutcome:
    """Draw the curves, and score the best snapshot on held-out volumes."""
    figures = outcome.run_folder / "figures"
    training_curves(figures / "curves.png", outcome.run_folder / "learning_stats.csv")
    test = open_volumes(prepared.config, "test")
    scored = test or prepared.validation
    if not scored:
        return outcome
    snapshot = outcome.best_snapshot or outcome.latest_snapshot
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
