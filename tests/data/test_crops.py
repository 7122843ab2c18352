"""Which box next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skoots.data.crops import covering_crops, random_crop
from skoots.geometry import Box
from skoots.skeletons import Skeletons

NOTHING = Skeletons.pack({}, 3)
SIZES = st.tuples(*[st.integers(1, 20)] * 3)


@given(SIZES, SIZES, st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_windows_lie_inside_or_are_centred(shape, crop, seed):
    rng = np.random.default_rng(seed)
    skeletons = Skeletons.pack({5: rng.integers(0, shape, (3, 3))}, 3)
    for rate in (0.0, 1.0):
        box = random_crop(shape, crop, skeletons, rng, rate)
        assert box.shape == crop
        for a, b, n, c in zip(box.start, box.stop, shape, crop):
            if c <= n:
                assert a >= 0 and b <= n
            else:
                assert a <= 0 and b >= n and abs(-a - (b - n)) <= 1


@given(SIZES, SIZES, st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_window_drawn_around_an_object_holds_a_point_of_it(shape, crop, seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, shape, (4, 3))
    box = random_crop(shape, crop, Skeletons.pack({1: points[:1], 9: points[1:]}, 3), rng, object_rate=1.0)
    assert ((points >= box.start) & (points < box.stop)).all(1).any()


def test_every_place_is_reached():
    rng = np.random.default_rng(0)
    seen = {random_crop((5, 4, 6), (3, 4, 5), NOTHING, rng).start for _ in range(200)}
    assert seen == {(z, 0, x) for z in range(3) for x in range(2)}


def test_small_objects_are_seen_as_often_as_large_ones():
    large = np.stack(np.meshgrid([2], np.arange(50), [2], indexing="ij"), -1).reshape(-1, 3)
    skeletons = Skeletons.pack({1: large, 2: np.array([[2, 95, 2]])}, 3)
    rng = np.random.default_rng(0)
    boxes = [random_crop((5, 100, 5), (5, 10, 5), skeletons, rng, 1.0) for _ in range(300)]
    assert 110 < sum(box.stop[1] > 95 for box in boxes) < 190


def test_an_object_without_points_is_no_obstacle():
    skeletons = Skeletons.pack({1: np.zeros((0, 3))}, 3)
    assert random_crop((9, 9, 9), (3, 3, 3), skeletons, np.random.default_rng(0), 1.0).shape == (3, 3, 3)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=2, max_size=3))
@settings(max_examples=80, deadline=None)
def test_covering_windows_cover_once_and_are_alike(axes):
    shape, crop = zip(*axes)
    covered = np.zeros(shape, int)
    boxes = covering_crops(shape, crop)
    for box in boxes:
        covered[box.slices] += 1
        assert all(n <= c for n, c in zip(box.shape, crop))
    assert (covered == 1).all()
    for axis in range(len(shape)):
        lengths = [box.shape[axis] for box in boxes]
        assert max(lengths) - min(lengths) <= 1
    assert len(boxes) == np.prod([-(-n // c) for n, c in axes])  # as few as can be


@pytest.mark.parametrize(
    "shape, crop, boxes",
    [
        ((10,), (4,), [((0,), (3,)), ((3,), (6,)), ((6,), (10,))]),
        ((4, 3), (9, 2), [((0, 0), (4, 1)), ((0, 1), (4, 3))]),
    ],
)
def test_covering_by_hand(shape, crop, boxes):
    assert covering_crops(shape, crop) == [Box(*box) for box in boxes]
