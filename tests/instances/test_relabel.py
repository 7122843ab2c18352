"""Renumbering and dropping."""

from __future__ import annotations

import numpy as np

from skoots.instances import drop_small, renumber


def test_renumber_counts_in_order_of_first_appearance():
    labels = np.array([[0, 900, 900], [7, 0, 2**40]])
    assert renumber(labels).tolist() == [[0, 1, 1], [2, 0, 3]]
    assert renumber(labels).dtype == np.int32
    assert labels[0, 1] == 900  # the input is left as it is


def test_renumber_knows_no_background_if_there_is_none():
    assert renumber(np.array([5, 5, 3], np.uint16)).tolist() == [1, 1, 2]
    assert renumber(np.zeros((2, 2), np.int32)).tolist() == [[0, 0], [0, 0]]


def test_drop_small_keeps_objects_of_exactly_the_size():
    labels = np.array([1, 1, 1, 2, 2, 3, 0, 0], np.int32)
    assert drop_small(labels, 2).tolist() == [1, 1, 1, 2, 2, 0, 0, 0]
    assert drop_small(labels, 3).tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert drop_small(labels, 2).dtype == np.int32
    assert drop_small(labels, 1) is labels


def test_dropping_never_makes_an_object_of_the_background():
    assert drop_small(np.array([0, 1, 1]), 2).tolist() == [0, 1, 1]
