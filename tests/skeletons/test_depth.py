"""Depths inside objects against a search for the nearest voxel outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from touching_objects import CASES, blobs, cells, prepared

from skoots.geometry import relative_spacing
from skoots.skeletons.depth import _squared_on_device, object_depth, relative_depth


def slow_depth(labels, voxel_size):
    spacing = np.array(relative_spacing(voxel_size))
    depth = np.zeros(labels.shape)
    for number in np.unique(labels[labels > 0]):
        own = np.argwhere(labels == number)
        others = np.argwhere(labels != number)
        depth[labels == number] = cKDTree(others * spacing).query(own * spacing)[0] - 0.5
    return depth


@pytest.mark.parametrize("make, shape, voxel_size", CASES)
def test_depth_is_the_distance_to_the_nearest_voxel_outside(make, shape, voxel_size):
    labels = np.stack([make(shape, 14, np.random.default_rng(seed), voxel_size) for seed in (0, 1)])
    depth = object_depth(torch.from_numpy(labels), voxel_size)
    assert depth.dtype == torch.float32
    for found, each in zip(depth.numpy(), labels):
        np.testing.assert_allclose(found, slow_depth(each, voxel_size), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make, shape, voxel_size", CASES)
def test_tensors_on_a_device_give_the_same_depth(make, shape, voxel_size, monkeypatch):
    labels = torch.from_numpy(make(shape, 14, np.random.default_rng(2), voxel_size))[None]
    compiled = object_depth(labels, voxel_size)
    monkeypatch.setattr("skoots.skeletons.depth._squared_on_cpu", _squared_on_device)
    np.testing.assert_allclose(object_depth(labels, voxel_size), compiled, rtol=1e-5, atol=1e-5)


def test_the_border_of_a_crop_is_no_wall():
    labels = torch.ones(1, 5, 9, dtype=torch.int64)
    assert (object_depth(labels, (1, 1)) > 1e5).all()
    labels[0, :, 0] = 2
    assert object_depth(labels, (1, 1))[0, 2].tolist() == [0.5, *(x - 0.5 for x in range(1, 9))]


def test_relative_depth_is_one_on_the_skeleton_and_small_at_the_wall():
    labels = np.zeros((21, 60), np.int32)
    labels[5:16, 3:57] = 1
    rows = np.indices(labels.shape)[0]
    offset = torch.from_numpy(np.where(labels > 0, np.stack([10 - rows, 0 * rows]), 0)).float()[None]
    relative = relative_depth(torch.from_numpy(labels)[None], offset, (1, 1))[0]
    expected = [0.5 / 5.5, 1.5 / 5.5, 2.5 / 5.5, 3.5 / 5.5, 4.5 / 5.5, 1.0]
    np.testing.assert_allclose(relative[5:11, 30], expected, rtol=1e-6)
    assert (relative[rows == 4] == 0).all()
    # the same in a crop that does not hold the skeleton: what is missing is the way there
    cropped = relative_depth(torch.from_numpy(labels[:9])[None], offset[:, :, :9], (1, 1))[0]
    np.testing.assert_allclose(cropped[5:9, 30], expected[:4], rtol=1e-6)


@pytest.mark.parametrize("make, voxel_size", [(cells, (1, 1, 1)), (blobs, (3, 1, 1))])
def test_relative_depth_is_a_share(make, voxel_size):
    labels, skeletons, offset, _ = prepared(make, (12, 18, 18), voxel_size, seed=3)
    relative = relative_depth(torch.from_numpy(labels)[None], torch.from_numpy(offset)[None], voxel_size)[0]
    assert (relative >= 0).all() and (relative <= 1).all() and (relative[labels == 0] == 0).all()
    assert (relative[tuple(skeletons.points.astype(int).T)] == 1).all()
