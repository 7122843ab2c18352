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
from skoots.api.planning.decision import Decision, as_tree, by, some
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
from skoots.api.planning.split import Split, choose_split, decide_sources
from skoots.api.planning.targets import decide_targets
from skoots.config import load_config
from skoots.config.commented import dump_commented
from skoots.data.dataset import CropDataset, Folder, Reading, check_alike, open_pair, reading_threads
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.loaders import train_loader
from skoots.data.normalize import bright_tail
from skoots.data.object_geometry import ObjectGeometry, measure_objects, pool
from skoots.data.pairs import find_pairs
from skoots.errors import SkootsError
from skoots.geometry import relative_spacing
from skoots.models.footprint import Footprint, measure_footprint
from skoots.runtime import choose_device, cpu_count, free_memory
from skoots.volumes import Volume

CPU_BYTES = 750_000_000  # what a few cores step through in seconds; time is scarce there, not memory
GPU_SHARE = 0.8  # of the free memory; the rest is for fragments and the validation
MEMORY_SHARE = 0.5  # of the free main memory that volumes may fill
SECTIONS = ["data", "model", "runner", "train_settings"]
LONG_TAIL = 3.0
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
        try:
            path.write_text(self.text(path), encoding="utf-8")
        except OSError as error:
            raise SkootsError(f"{path} cannot be written: {error.strerror}.") from error


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
    where = choose_device(device or "auto")
    reading = Reading(voxel_size, ignore_label=ignore_label, threads=reading_threads())
    data = _measure(folder, validation, reading, seed)
    if test is not None:
        _open(test, reading, data.store, data.training[0])
    scale = choose_vector_scale(data.training, seed)
    large = float(np.percentile(data.geometry.inscribed, LARGE))
    need = needed_reach(scale, large, data.facts.voxel_size)
    budget, source = _budget(where, memory)
    network = _choose_network(data, scale, need, budget, where)
    samples, steps = _choose_samples(data, network, where)
    total = epochs or choose_epochs(steps, kind_of(where))
    passes = sum(samples) * math.prod(network.crop) / data.voxels
    names = [None if other is None else str(other) for other in (validation, test)]
    decisions = [
        *decide_sources(str(folder), data.split, samples, *names, data.store),
        *_decide_voxel_size(data, voxel_size),
        *([] if ignore_label is None else [Decision("data.ignore_label", ignore_label, "As asked for.")]),
        *decide_network(network, need, data.shapes, source),
        decide_object_rate(
            share_of_crops_with_objects(data.training, network.crop, seed), data.geometry.foreground_share
        ),
        _decide_normalization(data.training),
        Decision("data.augment", AUGMENT),
        *decide_targets(data.geometry, scale, total),
        *decide_schedule(steps, total, passes, kind_of(where), data.split.held_out, cpu_count()),
        Decision("train_settings.seed", seed),
    ]
    decisions.sort(key=lambda decision: SECTIONS.index(decision.key.split(".")[0]))
    return Plan(str(folder), _about(data, where), _warnings(data, voxel_size), decisions)


