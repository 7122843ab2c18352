"""From a config to parts: data, model, loggers; and from a snapshot to a model."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skoots.config import Config, load_config
from skoots.config.faults import Faults
from skoots.config.nodes import NodeInspector
from skoots.config.plain import plain
from skoots.config.schema import PARTS_OF_A_HEAD
from skoots.data.augment import AUGMENTATIONS, PRESETS, Augmentation, Sequential
from skoots.data.background import background_augmentations
from skoots.data.intensity_record import IntensityRecord
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.sampling import Sampling
from skoots.data.sources import (
    DATASETS,
    Header,
    Reading,
    Source,
    as_network_sees,
    open_sources,
    reading_threads,
)
from skoots.errors import ConfigError, Fault, SnapshotError
from skoots.instances import DECODERS, Decoder
from skoots.models.allocation_limit import AllocationLimit
from skoots.models.backbones.base import BACKBONES
from skoots.models.criteria.base import CRITERIA, Criterion
from skoots.models.criteria.weighted_sum import WeightedSum
from skoots.models.heads.base import HEADS, Head
from skoots.models.necks.base import NECKS, Neck
from skoots.models.predictors.base import PREDICTORS
from skoots.models.promises import Rehearsal, small_image
from skoots.models.segmentation_model import Outputs, SegmentationModel
from skoots.models.targets.base import TARGET_GENERATORS
from skoots.models.weights import load_weights, misfit
from skoots.registry import accepted_facts, split_node
from skoots.runtime import choose_device, without_trials
from skoots.snapshots import read_reference, trained_weights

log = logging.getLogger("skoots")
PRETRAINED = ("pretrained", "pretrained_file")
DEFAULT_NECK = "UNetDecoder"
FREEZING = ("freeze_bn_stats", "freeze_bn_weights")
Volumes = list[tuple[LabelledVolume, int]]


# Data ----------------------------------------------------------------------------------------------------


def reading_of(config: Config) -> Reading:
    """How the config wants volumes to be read."""
    data = config.data
    return Reading(
        voxel_size=data.voxel_size,
        normalize=data.normalize,
        ignore_label=data.ignore_label,
        algorithm=data.skeleton.algorithm,
        threads=reading_threads(),
        own_intensity=data.normalize_by == "volume",
    )


def open_volumes(config: Config, section: str) -> Volumes:
    """The volumes of ``data.train``, ``validation``, ``test`` or ``background``, each with its samples an
    epoch."""
    sources = _sources(config, section)
    return open_sources(sources, reading_of(config), section == "background") if sources else []


def open_headers(config: Config, section: str) -> list[Header]:
    """The volumes of a section of the data, as far as their files state them."""
    reading = reading_of(config)
    return [header for source in _sources(config, section) for header in source.headers(reading)]


def _sources(config: Config, section: str) -> list[Source]:
    return [
        _build_source(node, f"data.{section}.{i}") for i, node in enumerate(getattr(config.data, section))
    ]


def _build_source(node: Mapping[str, Any], path: str) -> Source:
    try:
        return DATASETS.build(node)
    except ValueError as error:
        raise ConfigError([Fault(path, str(error).rstrip("."), "")]) from error


def in_voxels_of(facts: DataFacts, volumes: Volumes) -> Volumes:
    """Volumes as a network built for these facts sees them."""
    return [(as_network_sees(volume, facts.voxel_size), count) for volume, count in volumes]


def build_augmentations(config: Config) -> list[Augmentation]:
    """What ``data.augment`` means.

    Raises:
        ConfigError: an augmentation cannot work where ``data.augment_on`` says.
    """
    presets = {name: partial(make, config.data.normalize) for name, make in PRESETS.items()}
    return _augmentations(config, config.data.augment, presets)


def build_background_augmentations(config: Config) -> list[Augmentation]:
    """What ``data.background_augment`` means.

    Raises:
        ConfigError: an augmentation cannot work where ``data.augment_on`` says.
    """
    presets = {"default": background_augmentations, "none": list}
    return _augmentations(config, config.data.background_augment, presets)


def _augmentations(
    config: Config, wanted: Any, presets: Mapping[str, Callable[[], list[Augmentation]]]
) -> list[Augmentation]:
    built = presets[wanted]() if isinstance(wanted, str) else [_build_augmentation(node) for node in wanted]
    unportable = Sequential(built).unportable
    if config.data.augment_on == "device" and unportable:
        problem = f"{', '.join(unportable)} cannot work on the device, only in the loading processes"
        remedy = "Write augment_on: cpu, or let it extend SpatialAugmentation or IntensityAugmentation"
        raise ConfigError([Fault("data.augment_on", problem, remedy)])
    return built


def _build_augmentation(node: Mapping[str, Any]) -> Augmentation:
    name, arguments = split_node(node)
    if name == "Sequential":
        return Sequential([_build_augmentation(inner) for inner in arguments["transforms"]])
    return AUGMENTATIONS.build(node)


def sampling_of(config: Config) -> Sampling:
    """What ``data.sampling`` and its short form ``data.object_rate`` mean."""
    rate = config.data.object_rate
    return Sampling(**{**({} if rate is None else {"objects": rate}), **config.data.sampling})


# Model ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataFacts:
    """What data publishes and a model is built from.

    Args:
        in_channels: channels of the images.
        spatial_dims: 2 or 3.
        voxel_size: D edge lengths of a voxel.
    """

    in_channels: int
    spatial_dims: int
    voxel_size: tuple[float, ...]

    @classmethod
    def of(cls, volume: LabelledVolume) -> DataFacts:
        return cls(volume.image.channels or 1, volume.image.spatial_dims, volume.voxel_size)

    def plain(self) -> dict[str, Any]:
        """For a snapshot."""
        return {
            "in_channels": self.in_channels,
            "spatial_dims": self.spatial_dims,
            "voxel_size": list(self.voxel_size),
        }


def needs_scale(config: Config) -> list[str]:
    """Names of the heads whose ``scale`` the data must decide."""
    names = []
    for name, node in config.model.heads.items():
        part, arguments = split_node(node)
        takes = inspect.signature(HEADS.get(part)).parameters.get("scale")
        if takes is not None and arguments.get("scale", takes.default) == "auto":
            names.append(name)
    return names


def with_scale(config: Config, scale: Sequence[float]) -> Config:
    """The config with ``scale: auto`` replaced by what was decided."""
    heads = copy.deepcopy(config.model.heads)
    for name in needs_scale(config):
        part, arguments = split_node(heads[name])
        heads[name] = {"type": part, **arguments, "scale": [float(s) for s in scale]}
    return config.model_copy(update={"model": config.model.model_copy(update={"heads": heads})})


def build_model(config: Config, facts: DataFacts, pretrained: bool = True) -> SegmentationModel:
    """Backbone, neck and heads; each is built from what the part before it publishes, and tried on a small
    image. Features that need a neck get ``DEFAULT_NECK``, if the config names none.

    Args:
        config: its ``model`` section, and ``runner.channels_last``.
        facts: of the data.
        pretrained: False if weights are loaded afterwards: pretrained ones are not fetched then.

    Raises:
        ConfigError: ``backbone_output_channels`` does not agree with the backbone, or arguments do not fit
        together.
        PluginError: a part does not give what it promises.
    """
    section = config.model
    name, arguments = split_node(section.backbone)
    freezing = {key: arguments.pop(key, False) for key in FREEZING}
    if not pretrained:
        arguments = {key: value for key, value in arguments.items() if key not in PRETRAINED}
    try:
        backbone = BACKBONES.build({"type": name, **arguments}, **vars(facts))
    except (ValueError, TypeError) as error:
        raise ConfigError([Fault("model.backbone", str(error).rstrip("."), "")]) from error
    rehearsal = Rehearsal(facts.in_channels, facts.spatial_dims)
    rehearsal.backbone(backbone)
    finest = backbone.features[0].channels
    if section.backbone_output_channels not in (None, finest):
        raise ConfigError(
            [
                Fault(
                    "model.backbone_output_channels",
                    f"says {section.backbone_output_channels} and {name} gives {finest}",
                    f"Write {finest}, or leave the key out",
                )
            ]
        )
    neck, channels = None, finest
    if section.neck is not None or backbone.needs_neck:
        neck = _build_neck(
            section.neck or {"type": DEFAULT_NECK}, {**vars(facts), "features": backbone.features}
        )
        rehearsal.neck(neck)
        channels = neck.out_channels
    here = {**vars(facts), "in_channels": channels}
    heads = {name: _build_head(name, node, here) for name, node in section.heads.items()}
    for title, head in heads.items():
        rehearsal.head(title, head)
    model = SegmentationModel(backbone, heads, neck, **freezing)
    wanted = config.runner.channels_last
    by_itself = facts.spatial_dims == 3 and not config.runner.fsdp  # which takes contiguous weights only
    if wanted is False or (wanted == "auto" and not by_itself):
        return model
    layouts = {2: torch.channels_last, 3: torch.channels_last_3d}
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.ndim == facts.spatial_dims + 2:  # a network that passes volumes by slice has others, too
            tensor.data = tensor.data.contiguous(memory_format=layouts[facts.spatial_dims])
    return model


def _build_neck(node: str | Mapping[str, Any], facts: Mapping[str, Any]) -> Neck:
    try:
        return NECKS.build(node, **facts)
    except (ValueError, TypeError) as error:
        raise ConfigError([Fault("model.neck", str(error).rstrip("."), "")]) from error


def _build_head(name: str, node: Mapping[str, Any], facts: Mapping[str, Any]) -> Head:
    part, arguments = split_node(node)
    registry = {"target_generator": TARGET_GENERATORS, "predictor": PREDICTORS}
    for key in PARTS_OF_A_HEAD:
        if key not in arguments:
            continue
        if key == "criterion":
            arguments[key] = _build_criterion(arguments[key], facts)
        else:
            arguments[key] = registry[key].build(arguments[key], **facts)  # type: ignore[attr-defined]
    head = HEADS.get(part)
    try:
        return head(**{**accepted_facts(head, facts), **arguments})
    except (ValueError, TypeError) as error:
        raise ConfigError([Fault(f"model.heads.{name}", str(error).rstrip("."), "")]) from error


def _build_criterion(node: Any, facts: Mapping[str, Any]) -> Criterion:
    """One node, a list of nodes (their weighted sum), or DeepLabCut's mapping of outputs to nodes."""
    if isinstance(node, Mapping) and "type" not in node:
        node = list(node.values())
    nodes = node if isinstance(node, list) else [node]
    terms, weights = [], []
    for child in nodes:
        part, arguments = split_node(child)
        weights.append(float(arguments.pop("weight", 1.0)))
        terms.append(CRITERIA.build({"type": part, **arguments}, **facts))
    return terms[0] if len(terms) == 1 and weights == [1.0] else WeightedSum(terms, weights)


