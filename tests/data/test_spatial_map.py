"""Maps of positions: their inverse, their composition, and how far they reach."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maps import composed, grid_of, random_displacement, random_linear, random_steps
from scipy.interpolate import RegularGridInterpolator

from skoots.data.augment.spatial_map import Displacement, SpatialMap
from skoots.errors import SkootsError

CASES = [
    ((20, 30), (1.0, 1.0)),
    ((17, 11), (1.0, 2.5)),
    ((8, 20, 24), (4.0, 1.0, 1.0)),
    ((12, 12, 12), (1.0, 1.0, 1.0)),
]
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from(CASES))
def test_forward_is_the_inverse_of_backward(seed, case):
    spatial_map = composed(random_steps(seed, *case))
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, 3, (200, len(case[0]))) * case[0]
    assert np.abs(spatial_map.backward(spatial_map.forward(points)) - points).max() < 1e-5
    assert np.abs(spatial_map.forward(spatial_map.backward(points)) - points).max() < 1e-4


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from(CASES))
def test_a_composed_map_is_its_steps_one_after_the_other(seed, case):
    steps = random_steps(seed, *case)
    places = np.random.default_rng(seed).uniform(-1, 2, (100, len(case[0]))) * case[0]
    expected = places
    for step in reversed(steps):  # what a crop shows last comes from what was there before
        expected = step.backward(expected)
    assert np.allclose(composed(steps).backward(places), expected, atol=1e-8)


@pytest.mark.parametrize("shape, voxel_size", CASES)
def test_a_displacement_is_linear_between_nodes_and_constant_beyond(shape, voxel_size):
    rng = np.random.default_rng(3)
    nodes = (4, 5, 3)[: len(shape)]
    values = 0.2 * rng.normal(size=(*nodes, len(shape)))
    spacing = tuple(rng.uniform(2, 4, len(shape)))
    displacement = Displacement(values, (1.0,) * len(shape), spacing)
    places = rng.uniform(-10, 30, (300, len(shape)))
    axes = [1.0 + s * np.arange(n) for s, n in zip(spacing, nodes)]
    within = np.clip(places, 1.0, [axis[-1] for axis in axes])
    expected = places + RegularGridInterpolator(axes, values)(within)
    assert np.allclose(SpatialMap.displaced(displacement).backward(places), expected)


# Of the larger one only every fifth or so voxel of the rim is looked at.
@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([*CASES, ((160, 190), (1.0, 1.0))]))
def test_all_that_a_crop_shows_lies_within_reach(seed, case):
    shape, voxel_size = case
    spatial_map = composed(random_steps(seed, shape, voxel_size))
    places = spatial_map.backward(grid_of(shape))
    reach = spatial_map.reach(shape)
    assert (np.floor(places) >= reach.start).all() and (np.ceil(places) < reach.stop).all()
    if not spatial_map.displacements:  # and not a voxel more
        assert reach.start == tuple(np.floor(places.min(0)).astype(int))
        assert reach.stop == tuple(np.ceil(places.max(0)).astype(int) + 1)


def test_reach_is_what_this_map_reaches_and_not_what_any_could():
    small = SpatialMap.physical((20, 300, 300), (3, 1, 1), np.eye(3))
    assert small.reach((20, 300, 300)).shape == (20, 300, 300)
    rng = np.random.default_rng(0)
    values = rng.uniform(-4, 4, (2, 7, 7, 3)) * (0.2, 1, 1)
    elastic = SpatialMap.displaced(Displacement(values, (0, 0, 0), (19, 50, 50)))
    places = elastic.backward(grid_of((20, 300, 300)))
    extra = np.array(elastic.reach((20, 300, 300)).shape) - (np.ceil(places.max(0)) - np.floor(places.min(0)))
    assert (extra <= 5).all()


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(CASES))
def test_what_is_not_too_steep_never_folds(seed, case):
    shape, _ = case
    displacement = random_displacement(np.random.default_rng(seed), shape, 0.95)
    moving, small = SpatialMap.displaced(displacement), 1e-4
    places = np.random.default_rng(seed).uniform(-0.2, 1.2, (400, len(shape))) * shape
    steps = np.eye(len(shape)) * small
    jacobian = np.stack([(moving.backward(places + s) - moving.backward(places - s)) for s in steps], -1)
    assert (np.linalg.det(jacobian / (2 * small)) > 0).all()


def test_a_displacement_that_folds_is_refused_and_a_shift_of_sections_never():
    values = np.zeros((2, 1, 2))
    values[:, 0, 0] = (0, -30)
    with pytest.raises(SkootsError, match="steepness 3 may fold the image"):
        SpatialMap.displaced(Displacement(values, (0.0, 0.0), (10.0, 1.0)))
    values[:, 0, :] = (0, 0), (0, -30)  # rows slide along themselves
    sliding = SpatialMap.displaced(Displacement(values, (0.0, 0.0), (1.0, 1.0)))
    points = np.array([[0.0, 2.0], [1.0, 2.0], [0.5, 2.0]])
    assert np.allclose(sliding.forward(points), [[0, 2], [1, 32], [0.5, 17]])


def test_turns_are_known_from_other_maps():
    shape = (9, 9, 9)
    flip = SpatialMap.about_centre(shape, np.diag([1.0, -1, 1]))
    swap = SpatialMap.about_centre(shape, np.eye(3)[[1, 0, 2]])
    right = SpatialMap.physical(shape, (1, 1, 1), np.array([[1, 0, 0], [0, 6e-17, -1], [0, 1, 6e-17]]))
    shifted = SpatialMap.about_centre(shape, np.eye(3), (1.0, 0, -2))
    for turn in (flip, swap, right, shifted, flip.then(swap).then(right).then(shifted)):
        assert turn.is_turn
    for other in (
        SpatialMap.about_centre(shape, np.eye(3), (0.5, 0, 0)),
        SpatialMap.about_centre(shape, np.eye(3) * 1.1),
        SpatialMap.about_centre((9, 9, 8), np.eye(3)[[0, 2, 1]]),  # the centre lies between voxels
        SpatialMap.displaced(Displacement(np.zeros((1, 1, 1, 3)), (0, 0, 0), (1, 1, 1))),
    ):
        assert not other.is_turn


def test_magnification():
    rng = np.random.default_rng(1)
    places = rng.uniform(0, 20, (50, 3))
    twice = SpatialMap.physical((20, 20, 20), (3, 1, 1), 2 * np.linalg.qr(rng.normal(size=(3, 3)))[0])
    assert np.allclose(twice.magnification(places), 2)
    elastic = SpatialMap.displaced(
        Displacement(np.array([[[[0.0, 0, 0]]], [[[9.5, 0, 0]]]]), (0, 0, 0), (19, 1, 1))
    )
    inside = np.full((4, 3), 10.0)  # sections lie half as far apart again in what is shown
    assert np.allclose(twice.then(elastic).magnification(inside), 2 * 1.5 ** (-1 / 3))


def test_maps_can_be_pickled():
    shape, voxel_size = CASES[2]
    rng = np.random.default_rng(0)
    whole = random_linear(rng, shape, voxel_size).then(
        SpatialMap.displaced(random_displacement(rng, shape, 0.5))
    )
    places = rng.uniform(0, 10, (20, 3))
    there = pickle.loads(pickle.dumps(whole))
    assert np.array_equal(there.backward(places), whole.backward(places))
