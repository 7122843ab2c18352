"""The runner with all its parts, as a config describes them, at the point where it starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch.optim import Optimizer

from skoots.api.build import decoder_of, map_channels
from skoots.api.edits import edits_since
from skoots.api.pictures import picture_observers
from skoots.api.prepare import Prepared, about_workers, training_crops
from skoots.api.provenance import provenance
from skoots.api.start import Start
from skoots.config import Config
from skoots.config.changes import changes
from skoots.config.validate import larger_is_better
from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.data.loaders import Share, covering_loader, train_loader
from skoots.errors import ConfigError, Fault, SnapshotError
from skoots.loggers.base import LOGGERS, Logger
from skoots.loggers.csv import CSVLogger
from skoots.metrics import METRIC_NAMES
from skoots.snapshots import SnapshotManager, link, pool_name, snapshot_name, verify
from skoots.training.averaging import ExponentialAverage, StochasticAverage
from skoots.training.compiling import compiler
from skoots.training.distributed import Network, Processes, local_world
from skoots.training.early_stopping import EarlyStopping
from skoots.training.evaluator import Evaluator
from skoots.training.observers import LoggerObserver, Observer, ProgressObserver
from skoots.training.optimizers import build_optimizer
from skoots.training.profiling import ProfileObserver
from skoots.training.runner import RUNNERS, TrainingRunner
from skoots.training.schedules import build_scheduler, rehearse, timing_of, watches_a_metric
from skoots.training.stopping import StopSignals

log = logging.getLogger("skoots")


def build_runner(
    prepared: Prepared,
    start: Start,
    loggers: Sequence[Logger] = (),
    progress: bool = True,
    processes: Processes | None = None,
    stop: StopSignals | None = None,
) -> TrainingRunner:
    """The runner with all its parts, at the point where it starts.

    Args:
        prepared: data and model.
        start: the run folder, and the snapshot to go on from.
        loggers: of the first process.
        progress: whether bars are drawn.
        processes: those that train together.
        stop: what ends the training early.

    Raises:
        SkootsError: the snapshot to go on from does not fit, or a schedule ends before the training.
    """
    processes = processes or Processes()
    config, model, device = prepared.config, prepared.model, prepared.device
    settings, section = config.train_settings, config.runner
    dataset = training_crops(prepared)
    loader = train_loader(
        dataset,
        settings.batch_size,
        settings.seed,
        prepared.workers,
        settings.dataloader_pin_memory,
        Share(processes.rank, processes.world),
    )
    if prepared.workers and processes.is_first:
        told, enough = about_workers(prepared, loader, local_world())
        if not enough:
            log.warning("%s", told)
    evaluate = build_evaluator(prepared, processes) if prepared.validation else None
    _check_metrics(prepared)
    sharded = section.fsdp and processes.world > 1
    for key in ("fsdp", "sync_batchnorm"):
        if getattr(section, key) and processes.world == 1:
            log.warning("runner.%s has no effect: one process trains alone.", key)
    if sharded:
        from skoots.training.sharding import shard

        shard(model, device, processes.world)
    optimizer = build_optimizer(section.optimizer, model)
    _check_schedule(config, len(loader), optimizer)
    ascending = bool(section.key_metric_asc)
    interval, monitor = timing_of(section.scheduler or {})
    plain, precision = config.resolved(), prepared.precision
    crop = (loader.batch_size, prepared.facts.in_channels, *prepared.crop)
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
        scheduler=None
        if section.scheduler is None
        else build_scheduler(section.scheduler, optimizer, _larger_is_better(config, monitor)),
        interval=interval,
        monitor=monitor,
        evaluate=evaluate,
        observers=_observers(prepared, dataset, start.folder, loggers, progress, processes),
        clip_gradient=section.clip_gradient,
        accumulate=section.batch_accumulate,
        warmup_steps=section.warmup_steps,
        ema=None if section.ema is None else ExponentialAverage(model, **section.ema.model_dump()),
        swa=None if section.swa is None else StochasticAverage(model, optimizer, **section.swa.model_dump()),
        precision=precision,
        network=Network(
            model, processes, compiler(section.compile, crop, device, precision.autocast), sharded
        ),
        processes=processes,
        prefetch=section.prefetch,
        look_every=settings.display_iters,
        max_nonfinite_steps=section.max_nonfinite_steps,
        stop=stop,
        config=plain,
        facts={**prepared.facts.plain(), "intensity": prepared.intensity.plain()},
        provenance=provenance(
            config, [*prepared.train, *prepared.validation, *prepared.background], start.parent
        ),
    )
    if evaluate is not None:
        evaluate.heed, evaluate.at_once = runner.heed, runner.at_once
    if start.state is not None:
        _go_on(runner, start, config)
    return runner


def _observers(
    prepared: Prepared,
    dataset: CropDataset,
    folder: Path,
    loggers: Sequence[Logger],
    progress: bool,
    processes: Processes,
) -> list[Observer]:
    """What watches the loop; all processes must end early together, the rest is for the first one alone."""
    config = prepared.config
    section, early = config.runner, config.runner.early_stopping
    observers: list[Observer] = []
    if processes.is_first:
        observers.append(ProgressObserver(config.train_settings.display_iters, progress))
        observers.append(LoggerObserver(loggers, config.resolved()))
        if not (
            section.fsdp and processes.world > 1
        ):  # pictures are drawn by the first process alone, which has a part of the network
            observers += picture_observers(prepared, dataset, loggers, folder)
        profile = section.profile.model_dump()
        if any(profile[name] for name in ("autograd_profile", "emit_nvtx", "detect_anomaly", "trace")):
            observers.append(ProfileObserver(folder / "profile", **profile))
    if early is not None:
        metric = early.monitor or section.key_metric
        ascending = _larger_is_better(config, metric)
        observers.append(EarlyStopping(early.patience, metric, ascending, early.min_delta))
    return observers


def build_evaluator(prepared: Prepared, processes: Processes | None = None) -> Evaluator:
    """Validation as the config describes it."""
    processes = processes or Processes()
    volumes = [volume for volume, _ in prepared.validation]
    share = Share(processes.rank, processes.world)
    return Evaluator(
        covering_loader(CoveringDataset(volumes, prepared.validation_crop), share),
        decoder_of(prepared.config),
        prepared.device,
        precision=prepared.precision,
        processes=processes,
    )


def _larger_is_better(config: Config, metric: str | None) -> bool:
    """For a metric that is watched; None is the key metric."""
    if metric is None or metric == config.runner.key_metric:
        return bool(config.runner.key_metric_asc)
    return larger_is_better(config.model.heads)[metric]


def _check_schedule(config: Config, batches: int, optimizer: Optimizer) -> None:
    """A schedule goes on to the last epoch or step; how many steps there are only the data say, and which
    parameter groups only the model.

    Raises:
        ConfigError: it ends before, or does not fit the groups.
    """
    node, swa = config.runner.scheduler, config.runner.swa
    if node is None:
        return
    epochs = config.train_settings.epochs
    count = epochs if swa is None else min(epochs, swa.swa_start + 1)
    interval, _ = timing_of(node)
    if interval == "step":
        count *= -(-batches // config.runner.batch_accumulate)
    try:
        rehearse(node, optimizer, count)
    except ConfigError as error:
        problem = f"does not last for the {count} {interval}s of this training ({str(error).rstrip('.')})"
        remedy = f"It counts {interval}s"
        raise ConfigError([Fault("runner.scheduler", problem, remedy)]) from error


def check_training(prepared: Prepared, batches: int) -> None:
    """Whether optimizer, schedule and metrics fit the model and the data, without a runner.

    Args:
        prepared: data and model.
        batches: steps of an epoch.

    Raises:
        ConfigError: one of them does not.
    """
    _check_metrics(prepared)
    optimizer = build_optimizer(prepared.config.runner.optimizer, prepared.model)
    _check_schedule(prepared.config, batches, optimizer)


def _check_metrics(prepared: Prepared) -> None:
    if prepared.validation:
        _check_key_metric(prepared)
    _check_watched(prepared)


def _check_watched(prepared: Prepared) -> None:
    """A metric of the validation is measured only where there is something to validate on.

    Raises:
        ConfigError: a schedule or an early stop waits for one that never comes.
    """
    section, watched = prepared.config.runner, {}
    if section.early_stopping is not None:
        watched["runner.early_stopping"] = section.early_stopping.monitor or section.key_metric
    if section.scheduler is not None and watches_a_metric(section.scheduler):
        watched["runner.scheduler"] = timing_of(section.scheduler)[1] or section.key_metric
    faults = [
        Fault(
            path, f"watches {metric}, but data.validation is empty", "Add data, or write monitor: train.loss"
        )
        for path, metric in watched.items()
        if metric.startswith("test.") and not prepared.validation
    ]
    if faults:
        raise ConfigError(faults)


def _check_key_metric(prepared: Prepared) -> None:
    """Instance metrics need the maps that the decoder reads; only the built model says which maps it
    gives."""
    section = prepared.config.runner
    watched = {
        "key_metric": section.key_metric,
        "scheduler.monitor": timing_of(section.scheduler or {})[1],
        "early_stopping.monitor": None if section.early_stopping is None else section.early_stopping.monitor,
    }
    late = [name for name, head in prepared.model.named_heads() if head.start_epoch > 1]
    if late and section.key_metric == "test.loss":
        log.warning(
            "runner.key_metric is test.loss, which grows once %s count: epochs before look better. "
            "Take a metric such as test.F1, or the loss of one head.",
            ", ".join(late),
        )
    maps = map_channels(prepared.model, prepared.facts.in_channels)
    decoder = decoder_of(prepared.config)
    missing = decoder.lacks(maps, prepared.facts.spatial_dims, prepared.model.vector_scale)
    for key, wanted in watched.items():
        if missing and (wanted or "").removeprefix("test.") in METRIC_NAMES:
            read = ", ".join(decoder.reads)
            problem = f"{wanted} needs the maps {read}; this model gives {', '.join(maps)}"
            raise ConfigError([Fault(f"runner.{key}", problem, "Write test.loss")])


def build_loggers(config: Config, folder: Path) -> list[Logger]:
    """The CSV file, and those that the config names."""
    own = CSVLogger(folder)
    return [
        own,
        *(LOGGERS.build(node, folder=folder) for node in config.logger if node["type"] != "CSVLogger"),
    ]


def _go_on(runner: TrainingRunner, start: Start, config: Config) -> None:
    assert start.state is not None and start.source is not None
    before = start.state.get("cfg", {})
    for change in changes(before, runner.config):
        log.info("Changed since the snapshot: %s.", change)
    edits = edits_since(before, config, runner.model)
    runner.load_state(start.state, config.runner.load_scheduler_state_dict, edits)
    if edits.schedule and config.runner.load_scheduler_state_dict:
        log.info(
            "The schedule was edited, so it is replayed to this epoch instead of going on from its state in "
            "the snapshot (runner.load_scheduler_state_dict)."
        )
    if edits.optimizer:
        rates = ", ".join(f"{name} {rate:.4g}" for name, rate in runner.learning_rates.items())
        log.info("The optimizer goes on as edited: %s.", rates)
    if runner.processes.is_first:  # which alone writes
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
                "The best snapshot, of epoch %d, is not in %s any more; the best is looked for again.",
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
