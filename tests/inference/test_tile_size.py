"""How large a tile may be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from skoots.geometry import tile_volume
from skoots.inference.tile_size import TILE_COST, VOXELS_AT_ONCE, choose_core

Shape = tuple[int, ...]


def reads(shape: Shape, core: Shape, halo: Shape, stride: Shape) -> list[int]:
    return [tile.read.size for tile in tile_volume(shape, core, halo, stride)]


@pytest.mark.parametrize("shape", [(20, 30, 41), (100, 7), (1, 1, 1)])
def test_what_fits_is_one_tile(shape: Shape) -> None:
    stride = (4,) * len(shape)
    core = choose_core(shape, (9,) * len(shape), stride)
    assert core == tuple(-(-n // 4) * 4 for n in shape)
    assert len(reads(shape, core, (9,) * len(shape), stride)) == 1


def test_without_a_halo_there_are_as_few_tiles_as_can_be() -> None:
    assert choose_core((64, 16), (0, 0), (1, 1), 512) in [(32, 16), (64, 8)]
    assert (
        len(
            reads(
                (60, 60, 60),
                choose_core((60, 60, 60), (0, 0, 0), (1, 1, 1), 30 * 60 * 60),
                (0,) * 3,
                (1,) * 3,
            )
        )
        == 2
    )


def test_no_other_core_reads_much_less() -> None:
    """Against every multiple of the stride, for random volumes; parts need not be equal to be the best."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        shape: Shape = tuple(int(n) for n in rng.integers(1, 50, 2))
        halo: Shape = tuple(int(n) for n in rng.integers(0, 9, 2))
        stride: Shape = tuple(int(n) for n in rng.choice([1, 2, 4], 2))
        voxels = int(10 ** rng.uniform(1, 3.5))
        core = choose_core(shape, halo, stride, voxels)
        assert all(c % s == 0 and c >= s for c, s in zip(core, stride))
        every = itertools.product(*(range(s, n + s, s) for n, s in zip(shape, stride)))
        sizes = {other: reads(shape, other, halo, stride) for other in every}
        limit = max(voxels, 2 * max(sizes[stride]))
        costs = {
            other: sum(size) + TILE_COST * len(size) for other, size in sizes.items() if max(size) <= limit
        }
        assert max(sizes[core]) <= limit and costs[core] <= 1.15 * min(costs.values())


def test_large_halos_do_not_make_tiny_cores() -> None:
    """Halos of 52 on both sides, four levels: what a volume of neurites is read with."""
    shape, halo, stride = (250, 170, 150), (52, 52, 52), (8, 8, 8)
    for voxels, times in ((8_000_000, 1.0), (4_000_000, 2.5)):
        sizes = reads(shape, choose_core(shape, halo, stride, voxels), halo, stride)
        assert max(sizes) <= voxels and sum(sizes) <= times * np.prod(shape)
    sizes = reads((2000, 2000, 2000), choose_core((2000, 2000, 2000), halo, stride), halo, stride)
    assert max(sizes) <= VOXELS_AT_ONCE and sum(sizes) < 12 * 2000**3


def test_halos_beyond_the_limit_allow_twice_the_smallest_tile() -> None:
    shape, halo, stride = (100, 100, 100), (40, 40, 40), (8, 8, 8)
    smallest = max(reads(shape, stride, halo, stride))
    sizes = reads(shape, choose_core(shape, halo, stride, 1000), halo, stride)
    assert 1000 < max(sizes) <= 2 * smallest
    assert sum(sizes) < sum(reads(shape, stride, halo, stride)) / 10