def map_channels(model: SegmentationModel, in_channels: int) -> dict[str, int]:
    """Names and channels of all maps that a model gives, found by a prediction of a small image."""
    training = model.training
    device = next(model.parameters()).device
    with torch.inference_mode(), without_trials():
        maps = model.maps(model.eval()(small_image(in_channels, model.stride, device)))
    model.train(training)
    return {name: values.shape[1] for name, (_, values) in maps.items()}


def decoder_of(config: Config, changes: Mapping[str, Any] | None = None) -> Decoder:
    """What makes instances of maps: the config's decoder and settings, with changes.

    Args:
        config: its ``inference.decoding``.
        changes: settings that differ; with another ``type`` none of the config's own count.

    Raises:
        ConfigError: no such decoder or setting, or a value out of range.
    """
    path, faults = "inference.decoding", Faults()
    inspector = NodeInspector(faults)
    kind, settings = split_node(config.inference.decoding)
    changed = inspector.node({"type": kind, **plain(changes or {}, path, faults)}, path)
    if changed is not None:
        wanted, given = split_node(changed)
        node = {"type": wanted, **(settings if wanted == kind else {}), **given}
        node = inspector.decoder(node, path)
    faults.end()
    return DECODERS.build(node)


# From a snapshot -----------------------------------------------------------------------------------------


