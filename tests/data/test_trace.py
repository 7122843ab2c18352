"""Skeletons of volumes that are never in memory as a whole: equal to those of the array."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from skoots.data import label_index, trace
from skoots.data.label_index import index_labels, labels_at
from skoots.data.trace import object_mask, radii_about, trace_volume
from skoots.geometry import Box
from skoots.skeletons import skeletonize
from skoots.synthetic import make_volume
from skoots.volumes.array import ArrayVolume

LABELS = arrays(
    np.int64,
    array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=8),
    elements=st.sampled_from([0, 0, 1, 2, 700, 2**40]),
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(label_index, "BLOCK", (3, 4, 5))


def volume_of(labels):
    return ArrayVolume("labels.tif", labels)


@given(LABELS)
@settings(max_examples=60, deadline=None)
def test_boxes_are_those_of_brute_force(labels):
    label_index.BLOCK = (3, 4, 5)
    index = index_labels(volume_of(labels))
    expected = {}
    for number in np.unique(labels[labels > 0]).tolist():
        voxels = np.argwhere(labels == number)
        expected[number] = Box(tuple(voxels.min(0)), tuple(voxels.max(0) + 1))
    assert index.boxes == expected and list(index.boxes) == sorted(expected)
    for number, box in expected.items():
        assert np.array_equal(object_mask(volume_of(labels), index, number), labels[box.slices] == number)


@given(LABELS, st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_ids_at_points(labels, seed):
    points = np.random.default_rng(seed).integers(0, labels.shape, (9, labels.ndim))
    assert np.array_equal(labels_at(volume_of(labels), points), labels[tuple(points.T)])


@given(LABELS, st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_the_checksum_tells_any_voxel_and_not_the_type(labels, seed):
    before = index_labels(volume_of(labels)).checksum
    assert index_labels(volume_of(np.asfortranarray(labels))).checksum == before
    small = np.where(labels == 2**40, 3, labels)
    as_bytes = index_labels(volume_of(small.astype(np.uint8) if small.max() < 256 else small)).checksum
    assert index_labels(volume_of(small)).checksum == as_bytes
    edited = labels.copy()
    edited[tuple(np.random.default_rng(seed).integers(0, labels.shape))] += 1
    assert index_labels(volume_of(edited)).checksum != before


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape, size", [((14, 30, 30), (2.0, 1.0, 1.0)), ((50, 50), (1.0, 1.0))])
def test_skeletons_are_those_of_the_array(shape, size, threads):
    labels = make_volume(shape, 3, radius=(2, 4))[1].astype(np.int64) * 1000
    volume = volume_of(labels)
    streamed, whole = (
        trace_volume(volume, index_labels(volume), size, threads=threads),
        skeletonize(labels, size),
    )
    for name in ("ids", "starts", "points", "inscribed"):
        one, other = getattr(streamed, name), getattr(whole, name)
        assert one.dtype == other.dtype and np.array_equal(one, other)


def test_unknown_voxels_are_no_object():
    labels = make_volume((12, 24, 24), 1, radius=(2, 3))[1]
    sparse = labels.copy()
    sparse[5:8] = -1
    volume = volume_of(sparse)
    index = index_labels(volume, ignore_label=-1)
    whole = skeletonize(np.maximum(sparse, 0))
    streamed = trace_volume(volume, index, (1, 1, 1))
    assert -1 not in index.boxes and np.array_equal(streamed.points, whole.points)
    assert not (labels_at(volume, np.array([[6, 3, 3]]), -1)).any()


def test_no_more_than_a_block_or_an_object_is_read(monkeypatch):
    labels = make_volume((14, 40, 40), 2, "blobs", radius=(2, 3))[1]
    volume = volume_of(labels)
    read, sizes = volume.read, []
    monkeypatch.setattr(volume, "read", lambda box: sizes.append(box.size) or read(box))
    trace_volume(volume, index_labels(volume), (1, 1, 1))
    assert max(sizes) <= 3 * 4 * 5


def test_objects_that_fill_the_memory_are_said(monkeypatch, caplog):
    labels = np.zeros((4, 9, 9), np.int32)
    labels[1:3, 1:3, 1:3], labels[3, :, 4] = 1, 8
    monkeypatch.setattr(trace, "LARGE_BOX", 8)
    volume = volume_of(labels)
    with caplog.at_level(logging.WARNING):
        trace_volume(volume, index_labels(volume), (1, 1, 1))
    assert "labels.tif: 1 objects span boxes" in caplog.text and "the first is 8" in caplog.text


def test_radii_about_points_from_elsewhere():
    labels = make_volume((14, 30, 30), 2, radius=(2, 4))[1]
    volume = volume_of(labels)
    skeletons = skeletonize(labels, (2, 1, 1))
    points = {k: p.astype(int) for k, p in skeletons.as_dict().items()}
    radii = radii_about(volume, index_labels(volume), points, (2, 1, 1))
    assert radii.keys() == points.keys()
    for i, number in enumerate(skeletons.ids):
        # An object in two pieces has the same curve but another outside, so only a bound holds for it.
        if ndimage.label(labels == number, np.ones((3, 3, 3)))[1] == 1:
            assert radii[int(number)] == pytest.approx(float(skeletons.inscribed[i]))
