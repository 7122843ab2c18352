"""Following vectors against a plain reading of the rule, one voxel after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from skoots.geometry import Box, relative_spacing, tile_volume
from skoots.instances import follow_vectors
from skoots.instances.follow import count_landings


def follow_plainly(vectors, foreground, skeletons, scale, voxel_size, steps, reach):
    shape = foreground.shape
    spacing = np.array(relative_spacing(voxel_size))
    labelled = np.argwhere(skeletons > 0)
    labels = np.zeros(shape, int)
    ambiguous = np.zeros(shape, bool)
    for start in np.argwhere(foreground):
        stand, position = tuple(start), start.astype(float)
        for _ in range(steps):
            if skeletons[stand] or not foreground[stand]:
                break
            move = vectors[(slice(None), *stand)].astype(np.float32) * scale
            position = np.clip(position + move, 0, np.array(shape) - 1)
            stand = tuple(math.floor(p + 0.5) for p in position)
        found = skeletons[stand]
        if not found and len(labelled):
            distance2 = (((labelled - stand) * spacing) ** 2).sum(1)
            best = distance2.min()
            if best <= reach**2 + 1e-9:
                nearest = np.unique(skeletons[tuple(labelled[distance2 <= best + 1e-9].T)])
                found, ambiguous[tuple(start)] = nearest[0], len(nearest) > 1
        labels[tuple(start)] = found
    return labels, ambiguous


def random_maps(seed):
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(2, 4))
    shape = tuple(rng.integers(3, 11, ndim))
    scale = rng.uniform(1, 6, ndim).astype(np.float32)
    vectors = ndimage.gaussian_filter(rng.normal(size=(ndim, *shape)), (0, *(1,) * ndim))
    vectors = np.clip(vectors * 2.5, -1, 1).astype(np.float32)
    foreground = rng.random(shape) < 0.8
    skeletons = np.where(rng.random(shape) < 0.05, rng.integers(1, 9, shape), 0).astype(np.int32)
    voxel_size = tuple(rng.choice([1.0, 2.0, 3.3], ndim))
    return (
        vectors,
        foreground,
        skeletons,
        scale,
        voxel_size,
        int(rng.integers(0, 6)),
        float(rng.choice([0, 1.5, 4])),
    )


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_the_rule(seed, integers):
    vectors, foreground, skeletons, scale, voxel_size, steps, reach = random_maps(seed)
    unit = scale
    if integers:
        vectors, unit = np.rint(vectors * 127).astype(np.int8), scale / np.float32(127)
    expected, ambiguous = follow_plainly(vectors, foreground, skeletons, unit, voxel_size, steps, reach)
    labels = follow_vectors(vectors, foreground, skeletons, scale, voxel_size, steps, reach)
    assert labels.dtype == np.int32 and labels.shape == foreground.shape
    assert np.array_equal(labels[~ambiguous], expected[~ambiguous])
    assert (labels[ambiguous] > 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_parts_equal_the_whole(seed):
    vectors, foreground, skeletons, scale, voxel_size, steps, reach = random_maps(seed)
    whole = follow_vectors(vectors, foreground, skeletons, scale, voxel_size, steps, reach)
    parts = np.full(whole.shape, -1, np.int32)
    for tile in tile_volume(whole.shape, (4,) * whole.ndim):
        parts[tile.write.slices] = follow_vectors(
            vectors, foreground, skeletons, scale, voxel_size, steps, reach, box=tile.write
        )
    assert np.array_equal(parts, whole)


def land_plainly(vectors, foreground, scale, steps):
    votes = np.zeros(foreground.shape)
    for start in np.argwhere(foreground):
        stand, position = tuple(start), start.astype(float)
        for _ in range(steps):
            if not foreground[stand]:
                break
            position = position + vectors[(slice(None), *stand)].astype(np.float32) * scale
            position = np.clip(position, 0, np.array(foreground.shape) - 1)
            stand = tuple(math.floor(p + 0.5) for p in position)
        votes[stand] += 1
    return votes


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_landings_are_counted(seed, integers):
    vectors, foreground, _, scale, _, steps, _ = random_maps(seed)
    unit = scale
    if integers:
        vectors, unit = np.rint(vectors * 127).astype(np.int8), scale / np.float32(127)
    votes = count_landings(vectors, foreground, scale, steps)
    assert votes.dtype == np.float32 and votes.sum() == foreground.sum()
    assert np.array_equal(votes, land_plainly(vectors, foreground, unit, steps))


@pytest.mark.parametrize("seed", range(6))
def test_a_level_decides_what_is_foreground(seed):
    vectors, _, skeletons, scale, voxel_size, steps, reach = random_maps(seed)
    levels = np.random.default_rng(seed).integers(0, 256, skeletons.shape).astype(np.uint8)
    for above in (0, 100, 255):
        inside = levels > above
        assert np.array_equal(
            follow_vectors(vectors, levels, skeletons, scale, voxel_size, steps, reach, above=above),
            follow_vectors(vectors, inside, skeletons, scale, voxel_size, steps, reach),
        )
        assert np.array_equal(
            count_landings(vectors, levels, scale, steps, above),
            count_landings(vectors, inside, scale, steps),
        )


@pytest.mark.parametrize("seed", range(6))
def test_it_does_not_matter_where_a_volume_lies(seed):
    """The same maps far from the corner, where positions have fewer binary digits left for fractions."""
    vectors, foreground, skeletons, scale, voxel_size, steps, reach = random_maps(seed)
    far, ndim = 100_000, foreground.ndim
    room = ((0, 0),) * (ndim - 1) + ((far, 0),)
    found = follow_vectors(
        np.pad(vectors, ((0, 0), *room)),
        np.pad(foreground, room),
        np.pad(skeletons, room),
        scale,
        voxel_size,
        steps,
        reach,
        Box((0,) * (ndim - 1) + (far + 3,), (*foreground.shape[:-1], far + foreground.shape[-1])),
    )
    kept = np.ones(foreground.shape, bool)  # walks that the corner bends are others
    kept[..., : math.ceil(steps * scale[-1]) + 1] = False
    kept[..., :3] = False
    near = follow_vectors(vectors, foreground, skeletons, scale, voxel_size, steps, reach)
    if kept.any():
        assert np.array_equal(found[kept[..., 3:]], near[kept])


def line(length, skeleton_at, vector, foreground=None, **settings):
    """A volume of one row, all vectors alike; returns the labels of the row."""
    skeletons = np.zeros((1, 1, length), np.int32)
    for place, label in skeleton_at.items():
        skeletons[0, 0, place] = label
    vectors = np.zeros((3, 1, 1, length), np.float32)
    vectors[2] = vector
    inside = (
        np.ones((1, 1, length), bool)
        if foreground is None
        else np.reshape(foreground, (1, 1, length)).astype(bool)
    )
    return follow_vectors(vectors, inside, skeletons, (1, 1, 1), **settings)[0, 0].tolist()


def test_vectors_are_followed_step_by_step_and_no_further():
    assert line(6, {5: 7}, 1, steps=3, reach=0) == [0, 0, 7, 7, 7, 7]


def test_the_walk_ends_on_the_first_skeleton():
    assert line(6, {2: 1, 5: 2}, 1, steps=9, reach=0) == [1, 1, 1, 2, 2, 2]


def test_the_walk_ends_where_the_foreground_does():
    assert line(6, {5: 7}, 1, foreground=[1, 1, 0, 1, 1, 1], steps=9, reach=0) == [0, 0, 0, 7, 7, 7]


def test_fractions_of_a_voxel_add_up():
    # Half a voxel a step: 0 -> .5 (rounds to 1) -> 1.0 -> 1.5 (2) -> 2.
    assert line(4, {2: 3}, 0.5, steps=3, reach=0) == [3, 3, 3, 0]


def test_vectors_are_clipped_at_the_rim_and_never_come_in_again_on_the_other_side():
    assert line(5, {0: 1, 4: 2}, -1, steps=9, reach=0) == [1, 1, 1, 1, 2]
    assert line(5, {4: 2}, -1, steps=9, reach=1) == [0, 0, 0, 0, 2]
    assert line(5, {0: 2}, 1, steps=9, reach=1) == [2, 0, 0, 0, 0]


def test_the_nearest_skeleton_within_reach_is_taken():
    assert line(9, {0: 1, 8: 2}, 0, reach=3) == [1, 1, 1, 1, 0, 2, 2, 2, 2]
    assert line(9, {0: 1, 8: 2}, 0, reach=3, voxel_size=(1, 1, 2)) == [
        1,
        1,
        0,
        0,
        0,
        0,
        0,
        2,
        2,
    ]  # 3 is 1.5 voxels


def test_reach_is_physical():
    foreground = np.ones((7, 7), bool)
    skeletons = np.zeros((7, 7), np.int32)
    skeletons[3, 3] = 5
    labels = follow_vectors(np.zeros((2, 7, 7), np.float32), foreground, skeletons, (1, 1), (2, 1), reach=2)
    rows, columns = np.indices(labels.shape) - 3
    assert np.array_equal(labels == 5, (2 * rows) ** 2 + columns**2 <= 4)


def test_background_stays_background():
    maps = random_maps(3)
    assert not follow_vectors(*maps)[~maps[1]].any()


def test_an_empty_box_is_an_empty_answer():
    vectors, foreground, skeletons, scale, *_ = random_maps(1)
    box = Box((0,) * foreground.ndim, (0, *foreground.shape[1:]))
    assert follow_vectors(vectors, foreground, skeletons, scale, box=box).shape == box.shape