@dataclass(eq=False, repr=False)
class LoadedModel(nn.Module):
    """A trained model with all that segmenting needs; called, it is the network.

    Args:
        model: on its device, in evaluation mode.
        config: the resolved config it was trained with.
        facts: channels, dimensions and voxel size that it was built for.
        device: where it was put.
        snapshot: the file.
        epoch: after which it was saved.
        intensity: statistics of its training volumes, None if the snapshot holds none.
        decoding: decoder and settings that ``tune`` has chosen; None leaves those of the config.
    """

    model: SegmentationModel
    config: Config
    facts: DataFacts
    device: torch.device
    snapshot: Path
    epoch: int
    intensity: IntensityRecord | None = None
    decoding: Mapping[str, Any] | None = None

    def decoder(self, changes: Mapping[str, Any] | None = None) -> Decoder:
        """What makes instances of its maps: the decoder that was chosen for it, else the config's.

        Args:
            changes: settings that differ; with another ``type`` none of the own ones count. Settings that
                only the config's decoder has are meant for that one.

        Raises:
            ConfigError: no such decoder or setting, or a value out of range.
            SnapshotError: the chosen one comes from a plugin that was not loaded.
        """
        if self.decoding is None:
            return decoder_of(self.config, changes)
        if "type" not in (changes or {}) and self.decoding["type"] not in DECODERS:
            raise SnapshotError(
                f"{self.snapshot} was tuned to {self.decoding['type']}, which is not registered. Give "
                "the plugin that it comes from, or choose another: inference.decoding.type."
            )
        if self._means_the_configs(changes or {}, self.decoding):
            log.info("decoder: that of the config, which has the settings %s.", ", ".join(changes or {}))
            return decoder_of(self.config, changes)
        section = self.config.inference.model_copy(update={"decoding": self.decoding})
        return decoder_of(self.config.model_copy(update={"inference": section}), changes)

    def _means_the_configs(self, changes: Mapping[str, Any], decoding: Mapping[str, Any]) -> bool:
        """Whether changes are of settings that the config's decoder has and the chosen one has not."""
        if "type" in changes:
            return False
        own, chosen = (
            {field.name for field in fields(DECODERS.get(split_node(node)[0]))}
            for node in (self.config.inference.decoding, decoding)
        )
        return own >= set(changes) and not chosen >= set(changes)

    def __new__(cls, *arguments: Any, **named: Any) -> LoadedModel:
        made = super().__new__(cls)
        nn.Module.__init__(made)  # before the fields, of which one is a module, are set
        return made

    def __post_init__(self) -> None:
        self.eval()

    def forward(self, images: Tensor) -> Outputs:
        """(B, C, *S) normalised images, on the model's device, to ``{head: {output: (B, channels, *S)}}``."""
        return self.model(images)

    def normalising_by(self, statistics: str) -> LoadedModel:
        """The same model with another ``data.normalize_by``."""
        data = self.config.data.model_copy(update={"normalize_by": statistics})
        return replace(self, config=self.config.model_copy(update={"data": data}))


