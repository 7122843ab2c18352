"""Decoding as a whole, and its settings."""

from __future__ import annotations

import numpy as np
import pytest

from skoots.instances import Decoding, decode


def two_objects():
    """Two bars side by side, touching along a face; vectors lead to their middle rows."""
    vector = np.zeros((2, 6, 10), np.float32)
    vector[0] = np.array([1, 0, -1, 1, 0, -1])[:, None] / 2
    semantic = np.full((6, 10), 0.9, np.float32)
    skeleton = np.zeros((6, 10), np.float32)
    skeleton[[1, 4], 1:9] = 0.8
    return vector, semantic, skeleton


def test_touching_objects_come_apart():
    labels = decode(*two_objects(), scale=(2, 2))
    assert labels.dtype == np.int32
    assert (labels[:3] == 1).all() and (labels[3:] == 2).all()


def test_int8_vectors_and_masks_mean_the_same():
    vector, semantic, skeleton = two_objects()
    labels = decode(np.rint(vector * 127).astype(np.int8), semantic > 0.5, skeleton > 0.5, scale=(2, 2))
    assert np.array_equal(labels, decode(vector, semantic, skeleton, scale=(2, 2)))


def test_thresholds():
    vector, semantic, skeleton = two_objects()
    semantic[:3] = 0.6
    assert not decode(vector, semantic, skeleton, (2, 2), decoding=Decoding(semantic_threshold=0.7))[:3].any()
    assert not decode(vector, semantic, skeleton, (2, 2), decoding=Decoding(skeleton_threshold=0.8)).any()
    assert decode(vector, semantic, skeleton, (2, 2), decoding=Decoding(skeleton_threshold=0.79)).max() == 2


def test_noise_skeletons_and_small_instances_are_dropped():
    vector, semantic, skeleton = two_objects()
    skeleton[3, 9] = 0  # a gap at the corner, then a speck of its own
    skeleton[4, 8:] = [0, 0.9]
    assert decode(vector, semantic, skeleton, (2, 2)).max() == 3
    assert decode(vector, semantic, skeleton, (2, 2), decoding=Decoding(min_skeleton=2)).max() == 2
    labels = decode(vector, semantic, skeleton, (2, 2), decoding=Decoding(min_size=4))
    assert np.unique(labels).tolist() == [0, 1, 2] and (labels == 0).sum() == 3


def test_skeletons_outside_the_foreground_do_not_count():
    vector, semantic, skeleton = two_objects()
    semantic[:3] = 0
    labels = decode(vector, semantic, skeleton, (2, 2))
    assert not labels[:3].any() and (labels[3:] == 1).all()


def test_nothing_decodes_to_nothing():
    zeros = np.zeros((3, 4, 5), np.float32)
    assert not decode(np.zeros((3, 3, 4, 5), np.float32), zeros, zeros, (5, 5, 5)).any()


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ({"skeleton_threshold": 1.5}, r"skeleton_threshold must lie in \[0, 1\]"),
        ({"semantic_threshold": -0.1}, r"semantic_threshold must lie in \[0, 1\]"),
        ({"steps": -1}, r"steps must lie in \[0, 1000\]"),
        ({"reach": -1.0}, r"reach must lie in \[0, 50\]"),
        ({"reach": float("nan")}, r"reach must lie in \[0, 50\]"),
        ({"reach": float("inf")}, r"reach must lie in \[0, 50\]"),
        ({"steps": 10**20}, r"steps must lie in \[0, 1000\]"),
        ({"semantic_threshold": float("nan")}, r"semantic_threshold must lie in \[0, 1\]"),
        ({"min_size": float("nan")}, "min_size must not be negative"),
    ],
)
def test_settings_without_sense_are_refused(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        Decoding(**setting)
