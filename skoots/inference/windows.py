"""Which parts of volumes are looked at where not all can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from skoots.geometry import Box, tile_volume


def windows(shape: Sequence[int], voxel_size: Sequence[float], most: int) -> list[Box]:
    """A volume in equal boxes, near a cube: halved across the physically longest edge until each is small.

    Args:
        shape: voxels of the volume.
        voxel_size: D edge lengths of a voxel.
        most: voxels of a box.
    """
    core = list(shape)
    parts = [1] * len(shape)
    while math.prod(core) > most:
        axis = max(range(len(core)), key=lambda a: core[a] * voxel_size[a] if core[a] > 1 else 0)
        parts[axis] *= 2
        core[axis] = -(-shape[axis] // parts[axis])
    return [tile.write for tile in tile_volume(shape, core)]


def drawn_windows(
    shapes: Sequence[Sequence[int]], voxel_sizes: Sequence[Sequence[float]], most: int, seed: int = 0
) -> Iterator[tuple[int, Box]]:
    """The windows of several volumes in an order in which the first few speak for all: one of each volume,
    then a second of each, and so on, where they lie drawn by chance.

    Args:
        shapes: voxels of the volumes.
        voxel_sizes: of each.
        most: voxels of a window.
        seed: of the draw.

    Yields:
        The number of a volume and a box of it.
    """
    rng = np.random.default_rng(seed)
    decks = []
    for i in rng.permutation(len(shapes)):
        boxes = windows(shapes[i], voxel_sizes[i], most)
        decks.append([(int(i), boxes[k]) for k in rng.permutation(len(boxes))])
    for dealt in itertools.zip_longest(*decks):
        yield from (window for window in dealt if window is not None)
