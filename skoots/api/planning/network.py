"""Depth, strides, width, crop and batch: what the objects need, within a memory budget.

As nnU-Net (Isensee et al. 2021) does: strides and kernels follow the voxel size, the crop fills the memory.
Its depth follows the crop; here it follows the objects, since vectors must be seen whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from skoots.api.decide import choose_crop
from skoots.api.planning.decision import Decision, by
from skoots.errors import SkootsError
from skoots.geometry import relative_spacing
from skoots.models.backbones.unet import UNet, plan_levels
from skoots.models.footprint import Footprint

LEVELS = (3, 4, 5, 6)
EFFECTIVE = 0.5  # share of a receptive field that counts for much (Luo et al. 2016)
SHORTEST_EDGE = 4  # voxels that halving must leave of a volume's axis, as in nnU-Net
STRIDES_PER_CROP = 2  # voxels that halving must leave of a crop's axis
WIDEST_LEVEL = 8  # times the channels of the finest level
WIDTHS: dict[str, dict[int, tuple[int, ...]]] = {  # channels of the finest level by dimensions, widest first
    "accelerator": {2: (32, 24, 16), 3: (32, 24, 16, 12)},
    "cpu": {2: (16,), 3: (12,)},
}
BATCH = 2
LARGEST_BATCH = 8
MOST_UNEVEN = 1.5  # the longest side of a crop by its shortest, unless a volume is shorter
CROP_PER_FIELD = 4  # a crop longer than so many receptive fields shows no voxel more of its surroundings


@dataclass(frozen=True)
class Levels:
    """The resolutions of a U-Net.

    Args:
        strides: per level but the first, D integers.
        kernels: per level, D odd integers.
    """

    strides: list[list[int]]
    kernels: list[list[int]]

    def channels(self, width: int) -> list[int]:
        """Features per level, doubled from level to level."""
        return [width * min(2**level, WIDEST_LEVEL) for level in range(len(self.kernels))]

    @property
    def stride(self) -> list[int]:
        return [math.prod(axis) for axis in zip(*self.strides)]

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """Voxels on either side that a voxel of the network's features depends on."""
        with torch.device("meta"):
            channels = [1] * len(self.kernels)
            dims = len(self.kernels[0])
            return UNet(1, dims, channels, strides=self.strides, kernels=self.kernels).receptive_field


@dataclass(frozen=True)
class Network:
    """A network with the window that it is trained on.

    Args:
        levels: strides and kernels.
        channels: features per level.
        crop: training window.
        batch: crops in a step.
        footprint: memory of a step.
    """

    levels: Levels
    channels: list[int]
    crop: list[int]
    batch: int
    footprint: Footprint

    @property
    def bytes(self) -> int:
        """Of one training step."""
        return self.footprint.bytes_for(self.batch * _padded(self.crop, self.levels.stride))


def needed_reach(scale: Sequence[float], radius: float, voxel_size: Sequence[float]) -> list[int]:
    """Voxels on either side that a voxel must see: the longest vector, and an object from wall to wall.

    Args:
        scale: D voxels that a vector of length 1 spans.
        radius: inscribed radius of a large object, finest voxels.
        voxel_size: D edge lengths of a voxel.
    """
    across = [2 * radius / spacing for spacing in relative_spacing(voxel_size)]
    return [math.ceil(max(pair) / EFFECTIVE) for pair in zip(scale, across)]


def shape_levels(count: int, voxel_size: Sequence[float], longest: Sequence[int]) -> Levels:
    """Strides and kernels that follow the voxel size; an axis of few voxels is not halved.

    Args:
        count: of levels.
        voxel_size: D edge lengths of a voxel.
        longest: voxels of the longest volume along each axis.
    """
    strides, kernels = plan_levels(count, voxel_size)
    so_far = [1] * len(longest)
    kept = []
    for step in strides:
        step = tuple(s if n >= SHORTEST_EDGE * f * s else 1 for s, n, f in zip(step, longest, so_far))
        so_far = [f * s for f, s in zip(so_far, step)]
        kept.append(list(step))
    windows = [[k if n > 1 else 1 for k, n in zip(kernel, longest)] for kernel in kernels]
    return Levels(kept, windows)


