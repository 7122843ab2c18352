"""Scores along skeletons, on curves whose answer is plain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skoots.metrics import contingency, skeleton_contingency, skeleton_score


def test_points_are_looked_up_in_the_prediction():
    prediction = np.arange(24).reshape(2, 3, 4)
    points = np.array([[0, 0, 1], [1, 2, 3], [1, 0, 0]])
    overlap = skeleton_contingency(points, np.array([5, 5, 6]), prediction)
    pairs = list(zip(overlap.truth.tolist(), overlap.prediction.tolist()))
    assert pairs == [(5, 1), (5, 23), (6, 12)]


def along(*rows):
    """Score of skeletons of 10 points each, given the predicted ids along them."""
    return skeleton_score(contingency(np.repeat(np.arange(len(rows)) + 1, 10), np.concatenate(rows)))


def ids(*runs):
    return np.concatenate([np.full(n, k) for k, n in runs])


def test_perfect():
    expected = {"skeleton_coverage": 1.0, "skeleton_splits": 0.0, "skeleton_merges": 0.0, "NERL": 1.0}
    assert along(ids((4, 10)), ids((9, 10))) == expected


def test_one_split_in_the_middle():
    expected = {"skeleton_coverage": 0.75, "skeleton_splits": 0.5, "skeleton_merges": 0.0, "NERL": 0.75}
    assert along(ids((1, 5), (2, 5)), ids((3, 10))) == pytest.approx(expected)


def test_a_merge():
    expected = {"skeleton_coverage": 1.0, "skeleton_splits": 0.0, "skeleton_merges": 0.5, "NERL": 0.0}
    assert along(ids((1, 10)), ids((1, 10))) == expected


def test_missed():
    expected = {"skeleton_coverage": 0.3, "skeleton_splits": 0.0, "skeleton_merges": 0.0, "NERL": 0.18}
    assert along(ids((0, 10)), ids((0, 4), (2, 6))) == pytest.approx(expected)


def test_grazing_is_neither_split_nor_merge():
    overlap = contingency(np.repeat([1, 2], 100), np.r_[ids((1, 98), (2, 2)), ids((2, 100))])
    scores = skeleton_score(overlap)
    assert (scores["skeleton_splits"], scores["skeleton_merges"]) == (0, 0)
    assert skeleton_score(overlap, min_share=0.01)["skeleton_merges"] == 0.5


def test_without_skeletons_nothing_is_measured():
    none = np.zeros(0, int)
    assert all(math.isnan(value) for value in skeleton_score(contingency(none, none)).values())
