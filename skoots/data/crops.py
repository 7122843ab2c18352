"""Which box next: training windows drawn at random, validation windows that cover a volume."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from skoots.geometry import Box


def random_crop(
    shape: Sequence[int],
    crop: Sequence[int],
    rng: np.random.Generator,
    around: np.ndarray | None = None,
    within: Box | None = None,
) -> Box:
    """A training window; longer than the volume along an axis, it is centred there and sticks out.

    Args:
        shape: voxels of the volume.
        crop: voxels of the window.
        rng: all randomness.
        around: (D,) point that the window holds, anywhere in it; None lets it lie anywhere.
        within: part of the volume that the window leaves only where it is longer; it then holds all of the
            part. None is the whole volume. ``around`` must lie in it.
    """
    part = within or Box.of_shape(shape)
    room = [max(0, n - c) for n, c in zip(shape, crop)]
    ends = [sorted((a, b - c)) for a, b, c in zip(part.start, part.stop, crop)]
    low, high = np.clip(np.transpose(ends), 0, room)
    if around is None:
        start = rng.integers(low, high + 1)
    else:
        start = np.clip(np.asarray(around).astype(int) - rng.integers(0, crop), low, high)
    overhang = [-(max(0, c - n) // 2) for n, c in zip(shape, crop)]
    return Box.at(tuple(int(s) if r else o for s, r, o in zip(start, room, overhang)), crop)


def covering_crops(shape: Sequence[int], crop: Sequence[int]) -> list[Box]:
    """Windows that cover a volume without overlap, as equal as can be, none longer than ``crop``."""
    parts = [-(-n // c) for n, c in zip(shape, crop)]
    cuts = [[(i * n // p, (i + 1) * n // p) for i in range(p)] for n, p in zip(shape, parts)]
    return [Box(*zip(*intervals)) for intervals in itertools.product(*cuts)]
