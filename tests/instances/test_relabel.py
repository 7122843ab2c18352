"""Renumbering and dropping."""

from __future__ import annotations

import numpy as np

from skoots.instances.relabel import close_gaps


def test_labels_keep_their_order_and_lose_their_gaps():
    labels = np.array([[0, 9, 9], [7, 0, 3]])
    numbers = close_gaps(np.bincount(labels.ravel()))
    assert numbers.dtype == np.int32
    assert numbers[labels].tolist() == [[0, 3, 3], [2, 0, 1]]


def test_objects_of_exactly_the_size_are_kept():
    labels = np.array([1, 1, 1, 2, 2, 3, 0, 0])
    sizes = np.bincount(labels)
    assert close_gaps(sizes, 2)[labels].tolist() == [1, 1, 1, 2, 2, 0, 0, 0]
    assert close_gaps(sizes, 3)[labels].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert close_gaps(sizes, 1)[labels].tolist() == close_gaps(sizes)[labels].tolist() == labels.tolist()
    assert close_gaps(sizes, 99)[labels].tolist() == [0] * 8


def test_dropping_never_makes_an_object_of_the_background():
    assert close_gaps(np.array([5, 2])).tolist() == [0, 1]
    assert close_gaps(np.array([0, 2])).tolist() == [0, 1]  # no background at all
    assert close_gaps(np.array([4])).tolist() == [0]
    assert close_gaps(np.array([1, 2]), 2).tolist() == [0, 1]
