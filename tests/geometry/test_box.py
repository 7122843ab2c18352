"""Boxes against NumPy: what a box says of itself is what an array of marks says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skoots.geometry import Box

SHAPE = (6, 7)


def boxes(low=0, high=6):
    corner = st.tuples(*[st.integers(low, high)] * 2)
    return st.builds(lambda a, b: Box(tuple(map(min, a, b)), tuple(map(max, a, b))), corner, corner)


def painted(box: Box) -> np.ndarray:
    array = np.zeros(SHAPE, bool)
    array[box.slices] = True
    return array


@given(boxes(), boxes())
@settings(max_examples=80, deadline=None)
def test_intersect_and_contains_agree_with_sets_of_voxels(a, b):
    both = painted(a) & painted(b)
    assert np.array_equal(painted(a.intersect(b)), both)
    assert a.intersect(b).size == both.sum() == b.intersect(a).size
    assert a.intersect(b).is_empty == (not both.any())
    if a.contains(b):
        assert np.array_equal(both, painted(b))
    elif not b.is_empty:
        assert (painted(b) & ~painted(a)).any()


@given(boxes(-4, 9), st.tuples(st.integers(0, 3), st.integers(0, 3)))
@settings(max_examples=50, deadline=None)
def test_grow_shift_and_relative(box, margin):
    grown = box.grow(margin)
    assert grown.contains(box)
    assert grown.shape == tuple(n + 2 * m for n, m in zip(box.shape, margin))
    assert box.relative_to(box).start == (0, 0)
    assert box.relative_to(grown).start == margin
    assert box.relative_to(grown).shift(grown.start) == box


def test_shape_size_and_slices():
    box = Box.at((2, 0, 1), (3, 4, 5))
    assert (box.ndim, box.shape, box.size, box.stop) == (3, (3, 4, 5), 60, (5, 4, 6))
    assert np.zeros((9, 9, 9))[box.slices].shape == box.shape
    assert Box.of_shape((3, 4)) == Box((0, 0), (3, 4))
    assert box.grow(1) == Box((1, -1, 0), (6, 5, 7))


def test_numbers_of_any_integer_type_become_int():
    box = Box.at(np.array([1, 2]), np.array([3, 4], np.uint8))
    assert box == Box((1, 2), (4, 6)) and hash(box) == hash(Box((1, 2), (4, 6)))
    assert all(type(v) is int for v in box.start + box.stop)


def test_a_box_turned_inside_out_is_empty():
    assert Box((3, 3), (1, 5)).is_empty and Box((3, 3), (1, 5)).shape == (0, 2)


def test_negative_starts_do_not_wrap_around():
    with pytest.raises(ValueError, match="begins outside the array; intersect it first"):
        _ = Box((-1, 0), (2, 2)).slices


def test_start_and_stop_must_be_of_one_length():
    with pytest.raises(ValueError, match="differ in length"):
        Box((0, 0), (1, 1, 1))