def config_in(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The config that a snapshot holds.

    Raises:
        SnapshotError: it holds none.
    """
    if not isinstance(state.get("cfg"), dict):
        raise SnapshotError(f"{path} holds weights but no config, so the model cannot be built from it.")
    return state["cfg"]


def model_of(
    config: Config, facts: DataFacts, weights: Mapping[str, Tensor], path: Path
) -> SegmentationModel:
    """The model that a config describes, with its trained weights.

    Args:
        config: of the file.
        facts: of the data that it was trained on.
        weights: of every tensor of the model, by name.
        path: the file, for messages.

    Raises:
        SnapshotError: the weights do not fit the config.
    """
    try:
        with AllocationLimit(weights.values()):
            model = build_model(config, facts, pretrained=False)
    except SnapshotError as error:
        raise SnapshotError(
            f"{path} does not fit the model that its config describes (it {error})."
        ) from error
    try:
        load_weights(model, weights)
    except SnapshotError as error:
        fits = misfit(model, weights)
        raise SnapshotError(f"{path} does not fit the model that its config describes ({fits}).") from error
    return model


def load_model(
    snapshot: Path | str,
    device: str | None = None,
    plugins: Sequence[str] = (),
    weights: str = "auto",
) -> LoadedModel:
    """Build the model that a snapshot holds.

    Args:
        snapshot: a file, a run folder (best, else latest) or ``runs/mito:best``.
        device: None takes the best there is, not the one it was trained on.
        plugins: those that the model was trained with; code that a snapshot names is never run unasked.
        weights: ``auto`` takes the moving average (EMA) if the snapshot has one; ``ema`` and ``raw`` insist.

    Raises:
        SnapshotError: there is none, it is damaged, or it does not fit its own config.
    """
    state, path = read_reference(snapshot)
    missing = {"facts", "epoch"} - state.keys()
    if missing:
        what = "config" if "facts" in missing else "epoch"
        raise SnapshotError(f"{path} holds weights but no {what}, so the model cannot be built from it.")
    config = load_config(config_in(state, path), plugins=plugins, trusted=False)
    stored = state["facts"]
    facts = DataFacts(stored["in_channels"], stored["spatial_dims"], tuple(stored["voxel_size"]))
    model = model_of(config, facts, trained_weights(state, weights), path)
    if "ema_net" in state:
        log.info("%s: %s weights.", path, "raw" if weights == "raw" else "EMA")
    where = choose_device(device)
    intensity = IntensityRecord.from_plain(stored["intensity"]) if "intensity" in stored else None
    return LoadedModel(
        model.to(where),
        config,
        facts,
        where,
        path,
        int(state["epoch"]),
        intensity,
        state.get("decoding"),
    )
