"""Which box next: training windows drawn at random, validation windows that cover a volume."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from skoots.geometry import Box
from skoots.skeletons import Skeletons


def random_crop(
    shape: Sequence[int],
    crop: Sequence[int],
    skeletons: Skeletons,
    rng: np.random.Generator,
    object_rate: float = 0.5,
) -> Box:
    """A training window; longer than the volume along an axis, it is centred there and sticks out.

    Args:
        shape: voxels of the volume.
        crop: voxels of the window.
        skeletons: of the volume's objects.
        rng: all randomness.
        object_rate: share of windows that hold a given skeleton point: first an object is drawn, all alike,
            then one of its points, so that small and rare objects are seen as often as large ones. The others
            lie anywhere.
    """
    room = [max(0, n - c) for n, c in zip(shape, crop)]
    start = np.array([rng.integers(0, r + 1) for r in room])
    if len(skeletons) and rng.random() < object_rate:
        row = rng.integers(len(skeletons))
        points = skeletons.points[skeletons.starts[row] : skeletons.starts[row + 1]]
        if len(points):
            point = points[rng.integers(len(points))].astype(int)
            start = np.clip(point - [rng.integers(0, c) for c in crop], 0, room)
    overhang = [-(max(0, c - n) // 2) for n, c in zip(shape, crop)]
    return Box.at(tuple(int(s) if r else o for s, r, o in zip(start, room, overhang)), crop)


def covering_crops(shape: Sequence[int], crop: Sequence[int]) -> list[Box]:
    """Windows that cover a volume without overlap, as equal as can be, none longer than ``crop``."""
    parts = [-(-n // c) for n, c in zip(shape, crop)]
    cuts = [[(i * n // p, (i + 1) * n // p) for i in range(p)] for n, p in zip(shape, parts)]
    return [Box(*zip(*intervals)) for intervals in itertools.product(*cuts)]
