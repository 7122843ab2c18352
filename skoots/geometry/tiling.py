"""Cutting a volume into tiles that together write every voxel exactly once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from skoots.geometry.box import Box


@dataclass(frozen=True)
class Tile:
    """One step of the loop over space.

    ::

        |hhhh|cccccccccc|hhhh|      c = core: what the tile writes; cores partition the volume
        ^ read          ^           h = halo: what it reads besides, so that the core is exact

    Args:
        read: box that is read; at the rim of the volume the halo is cut off, not padded.
        write: box that is written (the core).
    """

    read: Box
    write: Box

    @property
    def core(self) -> Box:
        """The core, counted from the start of the read box."""
        return self.write.relative_to(self.read)


def tile_volume(
    shape: Sequence[int],
    core: Sequence[int],
    halo: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
) -> list[Tile]:
    """Tiles of a volume, in array order.

    Args:
        shape: voxels of the volume per axis.
        core: voxels that a tile writes per axis; cut at the rim.
        halo: voxels read beyond the core on both sides.
        stride: read boxes begin at multiples of this, so that a strided network sees the same grid in every
            tile.
    """
    ndim = len(shape)
    halo, stride = halo or (0,) * ndim, stride or (1,) * ndim
    whole = Box.of_shape(shape)
    starts = [range(0, n, c) for n, c in zip(shape, core)]
    tiles = []
    for start in itertools.product(*starts):
        write = Box.at(start, core).intersect(whole)
        reach = write.grow(tuple(halo))
        aligned = Box(
            tuple(a // s * s for a, s in zip(reach.start, stride)),
            tuple(-(-b // s) * s for b, s in zip(reach.stop, stride)),
        )
        tiles.append(Tile(aligned.intersect(whole), write))
    return tiles
