"""What comes before training: data opened, every ``auto`` decided, the model built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from skoots.api.build import (
    DataFacts,
    Volumes,
    build_augmentations,
    build_background_augmentations,
    build_model,
    in_voxels_of,
    needs_scale,
    open_headers,
    open_volumes,
    sampling_of,
    with_scale,
)
from skoots.api.decide import CROP_VOXELS, VALIDATION_CROP_VOXELS, choose_crop, choose_vector_scale
from skoots.api.feeding import choose_workers
from skoots.api.intensity import by_training, check_types, normalised
from skoots.api.weights import begin_with_weights
from skoots.config import Config
from skoots.data.dataset import CropDataset
from skoots.data.intensity_record import IntensityRecord
from skoots.data.loaders import Loader
from skoots.data.sources import Described, check_alike
from skoots.errors import ConfigError, Fault
from skoots.geometry import relative_spacing
from skoots.models.backbones.base import Feature
from skoots.models.segmentation_model import SegmentationModel
from skoots.runtime import choose_device, free_memory, seed_everything
from skoots.samples import Batch
from skoots.training.distributed import Processes, with_sync_batchnorm
from skoots.training.precision import Precision, choose_format


@dataclass
class Prepared:
    """Everything that a training needs, built and checked.

    Args:
        config: with every ``auto`` decided.
        facts: of the data.
        device: to train on.
        train: volumes to learn from.
        validation: volumes to choose the best snapshot by.
        background: images without objects, to learn from.
        intensity: statistics of the training volumes.
        model: on its device.
        crop: training window.
        validation_crop: validation window.
        precision: number format of the network.
        workers: processes that load crops for this one.
        decided: sentences that say what ``auto`` became.
        crops: see ``training_crops``, which makes them when they are first asked for.
    """

    config: Config
    facts: DataFacts
    device: torch.device
    train: Volumes
    validation: Volumes
    model: SegmentationModel
    crop: list[int]
    validation_crop: list[int]
    intensity: IntensityRecord
    precision: Precision
    workers: int = 0
    decided: list[str] = field(default_factory=list)
    background: Volumes = field(default_factory=list)
    crops: CropDataset | None = None


def prepare(
    config: Config,
    device: str | None = None,
    with_weights: bool = True,
    processes: Processes | None = None,
) -> Prepared:
    """Open the data, decide every ``auto``, build the model.

    Args:
        config: as loaded.
        device: wins over the config's.
        with_weights: whether the model begins with what ``weights`` names; a snapshot that is gone on from
            replaces them.
        processes: those that train together, each on its device and with random numbers of its own.

    Raises:
        SkootsError: no training data, data that cannot be read, a device that is not there, top-down.
    """
    if config.method == "td":
        raise ConfigError([Fault("method", "top-down training is not available yet", "Write method: bu")])
    if not config.data.train:
        raise ConfigError(
            [Fault("data.train", "names no training data", "Add for instance data: {train: [{path: DIR}]}")]
        )
    processes = processes or Processes()
    if device is None:
        check_gpus(config)
    where = choose_device(device_of(config, processes.local_rank) if device is None else device)
    decided = []
    name = config.runner.precision
    if name == "auto":
        name, why = choose_format(where)
        config = _with(config, "runner", precision=name)
        decided.append(f"precision auto: {name}; {why}.")
    precision = Precision(name, where)
    precision.apply()
    if processes.world == 1 and not config.runner.gpus:  # which stay what is asked for
        config = config.model_copy(update={"device": str(where)})
    settings = config.train_settings
    seed_everything(settings.seed, settings.deterministic, config.runner.cudnn_benchmark)
    training, validation = open_volumes(config, "train"), open_volumes(config, "validation")
    facts = DataFacts.of(training[0][0])
    background = open_volumes(config, "background")
    others: list[Described] = [*(volume for volume, _ in [*validation, *background])]
    others += open_headers(config, "test")
    for other in others:
        check_alike(training[0][0], other)
    check_types(config, [each.image for each in (*(volume for volume, _ in training), *others)])
    intensity = IntensityRecord.of(config.data.normalize, [v for v, _ in training])
    training, validation, background = (
        normalised(config, intensity, volumes) for volumes in (training, validation, background)
    )
    spread = _spread_of_proportions(facts, [*training, *validation, *background])
    training, validation, background = (
        in_voxels_of(facts, volumes) for volumes in (training, validation, background)
    )
    volumes = [volume for volume, _ in training]
    without = f" and {len(background)} of background" if background else ""
    decided.insert(
        0,
        f"{len(volumes)} volumes{without} to train on, {len(validation)} to validate on; voxels of "
        f"{_short(facts.voxel_size)}; on {where}.",
    )
    if spread > 0.001:
        decided.append(
            f"voxels differ in proportion by up to {spread:.1%}; all are taken for those of "
            f"{_short(facts.voxel_size)}."
        )
    if by_training(config):
        told = [", ".join(f"{n:.4g}" for n in v) for v in (intensity.pooled.shift, intensity.pooled.scale)]
        decided.append(f"intensities by those of the training: shift {told[0]}, scale {told[1]}.")
    if needs_scale(config):
        scale = choose_vector_scale(volumes, config.train_settings.seed)
        config = with_scale(config, scale)
        decided.append(f"vector scale auto: {_short(scale)} voxels.")
    model = build_model(config, facts, pretrained=with_weights).to(where)
    if model.neck is not None and config.model.neck is None:
        config = _with(config, "model", neck={"type": type(model.neck).__name__})
        decided.append(f"neck: {type(model.neck).__name__}, for {_of_several(model.backbone.features)}.")
    if config.runner.sync_batchnorm and processes.world > 1:
        model = with_sync_batchnorm(model, where)
    if processes.rank:  # weights are alike, but dropout is not
        torch.manual_seed(settings.seed + processes.rank)
    matching = begin_with_weights(config, model) if with_weights else None
    if matching is not None:
        decided.append(f"weights: {matching.summary()}")
    shapes = [volume.shape for volume in volumes]
    crop = _crop_size(config, facts, shapes, model)
    if config.data.crop_size == "auto":
        config = _with(config, "data", crop_size=crop)
        decided.append(f"crop size auto: {_short(crop)} voxels.")
    window = validation_crop(validation or training, facts, model, crop)
    workers = settings.dataloader_workers
    prepared = Prepared(
        *(config, facts, where, training, validation, model, crop, window, intensity, precision),
        0 if workers == "auto" else workers,
        decided,
        background,
    )
    if workers == "auto":
        _decide_workers(prepared, processes.world)
    return prepared


def _decide_workers(prepared: Prepared, world: int) -> None:
    """Each process for itself: no crop depends on it."""
    crops = max(1, prepared.config.train_settings.batch_size // world)
    if prepared.device.type == "cpu":
        count, why = 0, "the CPU is busy with the network"
    else:
        count, why = choose_workers(training_crops(prepared), crops, prepared.facts.in_channels)
    prepared.workers = count
    prepared.config = _with(prepared.config, "train_settings", dataloader_workers=count)
    prepared.decided.append(f"dataloader workers auto: {count}; {why}.")


def _of_several(features: Sequence[Feature]) -> str:
    """The features of a backbone, in words."""
    strides = [_short(feature.stride) for feature in (features[0], features[-1])]
    if len(features) == 1:
        return f"features at stride {strides[0]}"
    return f"{len(features)} features at strides {' to '.join(strides)}"


def _with(config: Config, section: str, **values: Any) -> Config:
    changed = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: changed})


def _spread_of_proportions(facts: DataFacts, volumes: Volumes) -> float:
    """How far proportions of voxels are from those that the network is built for, relative."""
    own = np.array(relative_spacing(facts.voxel_size))
    others = np.array([relative_spacing(volume.voxel_size) for volume, _ in volumes])
    return float(np.abs(others / own - 1).max())


def training_crops(prepared: Prepared) -> CropDataset:
    """The windows to learn from, as the config describes them."""
    config = prepared.config
    if prepared.crops is None:
        prepared.crops = CropDataset(
            prepared.train,
            prepared.crop,
            build_augmentations(config),
            config.train_settings.seed,
            sampling_of(config),
            prepared.background,
            build_background_augmentations(config),
            config.data.samples_per_epoch,
            config.data.augment_on == "device",
        )
    return prepared.crops


def about_workers(prepared: Prepared, loader: Loader, processes: int = 1) -> tuple[str, bool]:
    """What the processes that load crops keep in memory, and whether so much is free.

    Args:
        prepared: the training.
        loader: of one process.
        processes: how many train on this machine.

    Returns:
        A sentence, and whether there is enough.
    """
    batch = Batch.bytes_of(loader.batch_size, prepared.facts.in_channels, prepared.crop)
    count = loader.held * processes
    free = free_memory(torch.device("cpu"))
    told = (
        f"loading: train_settings.dataloader_workers {prepared.workers}; "
        f"up to {count} batches of {batch / 2**20:.1f} MiB are in memory at once, "
        f"{count * batch / 2**20:,.0f} MiB"
    )
    if free is None or count * batch <= free:
        return f"{told}; shared memory (/dev/shm) is not needed.", True
    remedy = "Take fewer workers, or a smaller train_settings.batch_size or data.crop_size."
    return f"{told}, but {free / 2**20:,.0f} MiB are free. {remedy}", False


def validation_crop(
    volumes: Volumes, facts: DataFacts, model: SegmentationModel, crop: Sequence[int]
) -> list[int]:
    """The window in which volumes are validated: as large as is quick, and never smaller than a training
    crop."""
    voxels = max(VALIDATION_CROP_VOXELS[facts.spatial_dims], int(np.prod(crop)))
    return choose_crop([volume.shape for volume, _ in volumes], facts.voxel_size, model.stride, voxels)


def device_of(config: Config, local_rank: int = 0) -> str:
    """The device of a process: its GPU of ``runner.gpus``, else ``device``, of which each process has its
    own.

    Args:
        config: as loaded.
        local_rank: number of the process on its machine.
    """
    gpus = config.runner.gpus
    if gpus:
        return f"cuda:{gpus[local_rank % len(gpus)]}"
    if config.runner.processes > 1:
        return "cpu"
    if config.device in ("auto", "cuda") and local_rank and torch.cuda.is_available():
        return f"cuda:{local_rank % torch.cuda.device_count()}"
    return config.device


def check_gpus(config: Config) -> None:
    """Whether the GPUs that the config names are there, before any process is started.

    Raises:
        ConfigError: one is not.
    """
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    missing = [number for number in config.runner.gpus or () if number >= there]
    if missing:
        named = ", ".join(map(str, missing))
        problem = f"names GPU {named}, and this machine has {there} CUDA GPUs"
        remedy = f"Choose from 0 to {there - 1}" if there else "Leave it out to train on the CPU"
        raise ConfigError([Fault("runner.gpus", problem, remedy)])


def _crop_size(
    config: Config, facts: DataFacts, shapes: list[tuple[int, ...]], model: SegmentationModel
) -> list[int]:
    wanted = config.data.crop_size
    if wanted == "auto":
        return choose_crop(shapes, facts.voxel_size, model.stride, CROP_VOXELS[facts.spatial_dims])
    if len(wanted) != facts.spatial_dims:
        raise ConfigError(
            [
                Fault(
                    "data.crop_size",
                    f"{list(wanted)} has {len(wanted)} numbers and the volumes have {facts.spatial_dims} "
                    f"axes",
                    "",
                )
            ]
        )
    voxels, batch = math.prod(wanted), config.train_settings.batch_size
    room = free_memory(torch.device("cpu"))
    if room is not None and 4 * voxels * batch > room:  # one channel of the images alone
        problem = f"is {list(wanted)}, of which a batch of {batch} does not fit into memory"
        raise ConfigError([Fault("data.crop_size", problem, "Write less, or crop_size: auto.")])
    return list(wanted)


def _short(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
