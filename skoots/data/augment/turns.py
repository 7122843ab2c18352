"""Exact changes of position: flips, and swaps of axes with equal voxel edges. No voxel is interpolated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from skoots.data.augment.base import AUGMENTATIONS, Frame, SpatialAugmentation
from skoots.data.augment.spatial_map import SpatialMap
from skoots.ranges import Share


@AUGMENTATIONS.register
class Flip(SpatialAugmentation):
    """Mirror each axis with probability ``rate``.

    Args:
        rate: in [0, 1].
        axes: those that may be mirrored; ``[x]`` exchanges left and right. 2D has no z.
    """

    def __init__(self, rate: Share = 0.5, axes: Sequence[Literal["z", "y", "x"]] = ("z", "y", "x")) -> None:
        self.rate, self.axes = rate, tuple(axes)

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        mirrored = rng.random(frame.ndim) < self.rate
        mirrored &= [axis in self.axes for axis in "zyx"[-frame.ndim :]]
        if not mirrored.any():
            return None
        return SpatialMap.about_centre(frame.shape, np.diag(np.where(mirrored, -1.0, 1.0)))


@AUGMENTATIONS.register
class SwapAxes(SpatialAugmentation):
    """Swap two axes of equal voxel edge and crop length with probability ``rate``; all turns, with flips.

    Args:
        rate: in [0, 1].
    """

    def __init__(self, rate: Share = 0.5) -> None:
        self.rate = rate

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        order = list(range(frame.ndim))
        for a, b in _alike(frame):
            if rng.random() < self.rate:
                order[a], order[b] = order[b], order[a]
        if order == sorted(order):
            return None
        return SpatialMap.about_centre(frame.shape, np.eye(frame.ndim)[:, np.argsort(order)])


def _alike(frame: Frame) -> list[tuple[int, int]]:
    shape, size = frame.shape, frame.voxel_size
    return [
        (a, b)
        for a in range(len(shape))
        for b in range(a + 1, len(shape))
        if shape[a] == shape[b] and abs(size[a] / size[b] - 1) < 0.01
    ]