# Data ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    """What was measured.

    Args:
        volumes: of the folder.
        headers: image and labels of each, as the files state them.
        split: what is trained on.
        training: the volumes to train on, whole.
        objects: of each of these.
        geometry: of all these objects.
        facts: channels, dimensions, voxel size.
        store: where the volumes are kept.
    """

    volumes: list[LabelledVolume]
    headers: list[tuple[Volume, Volume]]
    split: Split
    training: list[LabelledVolume]
    objects: list[int]
    geometry: ObjectGeometry
    facts: DataFacts
    store: str

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of what is trained on: of the only volume a part, if it was divided."""
        cut = self.split.cut
        return [volume.shape for volume in self.training] if cut is None else [cut.train.shape]

    @property
    def voxels(self) -> int:
        """That are trained on."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def silent(self) -> list[Volume]:
        """Images of which neither they nor their labels state a voxel size."""
        return [
            image for image, labels in self.headers if image.voxel_size is None and labels.voxel_size is None
        ]


def _measure(folder: Path | str, validation: Path | str | None, reading: Reading, seed: int) -> _Data:
    headers = [open_pair(pair, reading.voxel_size) for pair in find_pairs(folder)]
    store = _choose_store(headers)
    volumes = _open(folder, reading, store)
    geometries = [measure_objects(volume, seed) for volume in volumes]
    split = _split(volumes, geometries, validation, reading, seed)
    learnt = [i for i, volume in enumerate(volumes) if volume.name in split.train]
    return _Data(
        volumes,
        headers,
        split,
        [volumes[i] for i in learnt],
        [len(geometries[i]) for i in learnt],
        pool([geometries[i] for i in learnt]),
        DataFacts.of(volumes[0]),
        store,
    )


def _open(
    folder: Path | str, reading: Reading, store: Any, first: LabelledVolume | None = None
) -> list[LabelledVolume]:
    volumes = Folder(str(folder), store=store).open(reading)
    for volume in volumes:
        check_alike(first or volumes[0], volume)
    return volumes


def _choose_store(headers: Sequence[tuple[Volume, Volume]]) -> str:
    """``disk`` if the volumes would fill too much of the main memory."""
    free = free_memory(torch.device("cpu"))
    size = sum(
        math.prod(volume.shape) * (volume.channels or 1) * volume.dtype.itemsize
        for pair in headers
        for volume in pair
    )
    return "disk" if free is not None and size > MEMORY_SHARE * free else "memory"


def _split(
    volumes: Sequence[LabelledVolume],
    geometries: Sequence[ObjectGeometry],
    validation: Path | str | None,
    reading: Reading,
    seed: int,
) -> Split:
    names = [volume.name for volume in volumes]
    if validation is None:
        return choose_split(names, [v.shape for v in volumes], volumes[0].voxel_size, geometries, seed)
    others = _open(validation, reading, "memory", volumes[0])
    objects = sum(len(volume.skeletons) for volume in others)
    return Split(
        names, [], None, objects, f"As asked for: {some(len(others), 'volume')}, {some(objects, 'object')}."
    )


def _decide_voxel_size(data: _Data, given: Sequence[float] | None) -> list[Decision]:
    """Written only where the files do not say it."""
    if given is not None:
        return [Decision("data.voxel_size", list(given), "As asked for; it wins over the files.")]
    if not data.silent:
        return []
    reason = f"Not in the files; please write the true one. {_shape_of(data.geometry)}"
    return [Decision("data.voxel_size", [1.0] * data.facts.spatial_dims, reason)]


def _shape_of(geometry: ObjectGeometry) -> str:
    extent = np.median(geometry.stops - geometry.starts, axis=0)
    return (
        f"Half of the objects are longer than {by(extent)} voxels; were they as long along every axis, "
        f"voxels would be {by((extent.max() / extent).round(1))}."
    )


def _decide_normalization(volumes: Sequence[LabelledVolume]) -> Decision:
    tail = float(np.median([bright_tail(volume.image) for volume in volumes]))
    if math.isinf(tail):
        reason = "Half of a volume or more has its darkest value: no noise to compress bright objects by."
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
    data: _Data, scale: Sequence[float], need: Sequence[int], budget: int, device: torch.device
) -> Network:
    heads = decide_targets(data.geometry, scale, epochs=1)

    def cost(channels: list[int], levels: Levels) -> Footprint:
        return _cost(channels, levels, data.facts, heads, data.training[0])

    widths = WIDTHS[kind_of(device)][data.facts.spatial_dims]
    return choose_network(need, data.shapes, data.facts.voxel_size, budget, widths, cost)


def _choose_samples(data: _Data, network: Network, device: torch.device) -> tuple[list[int], int]:
    """Crops that an epoch draws from each training volume, and the steps that they make."""
    steps = choose_steps(data.voxels, math.prod(network.crop), network.batch, kind_of(device))
    samples = share_samples(steps * network.batch, data.objects)
    return samples, -(-sum(samples) // network.batch)


def _budget(device: torch.device, memory: float | None) -> tuple[int, str]:
    """Bytes of a training step, and where the number comes from."""
    if memory is not None:
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
    """Memory of a step, counted on one small crop of the data itself."""
    backbone = {"type": "UNet", "channels": channels, "strides": levels.strides, "kernels": levels.kernels}
    model = build_model(load_config(as_tree([Decision("model.backbone", backbone), *targets])), facts)
    crop = [max(2, -(-PROBE_EDGE // s)) * s for s in levels.stride]
    loader = train_loader(CropDataset([(volume, 1)], crop), 1, 0)
    return measure_footprint(model, next(iter(loader)))


# In words --------------------------------------------------------------------------------------------------


def _about(data: _Data, device: torch.device) -> list[str]:
    """What was measured, in sentences."""
    volumes, headers, geometry = data.volumes, data.headers, data.geometry
    largest = max((volume.shape for volume in volumes), key=math.prod)
    size = volumes[0].voxel_size
    unit = headers[0][0].unit or headers[0][1].unit or ""
    small, middle, large = np.percentile(geometry.inscribed, [5, 50, 95])
    short, usual, long = np.percentile(geometry.lengths, [5, 50, 95])
    lines = [
        f"{some(len(volumes), 'volume')} of up to {by(largest)} voxels of {by(size)} {unit}".rstrip()
        + f" (in proportion {by([round(s, 2) for s in relative_spacing(size)])}); planned for {device}.",
        f"{some(len(geometry), 'object')} to learn from, of {int(np.median(geometry.sizes)):,} voxels in "
        "the middle; "
        f"inscribed radius {small:.1f} / {middle:.1f} / {large:.1f} and skeleton length {short:.0f} / "
        f"{usual:.0f} / {long:.0f} "
        "finest voxels (5 / 50 / 95 %).",
        f"{100 * geometry.foreground_share:.0f} % foreground; {some(geometry.touching, 'pair')} of objects "
        "share a face, "
        f"{geometry.close} more come within a voxel of each other.",
    ]
    return lines


def _warnings(data: _Data, given: Sequence[float] | None) -> list[str]:
    """What the user should look at."""
    warnings, geometry = [], data.geometry
    if data.silent and given is None:
        others = f" and {len(data.silent) - 1} others" if len(data.silent) > 1 else ""
        warnings.append(
            f"{data.silent[0].path}{others} state no voxel size, so voxels are taken for cubes. "
            f"{_shape_of(geometry)} Plan again with --voxel-size if they are no cubes."
        )
    if geometry.touching_skeletons:
        warnings.append(
            f"The skeletons of {some(geometry.touching_skeletons, 'pair')} of objects touch: decoding "
            "merges these, "
            "however well the network learns."
        )
    return warnings
