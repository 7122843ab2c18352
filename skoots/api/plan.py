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
    CPU_WIDTH_3D,
    WIDTHS,
    Levels,
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
    headers = [open_pair(pair, voxel_size) for pair in find_pairs(folder)]
    store = _choose_store(headers)
    volumes = _open(folder, reading, store)
    facts = DataFacts.of(volumes[0])
    geometries = [measure_objects(volume, seed) for volume in volumes]
    split = _split(volumes, geometries, validation, reading, seed)
    if test is not None:
        _open(test, reading, store, volumes[0])

    learnt = [i for i, volume in enumerate(volumes) if volume.name in split.train]
    training, geometry = [volumes[i] for i in learnt], pool([geometries[i] for i in learnt])
    shapes = [split.cut.train.shape] if split.cut is not None else [volume.shape for volume in training]
    scale = choose_vector_scale(training, seed)
    need = needed_reach(scale, float(np.percentile(geometry.inscribed, LARGE)), facts.voxel_size)
    budget, source = _budget(where, memory)
    kind = "cpu" if where.type == "cpu" else "accelerator"
    widths = CPU_WIDTH_3D if (kind, facts.spatial_dims) == ("cpu", 3) else WIDTHS[kind]
    heads = decide_targets(geometry, scale, epochs=1)
    network = choose_network(
        need,
        shapes,
        facts.voxel_size,
        budget,
        widths,
        lambda c, levels: _cost(c, levels, facts, heads, training[0]),
    )

    crop_voxels, voxels = math.prod(network.crop), sum(math.prod(shape) for shape in shapes)
    samples = share_samples(
        choose_steps(voxels, crop_voxels, network.batch, kind) * network.batch,
        [len(geometries[i]) for i in learnt],
    )
    steps = -(-sum(samples) // network.batch)
    total = epochs or choose_epochs(steps, kind)
    passes = sum(samples) * crop_voxels / voxels
    shown = None if validation is None else str(validation)
    decisions = [
        *decide_sources(str(folder), split, samples, shown, None if test is None else str(test), store),
        *_decide_voxel_size(headers, voxel_size, geometry),
        *([] if ignore_label is None else [Decision("data.ignore_label", ignore_label, "As asked for.")]),
        *decide_network(network, need, shapes, source),
        decide_object_rate(
            share_of_crops_with_objects(training, network.crop, seed), geometry.foreground_share
        ),
        _decide_normalization(training),
        Decision("data.augment", AUGMENT),
        *decide_targets(geometry, scale, total),
        *decide_schedule(steps, total, passes, kind, split.held_out, cpu_count()),
        Decision("train_settings.seed", seed),
    ]
    order = ["data", "model", "runner", "train_settings"]
    decisions.sort(key=lambda decision: order.index(decision.key.split(".")[0]))
    return Plan(
        str(folder),
        _about(volumes, headers, geometry, where),
        _warnings(headers, voxel_size, geometry),
        decisions,
    )


# Data ------------------------------------------------------------------------------------------------------


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


def _decide_voxel_size(
    headers: Sequence[tuple[Volume, Volume]], given: Sequence[float] | None, geometry: ObjectGeometry
) -> list[Decision]:
    """Written only where the files do not say it."""
    if given is not None:
        return [Decision("data.voxel_size", list(given), "As asked for; it wins over the files.")]
    if not _silent(headers):
        return []
    ones = [1.0] * headers[0][0].spatial_dims
    return [
        Decision(
            "data.voxel_size", ones, f"Not in the files; please write the true one. {_shape_of(geometry)}"
        )
    ]


def _silent(headers: Sequence[tuple[Volume, Volume]]) -> list[Volume]:
    """Images of which neither they nor their labels state a voxel size."""
    return [image for image, labels in headers if image.voxel_size is None and labels.voxel_size is None]


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


def _about(
    volumes: Sequence[LabelledVolume],
    headers: Sequence[tuple[Volume, Volume]],
    geometry: ObjectGeometry,
    device: torch.device,
) -> list[str]:
    """What was measured, in sentences."""
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


def _warnings(
    headers: Sequence[tuple[Volume, Volume]], given: Sequence[float] | None, geometry: ObjectGeometry
) -> list[str]:
    """What the user should look at."""
    warnings = []
    silent = _silent(headers) if given is None else []
    if silent:
        others = f" and {len(silent) - 1} others" if len(silent) > 1 else ""
        warnings.append(
            f"{silent[0].path}{others} state no voxel size, so voxels are taken for cubes. "
            f"{_shape_of(geometry)} "
            "Plan again with --voxel-size if they are no cubes."
        )
    if geometry.touching_skeletons:
        warnings.append(
            f"The skeletons of {some(geometry.touching_skeletons, 'pair')} of objects touch: decoding "
            "merges these, "
            "however well the network learns."
        )
    return warnings
