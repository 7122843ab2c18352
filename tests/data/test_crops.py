"""Which box next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skoots.data.crops import covering_crops, random_crop
from skoots.geometry import Box

SIZES = st.tuples(*[st.integers(1, 20)] * 3)


@given(SIZES, SIZES, st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_windows_lie_inside_or_are_centred(shape, crop, seed):
    rng = np.random.default_rng(seed)
    for around in (None, rng.integers(0, shape)):
        box = random_crop(shape, crop, rng, around)
        assert box.shape == crop
        for a, b, n, c in zip(box.start, box.stop, shape, crop):
            if c <= n:
                assert a >= 0 and b <= n
            else:
                assert a <= 0 and b >= n and abs(-a - (b - n)) <= 1


@given(SIZES, SIZES, st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_a_window_holds_its_point_and_keeps_to_the_labelled_part(shape, crop, seed):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, np.add(shape, 1), (2, 3)), axis=0)
    part = Box(tuple(corners[0]), tuple(np.maximum(corners[1], np.minimum(corners[0] + 1, shape))))
    if part.is_empty:
        return
    around = rng.integers(part.start, part.stop)
    for box in (random_crop(shape, crop, rng, around, part), random_crop(shape, crop, rng, None, part)):
        both = box.intersect(part)
        for axis in range(3):
            assert both.shape[axis] == min(box.shape[axis], part.shape[axis])
    box = random_crop(shape, crop, rng, around, part)
    assert ((around >= box.start) & (around < box.stop)).all()


def test_every_place_is_reached():
    rng = np.random.default_rng(0)
    seen = {random_crop((5, 4, 6), (3, 4, 5), rng).start for _ in range(200)}
    assert seen == {(z, 0, x) for z in range(3) for x in range(2)}


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
