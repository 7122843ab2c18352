"""``skoots plan``: a config out of the data, with a reason for every number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skoots.api.build import DataFacts, build_model
from skoots.api.decide import choose_vector_scale
from skoots.api.planning.decision import Decision, as_tree
from skoots.api.planning.decoding import decide_decoding
from skoots.api.planning.measured import Measured, measure
from skoots.api.planning.network import (
    WIDTHS,
    Levels,
    Network,
    choose_network,
    decide_network,
    needed_reach,
)
from skoots.api.planning.schedule import (
    choose_epochs,
    choose_steps,
    decide_object_rate,
    decide_schedule,
    share_of_crops_with_objects,
    share_samples,
)
from skoots.api.planning.split import decide_sources
from skoots.api.planning.targets import decide_targets
from skoots.api.planning.words import about, shape_of, warn
from skoots.config import load_config
from skoots.config.commented import dump_commented
from skoots.config.load import write_text
from skoots.data.dataset import CropDataset
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.loaders import train_loader
from skoots.data.normalize import bright_tail
from skoots.data.sources import Reading, reading_threads
from skoots.errors import SkootsError
from skoots.models.footprint import Footprint, measure_footprint
from skoots.runtime import choose_device, free_memory

CPU_BYTES = 750_000_000  # what a few cores step through in seconds; time is scarce there, not memory
GPU_SHARE = 0.8  # of the free memory; the rest is for fragments and the validation
SECTIONS = ["data", "model", "runner", "train_settings", "inference"]
LONG_TAIL = 3.0
MOST_MEMORY = 1_000_000  # GB
PROBE_EDGE = 16  # voxels of the crop that memory is counted on
LARGE = 95  # percentile of the inscribed radii that the network must see from wall to wall
AUGMENT = [
    "RotateScale",
    "Flip",
    "SwapAxes",
    {"type": "BrightnessContrast", "rate": 0.8, "contrast": [0.6, 1.6]},
    "Blur",
    "Noise",
]


@dataclass(frozen=True)
class Plan:
    """A config, and why it is as it is.

    Args:
        folder: the data it was made from.
        facts: sentences about the data.
        warnings: sentences about what the user should look at.
        decisions: values with their reasons.
    """

    folder: str
    facts: list[str]
    warnings: list[str]
    decisions: list[Decision]

    @property
    def config(self) -> dict[str, Any]:
        """The planned config as plain values."""
        return as_tree(self.decisions)

    def text(self, path: Path | str) -> str:
        """The config as commented YAML.

        Args:
            path: where it will lie, for the commands in its heading.
        """
        notes = [*self.facts, *(f"Note: {warning}" for warning in self.warnings)]
        heading = "\n".join(
            [
                f"Planned from {self.folder}.",
                "",
                f"  skoots check {path}",
                f"  skoots train {path}",
                "",
                *notes,
            ]
        )
        return dump_commented(self.config, {d.key: d.reason for d in self.decisions if d.reason}, heading)

    def write(self, path: Path | str, overwrite: bool = False) -> None:
        """Write the config.

        Raises:
            SkootsError: the file exists and ``overwrite`` was not said, or it cannot be written.
        """
        path = Path(path)
        refuse_to_overwrite(path, overwrite)
        write_text(self.text(path), path)


def refuse_to_overwrite(path: Path, overwrite: bool) -> None:
    """Raise a ``SkootsError`` if a file exists that is not to be replaced."""
    if path.exists() and not overwrite:
        raise SkootsError(f"{path} exists; choose another name with -o or say --overwrite.")


def plan(
    folder: Path | str,
    *,
    validation: Path | str | None = None,
    test: Path | str | None = None,
    memory: float | None = None,
    epochs: int | None = None,
    voxel_size: Sequence[float] | None = None,
    ignore_label: int | None = None,
    device: str | None = None,
    seed: int = 42,
) -> Plan:
    """Plan a training from labelled data, as nnU-Net's planner does (Isensee et al. 2021), for instances.

    Args:
        folder: with ``NAME.tif`` and ``NAME.labels.tif``.
        validation: a folder of other volumes; None holds out a part of ``folder``.
        test: a folder of volumes to be scored at the end.
        memory: GB that a training step may take; None asks the device.
        epochs: None follows the size of the data.
        voxel_size: D edge lengths of a voxel, if the files say none or wrong ones.
        ignore_label: label that means "not known", if the labels hold one.
        device: to train on; None takes the best there is.
        seed: of the draws, and of the planned training.

    Raises:
        SkootsError: data that cannot be read, or a budget that holds no training step.
    """
    where = choose_device(device)
    reading = Reading(voxel_size, ignore_label=ignore_label, threads=reading_threads())
    data = measure(folder, validation, test, reading, seed)
    scale = choose_vector_scale(data.training, seed)
    large = float(np.percentile(data.geometry.inscribed, LARGE))
    need = needed_reach(scale, large, data.facts.voxel_size)
    budget, source = _budget(where, memory)
    network = _choose_network(data, scale, need, budget, where)
    samples, steps = _choose_samples(data, network, where)
    total = epochs or choose_epochs(steps, kind_of(where))
    passes = sum(samples) * math.prod(network.crop) / data.voxels
    decisions = [
        *decide_sources(folder, data.split, samples, validation, test, data.store),
        *_decide_voxel_size(data, voxel_size),
        *([] if ignore_label is None else [Decision("data.ignore_label", ignore_label, "As asked for.")]),
        *decide_network(network, need, data.shapes, source),
        decide_object_rate(
            share_of_crops_with_objects(data.training, network.crop, seed, data.known),
            data.geometry.foreground_share,
        ),
        _decide_normalization(data.training),
        Decision("data.augment", AUGMENT),
        *decide_targets(data.geometry, scale, total),
        *decide_schedule(steps, total, passes, kind_of(where), data.split.held_out),
        decide_decoding(data.geometry),
        Decision("train_settings.seed", seed),
    ]
    decisions.sort(key=lambda decision: SECTIONS.index(decision.key.split(".")[0]))
    return Plan(str(folder), about(data, where), warn(data, voxel_size), decisions)


# Data ------------------------------------------------------------------------------------------------------


def _decide_voxel_size(data: Measured, given: Sequence[float] | None) -> list[Decision]:
    """Written only where the files do not say it."""
    if given is not None:
        return [Decision("data.voxel_size", list(given), "As asked for; it wins over the files.")]
    if not data.silent:
        return []
    reason = f"Not in the files; please write the true one. {shape_of(data.geometry)}"
    return [Decision("data.voxel_size", [1.0] * data.facts.spatial_dims, reason)]


def _decide_normalization(volumes: Sequence[LabelledVolume]) -> Decision:
    tails = [bright_tail(volume.image) for volume in volumes]
    tail = float(np.median(tails))
    if math.isinf(max(tails)):
        reason = "A third of a volume or more has one grey value: no noise to compress bright objects by."
        return Decision("data.normalize", "zscore", reason)
    shown = f"The brightest voxels lie {tail:.1f} times as far from the median as the darkest"
    if tail < LONG_TAIL:
        return Decision("data.normalize", "zscore", f"{shown}: mean and deviation describe them.")
    return Decision(
        "data.normalize", "asinh", f"{shown}: compressed, so that dim objects show beside bright ones."
    )


# Device and network ----------------------------------------------------------------------------------------


def kind_of(device: torch.device) -> str:
    """``cpu`` or ``accelerator``."""
    return "cpu" if device.type == "cpu" else "accelerator"


def _choose_network(
    data: Measured, scale: Sequence[float], need: Sequence[int], budget: int, device: torch.device
) -> Network:
    heads = decide_targets(data.geometry, scale, epochs=1)

    def cost(channels: list[int], levels: Levels) -> Footprint:
        return _cost(channels, levels, data.facts, heads, data.training[0])

    widths = WIDTHS[kind_of(device)][data.facts.spatial_dims]
    return choose_network(need, data.shapes, data.facts.voxel_size, budget, widths, cost)


def _choose_samples(data: Measured, network: Network, device: torch.device) -> tuple[list[int], int]:
    """Crops that an epoch draws from each training volume, and the steps that they make."""
    steps = choose_steps(data.voxels, math.prod(network.crop), network.batch, kind_of(device))
    samples = share_samples(steps * network.batch, data.objects)
    return samples, max(1, sum(samples) // network.batch)  # a batch that is not full is left out


def _budget(device: torch.device, memory: float | None) -> tuple[int, str]:
    """Bytes of a training step, and where the number comes from."""
    if memory is not None:
        if not 0 < memory <= MOST_MEMORY:
            raise SkootsError(f"{memory:g} GB of memory are no budget; give a number up to {MOST_MEMORY:,}.")
        return int(memory * 1e9), f"{memory:g} GB were asked for"
    free = free_memory(device)
    if device.type == "cpu":
        bytes_ = CPU_BYTES if free is None else min(CPU_BYTES, free // 4)
        return (
            bytes_,
            f"{bytes_ / 1e9:.2g} GB are taken on a CPU, where time is scarce; --memory says otherwise",
        )
    assert free is not None
    bytes_ = int(GPU_SHARE * free)
    return bytes_, f"{bytes_ / 1e9:.2g} GB, {100 * GPU_SHARE:.0f} % of what is free on {device}"


def _cost(
    channels: list[int],
    levels: Levels,
    facts: DataFacts,
    targets: Sequence[Decision],
    volume: LabelledVolume,
) -> Footprint:
    """Memory of a step, counted on two small crops of the data itself: one alone is computed in another way,
    see ``models/conv3d.py``."""
    backbone = {"type": "UNet", "channels": channels, "strides": levels.strides, "kernels": levels.kernels}
    model = build_model(load_config(as_tree([Decision("model.backbone", backbone), *targets])), facts)
    crop = [max(2, -(-PROBE_EDGE // s)) * s for s in levels.stride]
    loader = train_loader(CropDataset([(volume, 2)], crop), 2, 0)
    return measure_footprint(model, next(iter(loader)))