def choose_levels(need: Sequence[int], voxel_size: Sequence[float], longest: Sequence[int]) -> Levels:
    """The fewest levels whose receptive field reaches as far as the objects need, or the volumes go."""
    for count in LEVELS:
        levels = shape_levels(count, voxel_size, longest)
        if all(field >= min(n, edge - 1) for field, n, edge in zip(levels.receptive_field, need, longest)):
            break
    return levels


def choose_network(
    need: Sequence[int],
    shapes: Sequence[Sequence[int]],
    voxel_size: Sequence[float],
    budget: int,
    widths: Sequence[int],
    cost: Callable[[list[int], Levels], Footprint],
) -> Network:
    """The widest network, of those allowed, whose crop still holds what the objects need; else the narrowest.

    Args:
        need: D voxels, see ``needed_reach``.
        shapes: of the volumes.
        voxel_size: D edge lengths of a voxel.
        budget: bytes of a training step.
        widths: channels of the finest level, widest first.
        cost: channels and levels to the memory of a step.

    Raises:
        SkootsError: not even the smallest crop fits.
    """
    longest = [max(axis) for axis in zip(*shapes)]
    levels = choose_levels(need, voxel_size, longest)
    while True:
        for width in widths:
            channels = levels.channels(width)
            footprint = cost(channels, levels)
            crop = _largest_crop(footprint.voxels_in(budget), levels, shapes, voxel_size)
            if _holds(crop, need, longest):
                break
        if (
            _holds(crop, [STRIDES_PER_CROP * s for s in levels.stride], longest)
            or len(levels.kernels) == LEVELS[0]
        ):
            break
        levels = shape_levels(len(levels.kernels) - 1, voxel_size, longest)  # too deep for so small a crop
    batch = footprint.voxels_in(budget) // _padded(crop, levels.stride)
    shallow = shape_levels(LEVELS[0], voxel_size, longest).stride
    least = [min(SHORTEST_EDGE * s, n) for s, n in zip(shallow, longest)]
    if not batch or not _holds(crop, least, longest):
        smallest = footprint.bytes_for(_padded(least, levels.stride)) / 1e9
        raise SkootsError(
            f"{budget / 1e9:.2g} GB hold no training step: a crop of {by(least)} voxels takes "
            f"{smallest:.2g} GB. "
            "Give more with --memory."
        )
    complete = _holds(crop, need, longest) or _holds(crop, _largest_useful(levels), longest)
    return Network(levels, channels, crop, min(batch, LARGEST_BATCH if complete else BATCH), footprint)


def _holds(crop: Sequence[int], wanted: Sequence[int], longest: Sequence[int]) -> bool:
    """Whether a crop is as long as wanted along every axis, or as the volumes."""
    return all(c >= min(w, n) for c, w, n in zip(crop, wanted, longest))


def _largest_useful(levels: Levels) -> list[int]:
    return [CROP_PER_FIELD * max(field, s) for field, s in zip(levels.receptive_field, levels.stride)]


