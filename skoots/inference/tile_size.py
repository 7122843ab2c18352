"""How large a tile may be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

VOXELS_AT_ONCE = 8_000_000
TILE_COST = 1000  # what a tile costs besides its voxels, in voxels


def affordable_voxels(channels: int) -> int:
    """Voxels that may be read at once by a network whose finest features have so many channels: about 4
    GB."""
    return VOXELS_AT_ONCE * 16 // max(16, channels)


def choose_core(
    shape: Sequence[int], halo: Sequence[int], stride: Sequence[int], voxels: int = VOXELS_AT_ONCE
) -> tuple[int, ...]:
    """Core of equal tiles that together read the fewest voxels, while none reads more than ``voxels``.

    Tiles that are hardly larger than their halos read everything many times over. So where the smallest tile
    is large already, tiles may read twice as much as that one.

    Args:
        shape: voxels of the volume.
        halo: margin on both sides.
        stride: cores are multiples of it.
        voxels: what is read at once; a network needs about 30 bytes for each, times its first ``channels``.
    """
    axes = [_cuts(*axis) for axis in zip(shape, halo, stride)]
    count, largest, total = (
        reduce(np.multiply.outer, [numbers[row] for _, numbers in axes]) for row in range(3)
    )
    fits = largest <= max(voxels, 2 * largest.min())
    best = np.unravel_index(np.argmin(np.where(fits, total + TILE_COST * count, np.inf)), total.shape)
    return tuple(cores[index] for (cores, _), index in zip(axes, best))


def _cuts(length: int, halo: int, stride: int) -> tuple[list[int], np.ndarray]:
    """All cores that cut an axis in parts as equal as can be, and for each the number of tiles, the longest
    read and the sum of all reads."""
    margin = -(-halo // stride) * stride  # tiles are read from multiples of the stride on
    steps = -(-length // stride)
    cores = sorted({-(-steps // parts) * stride for parts in range(1, steps + 1)})
    numbers = []
    for core in cores:
        reads = [
            min(length, start + core + margin) - max(0, start - margin) for start in range(0, length, core)
        ]
        numbers.append([len(reads), max(reads), sum(reads)])
    return cores, np.array(numbers, float).T
