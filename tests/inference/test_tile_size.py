"""How large a tile may be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from skoots.geometry import tile_volume
from skoots.inference.tile_size import VOXELS_AT_ONCE, choose_core


def largest_read(
    shape: tuple[int, ...], core: tuple[int, ...], halo: tuple[int, ...], stride: tuple[int, ...]
) -> int:
    return max(tile.read.size for tile in tile_volume(shape, core, halo, stride))


@pytest.mark.parametrize("shape", [(20, 30, 41), (100, 7), (1, 1, 1)])
def test_what_fits_is_one_tile(shape: tuple[int, ...]) -> None:
    stride = (4,) * len(shape)
    core = choose_core(shape, (9,) * len(shape), stride)
    assert core == tuple(-(-n // 4) * 4 for n in shape)
    assert len(tile_volume(shape, core, (9,) * len(shape), stride)) == 1


def test_the_longest_axis_is_halved_first() -> None:
    assert choose_core((64, 16), (0, 0), (1, 1), 512) == (32, 16)
    assert choose_core((64, 16), (0, 0), (1, 1), 511) == (16, 16)
    assert choose_core((64, 24), (0, 0), (8, 8), 63) == (8, 8)


def test_random_cores_are_multiples_of_the_stride_and_fit() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        ndim = int(rng.integers(2, 4))
        shape = tuple(int(n) for n in rng.integers(1, 120, ndim))
        halo = tuple(int(n) for n in rng.integers(0, 12, ndim))
        stride = tuple(int(n) for n in rng.choice([1, 2, 4, 8], ndim))
        voxels = int(10 ** rng.uniform(2, 5))
        core = choose_core(shape, halo, stride, voxels)
        assert all(c % s == 0 and c >= s for c, s in zip(core, stride))
        assert core == stride or largest_read(shape, core, halo, stride) <= voxels


def test_an_axis_that_cannot_be_cut_does_not_stop_the_others() -> None:
    """Steps of 16 along y and x; only z can make the tile small enough."""
    shape, halo, stride = (400, 64, 64), (2, 24, 24), (1, 16, 16)
    core = choose_core(shape, halo, stride, 8 * 64 * 64)
    assert (
        largest_read(shape, core, halo, stride)
        <= 8 * 64 * 64
        < largest_read(shape, (16, 16, 16), halo, stride)
    )


def test_what_cannot_fit_at_all_is_as_small_as_can_be() -> None:
    assert choose_core((100, 100, 100), (40, 40, 40), (8, 8, 8), 1000) == (8, 8, 8)


def test_a_usual_volume_is_cut_in_few_tiles() -> None:
    shape, halo, stride = (100, 1000, 1000), (20, 44, 44), (4, 8, 8)
    core = choose_core(shape, halo, stride)
    tiles = tile_volume(shape, core, halo, stride)
    read = sum(tile.read.size for tile in tiles)
    assert max(tile.read.size for tile in tiles) <= VOXELS_AT_ONCE
    cuts = itertools.product((8, 16, 32, 64, 100), (64, 128, 256, 512), (64, 128, 256, 512))
    fitting = [cut for cut in cuts if largest_read(shape, cut, halo, stride) <= VOXELS_AT_ONCE]
    best = min(sum(tile.read.size for tile in tile_volume(shape, cut, halo, stride)) for cut in fitting)
    assert read <= 1.5 * best
