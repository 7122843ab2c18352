"""Tiles write every voxel once, read what they promise, and begin on the network's grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skoots.geometry import Box, tile_volume


@st.composite
def tilings(draw):
    ndim = draw(st.integers(2, 3))

    def numbers(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * ndim))

    return numbers(1, 14), numbers(1, 16), numbers(0, 5), numbers(1, 4)


@given(tilings())
@settings(max_examples=120, deadline=None)
def test_tiles_partition_the_volume_and_read_their_halo(tiling):
    shape, core, halo, stride = tiling
    written = np.zeros(shape, int)
    whole = Box.of_shape(shape)
    for tile in tile_volume(shape, core, halo, stride):
        written[tile.write.slices] += 1
        assert whole.contains(tile.read) and tile.read.contains(tile.write.grow(halo).intersect(whole))
        assert all(a % s == 0 for a, s in zip(tile.read.start, stride))
        assert all(b % s == 0 or b == n for b, s, n in zip(tile.read.stop, stride, shape))
        # No tile reads more than alignment asks for.
        assert all(n < c + 2 * h + 2 * s for n, c, h, s in zip(tile.read.shape, core, halo, stride))
    assert (written == 1).all()


@given(tilings())
@settings(max_examples=30, deadline=None)
def test_copying_core_by_core_gives_the_volume_back(tiling):
    shape, core, halo, stride = tiling
    volume = np.arange(np.prod(shape)).reshape(shape)  # voxels encode their position
    copy = np.full(shape, -1)
    for tile in tile_volume(shape, core, halo, stride):
        copy[tile.write.slices] = volume[tile.read.slices][tile.core.slices]
    assert np.array_equal(copy, volume)


def test_tiles_come_in_array_order():
    starts = [tile.write.start for tile in tile_volume((5, 7), (3, 4))]
    assert starts == [(0, 0), (0, 4), (3, 0), (3, 4)]
