"""``skoots import``: a model file of the original SKOOTS as a snapshot of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skoots._version import __version__
from skoots.api.build import DataFacts, model_of
from skoots.config import Config, load_config
from skoots.config.original import check_network, translate
from skoots.config.original_settings import OriginalSettings, read_settings
from skoots.data.intensity_record import IntensityRecord
from skoots.data.normalize import Intensity
from skoots.errors import SnapshotError
from skoots.models.original import OriginalNetwork, read_network
from skoots.snapshots import OriginalModel, check_free, read_original, write_snapshot

OF_THE_TRAINING = {"TRAIN": ("TARGET",), "AUGMENTATION": ("BAKE_SKELETON_ANISOTROPY",)}
"""Settings of other sections than MODEL and SKOOTS that a trained network goes by."""

TOLD_BY_WEIGHTS = ("IN_CHANNELS", "OUT_CHANNELS", "DIMS", "DEPTHS", "KERNEL_SIZE")


@dataclass(frozen=True)
class ImportedModel:
    """What ``import_model`` wrote.

    Args:
        output: the snapshot.
        source: the model file.
        parameters: numbers in its weights.
        epoch: after which it was saved.
        scale: [z, y, x] voxels that a vector of length 1 spans.
        intensity: mean and deviation of the images that it was trained on; None if the file does not say.
    """

    output: Path
    source: Path
    parameters: int
    epoch: int
    scale: tuple[float, ...]
    intensity: Intensity | None


def import_model(source: Path | str, output: Path | str, *, overwrite: bool = False) -> ImportedModel:
    """Turn a model file of the original SKOOTS into a snapshot, whose network gives the same outputs.

    The snapshot holds the network, the scale of its vectors, the proportions of voxels, and mean and
    deviation of the images that it was trained on, which ``segment`` applies. Settings of the training stay
    behind; of them ``import_config`` makes a config.

    Args:
        source: the model file, ``.trch``; no code in it is run.
        output: the snapshot, ``.pt``.
        overwrite: replace a file that exists; the source itself never is.

    Raises:
        SkootsError: the file cannot be read, its network is another one than UNeXT, or the output exists or
            cannot be written.
    """
    old, new = Path(os.path.expanduser(source)), Path(os.path.expanduser(output))
    if old.suffix.lower() in (".yaml", ".yml"):
        raise SnapshotError(
            f"{old} is a config and holds no model; skoots import-config makes a config of it."
        )
    if old.exists() and new.exists() and new.samefile(old):
        raise SnapshotError(f"{new} is the file that is to be imported; choose another output.")
    check_free(new, overwrite)
    original = read_original(old)
    settings = _settings(original.config, old)
    try:
        network = read_network(original.weights)
    except SnapshotError as error:
        raise SnapshotError(f"{old} cannot be imported. {error}") from error
    intensity = _intensity(original, network.in_channels, old)
    config = _config(old.stem, settings, network, by_training=intensity is not None)
    facts = DataFacts(network.in_channels, 3, tuple(config.data.voxel_size or (1.0, 1.0, 1.0)))
    scale = config.model.heads["vector"]["scale"]
    weights = {**network.weights, "heads.vector.scale": torch.tensor(scale)}
    model = model_of(config, facts, weights, old)
    record = IntensityRecord("zscore", intensity, (), ("uint8",)) if intensity is not None else None
    state = {
        "net": model.state_dict(),
        "epoch": original.epochs,
        "cfg": config.resolved(),
        "facts": {**facts.plain(), **({} if record is None else {"intensity": record.plain()})},
        "provenance": {"skoots": __version__, "imported": old.name},
    }
    write_snapshot(state, new)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ImportedModel(new, old, parameters, original.epochs, tuple(scale), intensity)


def _settings(config: Mapping[str, Any], path: Path) -> OriginalSettings:
    """Those that the network goes by; the others are not looked at, and may be of another version.

    Raises:
        ConfigError: one is wrong, or is of a network that cannot be built here.
    """
    wanted: dict[str, Any] = {name: config[name] for name in ("MODEL", "SKOOTS") if name in config}
    for section, names in OF_THE_TRAINING.items():
        given = config.get(section)
        if isinstance(given, Mapping):
            wanted[section] = {name: given[name] for name in names if name in given}
    if isinstance(wanted.get("MODEL"), Mapping):
        model = wanted["MODEL"].items()
        wanted["MODEL"] = {name: value for name, value in model if name not in TOLD_BY_WEIGHTS}
    settings = read_settings(wanted, str(path))
    check_network(settings, str(path))
    return settings


def _config(name: str, settings: OriginalSettings, network: OriginalNetwork, by_training: bool) -> Config:
    translated = translate(settings, name).config
    model = translated["model"]
    scale = [float(s) for s in model["heads"]["vector"]["scale"]]
    heads: dict[str, dict[str, Any]] = {
        "vector": {"type": "VectorHead", "scale": scale},
        "semantic": {"type": "SemanticHead"},
        "skeleton": {"type": "SkeletonHead"},
    }
    data = {
        "voxel_size": translated["data"]["voxel_size"],
        "normalize": "zscore",
        "normalize_by": "training" if by_training else "volume",
    }
    backbone = {**model["backbone"], **network.backbone, "pad": False}
    kernels = {key: {**head, "kernel": network.head_kernel} for key, head in heads.items()}
    return load_config(
        {
            "metadata": translated["metadata"],
            "data": data,
            "model": {"backbone": backbone, "heads": kernels},
        }
    )


def _intensity(original: OriginalModel, channels: int, path: Path) -> Intensity | None:
    """Mean and deviation by channel; None if the file lacks one of them."""

    def each(numbers: list[float], key: str) -> np.ndarray:
        if len(numbers) not in (1, channels):
            raise SnapshotError(f"{path}: {key} has {len(numbers)} numbers for {channels} channels.")
        return np.resize(numbers, channels)

    if original.mean is None or original.deviation is None:
        return None
    return Intensity(each(original.mean, "dataset_mean"), each(original.deviation, "dataset_std"))
