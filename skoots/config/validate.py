"""The parts that a config names, checked without building any: every fault, not only the first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from skoots.config.arguments import argument_faults, signature_of
from skoots.config.faults import Faults
from skoots.config.nodes import SHAPE_FACTS, Check, NodeInspector, arguments_of
from skoots.config.schema import PARTS_OF_A_HEAD, Config, DataSection, ModelSection, RunnerSection
from skoots.config.words import shown
from skoots.registry import did_you_mean

LOGGER_FACTS = frozenset({"folder"})
REHEARSED_EPOCHS = 10_000
GROUPING = {"parameter_groups", "decay_norms_and_biases"}
OF_THE_DEVICE = {"capturable", "fused"}  # options of optimizers that only the device can judge
FREEZING = ("freeze_bn_stats", "freeze_bn_weights")


def check_parts(config: Config, faults: Faults) -> Config:
    """Every node against the constructor that it names, and what sections demand of each other.

    Args:
        config: all that the schema can judge is right.
        faults: what is wrong is added to them.

    Returns:
        the config with empty arguments dropped and ``key_metric_asc`` decided.
    """
    inspector = _Inspector(faults)
    detector = config.detector
    if detector is not None:
        detector = detector.model_copy(
            update={
                "model": detector.model and inspector.detector(detector.model, "detector.model"),
                "runner": inspector.runner(
                    detector.runner, "detector.runner", detector.train_settings.epochs, []
                ),
            }
        )
    checked = config.model_copy(
        update={
            "data": inspector.data(config.data),
            "model": inspector.model(config.model),
            "runner": inspector.runner(
                config.runner, "runner", config.train_settings.epochs, list(config.model.heads)
            ),
            "logger": [inspector.logger(node, f"logger.{i}") for i, node in enumerate(config.logger)],
            "detector": detector,
            "inference": config.inference.model_copy(
                update={"decoding": inspector.decoder(config.inference.decoding, "inference.decoding")}
            ),
        }
    )
    inspector.together(config)
    return checked


def larger_is_better(heads: Iterable[str]) -> dict[str, bool]:
    """Every metric that a training measures, and whether larger is better.

    Args:
        heads: their names; each has a loss.
    """
    from skoots.metrics import METRIC_NAMES

    losses = ["loss", *(f"loss.{head}" for head in heads)]
    measured = dict.fromkeys([f"{part}.{name}" for part in ("test", "train") for name in losses], False)
    return measured | {f"test.{name}": up for name, up in METRIC_NAMES.items()}


class _Inspector(NodeInspector):
    """Knows which registry each key of the config takes its parts from."""

    # Sections

    def data(self, data: DataSection) -> DataSection:
        update: dict[str, Any] = {
            name: [self.source(node, f"data.{name}.{i}") for i, node in enumerate(getattr(data, name))]
            for name in ("train", "validation", "test", "background")
        }
        for key in ("augment", "background_augment"):
            nodes = getattr(data, key)
            if isinstance(nodes, list):
                update[key] = [self.augmentation(node, f"data.{key}.{i}") for i, node in enumerate(nodes)]
        self.sampling(data)
        if data.background_augment != "default" and not data.background:
            problem = "is given, but data.background names no images"
            self.fault("data.background_augment", problem, "Leave it out, or name some.")
        self.stores(data)
        if data.augment == "original" and data.normalize == "none":
            problem = 'is "original", whose ranges need normalised grey values, and data.normalize is "none"'
            self.fault("data.augment", problem, "Write normalize: zscore, or list the parts.")
        return data.model_copy(update=update)

    def model(self, model: ModelSection) -> ModelSection:
        from skoots.models.backbones.base import BACKBONES
        from skoots.models.necks.base import NECKS

        freezing = {name: self.boolean for name in FREEZING}
        return model.model_copy(
            update={
                "backbone": self.part(
                    BACKBONES, model.backbone, "model.backbone", SHAPE_FACTS, extra=freezing
                ),
                "neck": model.neck
                and self.part(NECKS, model.neck, "model.neck", SHAPE_FACTS, hidden=("features",)),
                "heads": {name: self.head(node, f"model.heads.{name}") for name, node in model.heads.items()},
            }
        )

    def runner(self, runner: RunnerSection, path: str, epochs: int, heads: list[str]) -> RunnerSection:
        from skoots.training.runner import RUNNERS

        self.find(RUNNERS, runner.type, f"{path}.type")
        before = len(self.faults)
        checked = runner.model_copy(
            update={
                "type": self.name_of(RUNNERS, runner.type),
                "optimizer": self.optimizer(runner.optimizer, f"{path}.optimizer"),
                "scheduler": runner.scheduler and self.scheduler(runner.scheduler, f"{path}.scheduler"),
            }
        )
        if len(self.faults) == before:
            self.timing(checked, path)
            self.rehearse(checked, path, epochs)
        self.metrics_watched(checked, path, heads)
        return checked.model_copy(update={"key_metric_asc": self.direction(runner, path, heads)})

    def rehearse(self, runner: RunnerSection, path: str, epochs: int) -> None:
        """Run optimizer and schedule through all epochs on one number: they know their ranges. What the
        parameter groups are only the model says; then the schedule is rehearsed before training."""
        from torch import nn

        from skoots.training.optimizers import build_optimizer
        from skoots.training.schedules import rehearse, timing_of

        model = nn.Linear(1, 1, bias=False)
        given, _ = arguments_of(runner.optimizer, "")
        grouped = GROUPING & given.keys()
        node = {
            "type": runner.optimizer["type"],
            **{key: value for key, value in given.items() if key not in GROUPING | OF_THE_DEVICE},
        }
        optimizer = self.build(f"{path}.optimizer", lambda: build_optimizer(node, model))
        counts_epochs = runner.scheduler is not None and timing_of(runner.scheduler)[0] == "epoch"
        if optimizer is not None and counts_epochs and not grouped:
            scheduler = runner.scheduler
            assert scheduler is not None
            last = epochs if runner.swa is None else min(epochs, runner.swa.swa_start + 1)
            self.build(
                f"{path}.scheduler", lambda: rehearse(scheduler, optimizer, min(last, REHEARSED_EPOCHS))
            )

    def direction(self, runner: RunnerSection, path: str, heads: list[str]) -> bool:
        """Whether larger is better for the key metric, which must be one that validation produces."""
        produced = {name: up for name, up in larger_is_better(heads).items() if name.startswith("test.")}
        metric, said = runner.key_metric, runner.key_metric_asc
        if metric not in produced:
            problem = f"no evaluation produces {shown(metric)}"
            self.fault(f"{path}.key_metric", problem, did_you_mean(metric, list(produced)))
        elif said is not None and said != produced[metric]:
            better = "larger" if produced[metric] else "smaller"
            problem = f"is {shown(said)}, but for {metric} {better} is better"
            self.fault(f"{path}.key_metric_asc", problem, f"Write {shown(not said)}, or leave the key out.")
        return produced.get(metric, True) if said is None else said

    def metrics_watched(self, runner: RunnerSection, path: str, heads: list[str]) -> None:
        """The metrics that a schedule or an early stop watches are measured."""
        watched = {}
        if runner.scheduler is not None and runner.scheduler.get("monitor") is not None:
            watched[f"{path}.scheduler.monitor"] = runner.scheduler["monitor"]
        if runner.early_stopping is not None and runner.early_stopping.monitor is not None:
            watched[f"{path}.early_stopping.monitor"] = runner.early_stopping.monitor
        known = list(larger_is_better(heads))
        for at, metric in watched.items():
            if metric not in known:
                problem = f"no training measures {shown(metric)}"
                self.fault(at, problem, did_you_mean(str(metric), known))

    def sampling(self, data: DataSection) -> None:
        from skoots.data.sampling import Sampling

        if data.object_rate is not None and "objects" in data.sampling:
            self.fault("data.object_rate", "is given, and data.sampling.objects too", "Leave one out.")
        elif data.object_rate is not None:
            self.settings(Sampling, {"objects": data.object_rate, **data.sampling}, "data.sampling")
        else:
            self.settings(Sampling, data.sampling, "data.sampling")

    def stores(self, data: DataSection) -> None:
        """Only what is drawn from stays on the device."""
        for name in ("validation", "test"):
            for i, node in enumerate(getattr(data, name)):
                given, where = arguments_of(node, f"data.{name}.{i}")
                if given.get("store") == "gpu":
                    problem = "is gpu, but only volumes that crops are drawn from stay on the device"
                    self.fault(where["store"], problem, "Write store: memory, or disk.")

    def settings(self, kind: type, arguments: Mapping[str, Any], path: str) -> None:
        """Arguments of a class that has no variants."""
        faults = list(argument_faults(signature_of(kind), arguments, lambda name: f"{path}.{name}"))
        self.faults.extend(faults)
        if not faults:
            self.build(path, lambda: kind(**arguments))

    def together(self, config: Config) -> None:
        """What one section demands of another."""
        self.axes(config)
        self.experiment(config.metadata.get("experiment", "experiment"))
        self.gpus("runner.gpus", config.runner.gpus, config.device)
        self.processes(config)
        self.course(config)
        if config.detector is not None:
            self.gpus("detector.runner.gpus", config.detector.runner.gpus, config.device)
        if config.method == "td" and (config.detector is None or config.detector.model is None):
            remedy = "Add detector.model, or write method: bu."
            self.fault("method", 'is "td" (top-down), but there is no detector', remedy)

    def axes(self, config: Config) -> None:
        """Everything that is given per axis is given for the same axes."""
        shapes = {
            "data.crop_size": config.data.crop_size,
            "data.voxel_size": config.data.voxel_size,
            "inference.tile": config.inference.tile,
            "inference.halo": config.inference.halo,
        }
        counts = {path: len(shape) for path, shape in shapes.items() if isinstance(shape, list)}
        first = next(iter(counts), "")
        for path, count in counts.items():
            if count != counts[first]:
                problem = f"has {count} axes, but {first} has {counts[first]}"
                self.fault(path, problem, "Both follow the axes of the volumes.")

    def experiment(self, name: Any) -> None:
        """The name of a folder, on any system."""
        if not isinstance(name, str) or not name.strip(". ") or set(name) & set('/\\:*?"<>|'):
            problem = f"is {shown(name)}, must be a plain name"
            self.fault("metadata.experiment", problem, "It names the folder of the runs.")

    def gpus(self, path: str, gpus: list[int] | None, device: str) -> None:
        """Each GPU once, and no other device beside them; a single one may be named twice over."""
        if gpus and len(set(gpus)) < len(gpus):
            self.fault(path, f"is {shown(gpus)}, which names a GPU twice")
        if gpus and device not in ("auto", "cuda", f"cuda:{gpus[0]}" if len(gpus) == 1 else "cuda"):
            self.fault(path, f"asks for GPUs, but device is {shown(device)}", "Write device: auto.")

    def processes(self, config: Config) -> None:
        """A batch has a part for each process."""
        runner, size = config.runner, config.train_settings.batch_size
        if runner.fsdp and runner.channels_last is True:
            problem = "is true, but runner.fsdp shares out contiguous weights only"
            self.fault("runner.channels_last", problem, "Leave it out.")
        averaged = runner.snapshots.average_best_models or None
        copies = {"ema": runner.ema, "swa": runner.swa, "snapshots.average_best_models": averaged}
        for key, wanted in copies.items():
            if runner.fsdp and wanted is not None:
                problem = (
                    "keeps a second copy of the weights, which runner.fsdp shares out over the processes"
                )
                self.fault(f"runner.{key}", problem, "Leave one of the two out.")
        if runner.gpus and runner.processes not in (1, len(runner.gpus)):
            problem = f"is {runner.processes}, but runner.gpus names {len(runner.gpus)} GPUs"
            self.fault("runner.processes", problem, "Leave it out: there is one process for each GPU.")
        if runner.processes > 1 and not runner.gpus and config.device.startswith(("cuda", "mps")):
            problem = f"is {runner.processes} processes on the CPU, but device is {shown(config.device)}"
            self.fault(
                "runner.processes", problem, "Name the GPUs: runner.gpus: [0, 1], or write device: cpu."
            )
        count = max(len(runner.gpus or ()), runner.processes)
        if size % count:
            problem = f"is {size}, which {count} processes cannot share evenly"
            nearest = -(-size // count) * count
            self.fault("train_settings.batch_size", problem, f"It counts the crops of all: write {nearest}.")

    def course(self, config: Config) -> None:
        """What begins at an epoch or a step comes at all."""
        swa, epochs = config.runner.swa, config.train_settings.epochs
        if swa is not None and swa.swa_start > epochs:
            problem = f"is {swa.swa_start}, but the last epoch is {epochs}"
            self.fault("runner.swa.swa_start", problem, f"Write {epochs} or less.")
        first, last = config.runner.profile.trace_steps
        if first > last:
            problem = f"is {shown([first, last])}, whose first step comes after its last"
            self.fault("runner.profile.trace_steps", problem)

    # Nodes

    def source(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        from skoots.data.sources import DATASETS

        given, where = arguments_of(node, path)
        is_folder = self.name_of(DATASETS, node["type"]) == "Folder"
        if is_folder and given.get("cache_mb") is not None and given.get("store") != "disk":
            problem = "is given, but keeps decoded chunks only with store: disk"
            self.fault(where["cache_mb"], problem, "Leave it out, or add store: disk.")
        return self.part(DATASETS, node, path)

    def augmentation(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        from skoots.data.augment.base import AUGMENTATIONS

        def transforms(value: Any, at: str) -> Any:
            if not isinstance(value, list):
                self.fault(at, f"is {shown(value)}, must be a list of augmentations")
                return value
            return [
                self.nested(AUGMENTATIONS, item, f"{at}.{i}", found=self.augmentation)
                for i, item in enumerate(value)
            ]

        if self.name_of(AUGMENTATIONS, node["type"]) == "Sequential":
            return self.part(AUGMENTATIONS, node, path, nested={"transforms": transforms})
        return self.nested(AUGMENTATIONS, node, path)

    def head(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        from skoots.models.heads.base import HEADS
        from skoots.models.predictors.base import PREDICTORS
        from skoots.models.targets.base import TARGET_GENERATORS

        nested: dict[str, Check] = {
            "target_generator": lambda value, at: self.nested(TARGET_GENERATORS, value, at),
            "predictor": lambda value, at: self.nested(PREDICTORS, value, at),
            "criterion": self.criteria,
        }
        return self.part(HEADS, node, path, SHAPE_FACTS | set(PARTS_OF_A_HEAD), nested)

    def criteria(self, value: Any, path: str) -> Any:
        """One criterion, a list, or a mapping of output names to criteria; several may be weighted."""
        if isinstance(value, list):
            return [self.criterion(item, f"{path}.{i}", weighted=True) for i, item in enumerate(value)]
        if isinstance(value, Mapping) and "type" not in value:
            return {
                name: self.criterion(item, f"{path}.{name}", weighted=True) for name, item in value.items()
            }
        return self.criterion(value, path, weighted=False)

    def criterion(self, value: Any, path: str, weighted: bool) -> Any:
        from skoots.models.criteria.base import CRITERIA

        return self.nested(CRITERIA, value, path, {"weight": self.weight} if weighted else {})

    def detector(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        from skoots.models.detectors.base import DETECTORS

        return self.part(DETECTORS, node, path, SHAPE_FACTS, extra={name: self.boolean for name in FREEZING})

    def logger(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        from skoots.loggers.base import LOGGERS

        return self.part(LOGGERS, node, path, LOGGER_FACTS)

    def optimizer(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        from torch import nn

        from skoots.training.optimizers import build_optimizer, optimizer_class

        def groups(value: Any, at: str) -> Any:
            if not isinstance(value, Mapping) or not all(
                isinstance(options, Mapping) for options in value.values()
            ):
                self.fault(at, f"is {shown(value)}, must be a mapping of parts of the model to options")
                return value
            for name, options in value.items():
                if "params" in options:
                    self.fault(f"{at}.{name}.params", "is no option", "Write the options themselves.")
                    continue
                before, own = len(self.faults), {"type": node["type"], **options}
                self.part(optimizer_class, own, f"{at}.{name}", hidden=("params",))
                if len(self.faults) == before:  # torch does not look at the values of a group
                    tried = {key: value for key, value in own.items() if key not in OF_THE_DEVICE}
                    self.build(f"{at}.{name}", partial(build_optimizer, tried, nn.Linear(1, 1)))
            return {name: dict(options) for name, options in value.items()}

        extra: dict[str, Check] = {"parameter_groups": groups, "decay_norms_and_biases": self.boolean}
        return self.part(optimizer_class, node, path, extra=extra, hidden=("params",))

    def scheduler(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        from skoots.training.schedules import scheduler_class

        def schedulers(value: Any, at: str) -> Any:
            if not isinstance(value, list) or not value:
                self.fault(at, f"is {shown(value)}, must be a list of schedulers")
                return value
            return [
                self.nested(scheduler_class, item, f"{at}.{i}", found=self.scheduler)
                for i, item in enumerate(value)
            ]

        def interval(value: Any, at: str) -> Any:
            if value not in ("epoch", "step"):
                self.fault(at, f"is {shown(value)}, must be epoch or step")
            return value

        def metric(value: Any, at: str) -> Any:
            if not isinstance(value, str):
                self.fault(at, f"is {shown(value)}, must be the name of a metric")
            return value

        top = path.count(".") == 1 or path == "detector.runner.scheduler"
        extra: dict[str, Check] = {"interval": interval, "monitor": metric} if top else {}
        checked = self.part(
            scheduler_class,
            node,
            path,
            nested={"schedulers": schedulers},
            extra=extra,
            hidden=("optimizer",),
        )
        self.milestones(checked, path)
        return checked

    def timing(self, runner: RunnerSection, path: str) -> None:
        """Metrics are measured after epochs, and ``ReduceLROnPlateau`` alone watches one."""
        from skoots.training.schedules import timing_of, watches_a_metric

        if runner.scheduler is None:
            return
        _, where = arguments_of(runner.scheduler, f"{path}.scheduler")
        interval, monitor = timing_of(runner.scheduler)
        watches = watches_a_metric(runner.scheduler)
        if watches and interval == "step":
            self.fault(where["interval"], "is step, but metrics are measured after epochs", "Leave it out.")
        if monitor is not None and not watches:
            problem = "is given, but only ReduceLROnPlateau watches a metric"
            self.fault(where["monitor"], problem, "Leave it out.")

    def milestones(self, node: Mapping[str, Any], path: str) -> None:
        """Milestones rise, and are as many as what they divide asks for."""
        given, where = arguments_of(node, path)
        milestones = given.get("milestones")
        divided = next(
            (name for name in ("lr_list", "schedulers") if isinstance(given.get(name), list)), None
        )
        if divided is None or not isinstance(milestones, list) or not all(type(m) is int for m in milestones):
            return
        wanted = len(given[divided]) - (divided == "schedulers")
        if len(milestones) != wanted:
            problem = f"has length {len(milestones)} for {len(given[divided])} entries of {divided}"
            self.fault(where["milestones"], problem, f"Give {wanted}.")
        if any(later <= earlier for earlier, later in itertools.pairwise([-1, *milestones])):
            self.fault(where["milestones"], f"is {shown(milestones)}, must be rising epochs from 0 on")