def _largest_crop(
    affordable: int, levels: Levels, shapes: Sequence[Sequence[int]], voxel_size: Sequence[float]
) -> list[int]:
    """A window of which two fit into ``affordable`` voxels: near a cube, then longer where there is room."""
    stride, spacing = levels.stride, relative_spacing(voxel_size)
    capped = [[min(n, m) for n, m in zip(shape, _largest_useful(levels))] for shape in shapes]
    longest = [max(axis) for axis in zip(*capped)]
    voxels = max(1, affordable // BATCH)
    crop = choose_crop(capped, voxel_size, stride, voxels)
    while _padded(crop, stride) * BATCH > affordable and voxels > math.prod(stride):
        voxels = int(0.9 * voxels)  # sides are rounded to the stride, up too
        crop = choose_crop(capped, voxel_size, stride, voxels)
    while True:
        sets = _grown_together(crop, longest, spacing)
        longer = [
            [min(n, c + s) if a in axes else c for a, (c, s, n) in enumerate(zip(crop, stride, longest))]
            for axes in sets
        ]
        shortest = min((crop[axes[0]] * spacing[axes[0]] for axes in sets), default=0)
        fitting = [
            grown
            for axes, grown in zip(sets, longer)
            if _padded(grown, stride) * BATCH <= affordable
            and grown[axes[0]] * spacing[axes[0]] <= MOST_UNEVEN * shortest
        ]
        if not fitting:
            return crop
        crop = fitting[0]


def _grown_together(
    crop: Sequence[int], longest: Sequence[int], spacing: Sequence[float]
) -> list[tuple[int, ...]]:
    """Sets of axes that may become longer, physically shortest first.

    The two in the plane stay equal, so that augmentation can exchange them.
    """
    free = [axis for axis, (c, n) in enumerate(zip(crop, longest)) if c < n]
    plane = (len(crop) - 2, len(crop) - 1)
    alike = set(plane) <= set(free) and len({(crop[a], spacing[a]) for a in plane}) == 1
    sets = [(a,) for a in free if not (alike and a in plane)] + ([plane] if alike else [])
    return sorted(sets, key=lambda axes: crop[axes[0]] * spacing[axes[0]])


def _padded(crop: Sequence[int], stride: Sequence[int]) -> int:
    """Voxels of a crop as the network sees it."""
    return math.prod(-(-c // s) * s for c, s in zip(crop, stride))


def decide_network(
    network: Network, need: Sequence[int], shapes: Sequence[Sequence[int]], memory: str
) -> list[Decision]:
    """What a chosen network means for the config, and why.

    Args:
        network: chosen.
        need: D voxels that it was chosen for.
        shapes: of the volumes.
        memory: where the budget comes from, e.g. ``8 GB as asked for``.
    """
    levels, longest = network.levels, [max(axis) for axis in zip(*shapes)]
    field = levels.receptive_field
    reaches = all(f >= min(n, edge - 1) for f, n, edge in zip(field, need, longest))
    holds = all(c >= min(n, edge) for c, n, edge in zip(network.crop, need, longest))
    wanted = [min(n, edge) for n, edge in zip(need, longest)]
    depth = (
        f"{len(levels.kernels)} levels see {by(field)} voxels on either side, of which half count for much; "
        f"the longest vector, and a large object from wall to wall, need {by(need)} so"
        + ("." if reaches else ": more levels would not fit the crop or the volumes.")
    )
    step = levels.stride
    uneven = "" if len(set(step)) == 1 else ", since voxels or volumes are longer along some axes than others"
    strides = (
        f"Features are coarsest by {by(step)} voxels{uneven}; a coarse axis is neither halved nor convolved "
    )
    strides += "until the others have caught up."
    crop = (
        f"A step on {network.batch} crops takes about {network.bytes / 1e9:.2g} GB ({memory}; "
        f"{network.footprint.per_voxel:.0f} bytes a voxel). "
    )
    crop += (
        "The crop holds what a voxel must see."
        if holds
        else f"It is smaller than the {by(wanted)} voxels that the largest objects need: --memory gives more."
    )
    return [
        Decision("data.crop_size", network.crop, crop),
        Decision("model.backbone.type", "UNet"),
        Decision("model.backbone.channels", network.channels, depth),
        Decision("model.backbone.strides", levels.strides, strides),
        Decision("model.backbone.kernels", levels.kernels),
        Decision("train_settings.batch_size", network.batch, _about_batch(network)),
    ]


def _about_batch(network: Network) -> str:
    if network.batch == LARGEST_BATCH:
        return (
            "As many as are useful: the crop shows what is to be seen, and memory is left for more of them."
        )
    if network.batch > BATCH:
        return "As many as fit: the crop shows what is to be seen already."
    if network.batch == BATCH:
        return "Two; what memory is left goes to the crop."
    return "One, all that fits."
