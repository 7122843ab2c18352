"""How large a tile may be."""

from __future__ import annotations

import math
from collections.abc import Sequence

VOXELS_AT_ONCE = 2_500_000


def choose_core(
    shape: Sequence[int], halo: Sequence[int], stride: Sequence[int], voxels: int = VOXELS_AT_ONCE
) -> tuple[int, ...]:
    """Core of the tiles such that a tile with its halo has at most ``voxels`` voxels, if that is possible at all.

    The axis along which most tiles are saved stays longest: the longest core is halved until the tile fits.

    Args:
        shape: voxels of the volume.
        halo: margin on both sides.
        stride: cores are multiples of it.
        voxels: what is read at once; a network with 16 channels needs about 400 bytes of memory for each.
    """
    core = [-(-n // s) * s for n, s in zip(shape, stride)]

    def read_size() -> int:
        return math.prod(min(n, c + 2 * h) for n, c, h in zip(shape, core, halo))

    while read_size() > voxels:
        axis = max(range(len(core)), key=lambda a: core[a])
        smaller = -(-core[axis] // 2 // stride[axis]) * stride[axis]
        if smaller >= core[axis]:
            break
        core[axis] = smaller
    return tuple(core)
