"""Exact changes of position: flips, and swaps of axes with equal voxel edges. No voxel is interpolated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skoots.data.augment.base import AUGMENTATIONS, Augmentation, Window
from skoots.ranges import Share


@AUGMENTATIONS.register
class Flip(Augmentation):
    """Mirror each axis with probability ``rate``.

    Args:
        rate: in [0, 1].
    """

    def __init__(self, rate: Share = 0.5) -> None:
        self.rate = rate

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        ndim = window.labels.ndim
        axes = tuple(int(axis) for axis in np.flatnonzero(rng.random(ndim) < self.rate))
        points = window.skeletons.points.copy()
        for axis in axes:
            points[:, axis] = window.labels.shape[axis] - 1 - points[:, axis]
        return replace(
            window,
            image=np.flip(window.image, tuple(a + 1 for a in axes)),
            labels=np.flip(window.labels, axes),
            valid=np.flip(window.valid, axes),
            skeletons=replace(window.skeletons, points=points),
        )


@AUGMENTATIONS.register
class SwapAxes(Augmentation):
    """Swap two axes of equal voxel edge and window length with probability ``rate``; all turns, with flips.

    Args:
        rate: in [0, 1].
    """

    def __init__(self, rate: Share = 0.5) -> None:
        self.rate = rate

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        order = list(range(window.labels.ndim))
        for a, b in _alike(window):
            if rng.random() < self.rate:
                order[a], order[b] = order[b], order[a]
        return replace(
            window,
            image=window.image.transpose(0, *(1 + a for a in order)),
            labels=window.labels.transpose(order),
            valid=window.valid.transpose(order),
            skeletons=replace(window.skeletons, points=window.skeletons.points[:, order]),
        )


def _alike(window: Window) -> list[tuple[int, int]]:
    shape, size = window.labels.shape, window.voxel_size
    return [
        (a, b)
        for a in range(len(shape))
        for b in range(a + 1, len(shape))
        if shape[a] == shape[b] and abs(size[a] / size[b] - 1) < 0.01
    ]
