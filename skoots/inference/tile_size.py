"""How large a tile may be."""

from __future__ import annotations

import math
from collections.abc import Sequence

VOXELS_AT_ONCE = 2_500_000


def choose_core(
    shape: Sequence[int], halo: Sequence[int], stride: Sequence[int], voxels: int = VOXELS_AT_ONCE
) -> tuple[int, ...]:
    """Core of the tiles such that a tile with its halo has at most ``voxels`` voxels, if that is possible at
    all.

    The axis along which most tiles are saved stays longest: the longest core is halved until the tile fits.

    Args:
        shape: voxels of the volume.
        halo: margin on both sides.
        stride: cores are multiples of it.
        voxels: what is read at once; a network with 16 channels needs about 400 bytes of memory for each.
    """
    core = [-(-n // s) * s for n, s in zip(shape, stride)]
    margin = [-(-h // s) * s for h, s in zip(halo, stride)]  # tiles are read from multiples of the stride on

    def read_size() -> int:
        return math.prod(min(n, c + 2 * m) for n, c, m in zip(shape, core, margin))

    while read_size() > voxels:
        divisible = [axis for axis in range(len(core)) if core[axis] > stride[axis]]
        if not divisible:
            break
        axis = max(divisible, key=lambda a: core[a])
        core[axis] = -(-core[axis] // (2 * stride[axis])) * stride[axis]
    return tuple(core)
