"""A volume read through a memory of its chunks: what neighbouring boxes share is decoded once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from skoots.geometry import Box
from skoots.volumes.base import Volume
from skoots.volumes.layout import Layout
from skoots.volumes.segments import SegmentCache

CHUNK = (64, 64, 64)
CHUNK_2D = (512, 512)
LEAST_VOXELS = 32**3


class ChunkCache(Volume):
    """A volume whose chunks stay decoded in a cache, those read last.

    Args:
        volume: what is read.
        cache: where chunks are kept; other volumes may share it.
        stored: D voxels of a chunk of the file; small ones are taken together. None (not chunked) takes 64
            voxels an axis (2D: 512).
    """

    def __init__(self, volume: Volume, cache: SegmentCache, stored: Sequence[int] | None = None) -> None:
        lead = () if volume.channels is None else (volume.channels,)
        dims = tuple(range(len(lead), len(lead) + volume.spatial_dims))
        layout = Layout((*lead, *volume.shape), dims, 0 if lead else None)
        super().__init__(volume.path, layout, volume.dtype, volume.voxel_size, volume.unit)
        self.volume, self.cache, self._stored = volume, cache, stored
        self.chunk = chunk_shape(volume.shape, stored)
        self._owner = cache.owner()

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        spatial = index[-self.spatial_dims :]
        box = Box(tuple(part.start for part in spatial), tuple(part.stop for part in spatial))
        out = np.empty(self._array_shape(box), self.dtype)
        touched = [range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, self.chunk)]
        for cell in itertools.product(*touched):
            chunk = self._chunk_box(cell)
            piece = self.cache.get((self._owner, cell), partial(self.volume.read, chunk))
            both = chunk.intersect(box)
            source = (slice(None),) * (piece.ndim - box.ndim) + both.relative_to(chunk).slices
            target = (slice(None),) * (out.ndim - box.ndim) + both.relative_to(box).slices
            out[target] = piece[source]
        return out

    def _chunk_box(self, cell: Sequence[int]) -> Box:
        start = tuple(i * c for i, c in zip(cell, self.chunk))
        return Box.at(start, self.chunk).intersect(Box.of_shape(self.shape))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.volume, self.cache, self._stored)


def chunk_shape(shape: Sequence[int], stored: Sequence[int] | None) -> tuple[int, ...]:
    """Voxels of the chunks that are kept: whole chunks of the file, of at least 32 cubed voxels together.

    Args:
        shape: D voxels of the volume.
        stored: D voxels of a chunk of the file, None if it has none.
    """
    if stored is None:
        stored = CHUNK_2D if len(shape) == 2 else CHUNK
    chunk = [min(c, n) for c, n in zip(stored, shape)]
    while np.prod(chunk) < LEAST_VOXELS and any(c < n for c, n in zip(chunk, shape)):
        axis = min((c, a) for a, (c, n) in enumerate(zip(chunk, shape)) if c < n)[1]
        chunk[axis] *= 2
    return tuple(chunk)
