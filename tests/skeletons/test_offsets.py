"""Offsets against brute force: every voxel, every point of its object."""

from __future__ import annotations

import numpy as np
import pytest

from skoots.geometry import Box
from skoots.skeletons import Skeletons, nearest_offsets, skeletonize
from skoots.synthetic import make_volume


def brute_force(labels, points, voxel_size, origin):
    """(D, *S) offsets, and the distance to the nearest point, by comparing each voxel with all points."""
    offset = np.zeros((labels.ndim, *labels.shape))
    for where in np.argwhere(labels != 0):
        own = points.get(int(labels[tuple(where)]), np.zeros((0, labels.ndim)))
        if len(own):
            steps = own - origin - where
            distance2 = ((steps * voxel_size) ** 2).sum(1)
            offset[(slice(None), *where)] = steps[distance2.argmin()]
    return offset


def random_case(seed):
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(2, 4))
    shape = tuple(rng.integers(1, 9, ndim))
    labels = rng.choice([0, 0, 3, 4, 11, 900], shape).astype(rng.choice([np.uint16, np.int32, np.int64]))
    points = {}
    for object_id in (2, 3, 4, 11):  # 2 is absent from the labels, 900 has no skeleton
        count = int(rng.integers(0, 12))
        own = rng.uniform(-6, 12, (count, ndim))
        points[object_id] = np.rint(own) if rng.random() < 0.5 else own.astype(np.float32).astype(float)
    voxel_size = tuple(rng.choice([1.0, 0.3, 4.0, 2.5], ndim))
    origin = rng.integers(-3, 4, ndim) if rng.random() < 0.5 else None
    return labels, points, voxel_size, origin


@pytest.mark.parametrize("seed", range(60))
def test_every_voxel_finds_the_nearest_of_all_points(seed):
    labels, points, voxel_size, origin = random_case(seed)
    found = nearest_offsets(labels, Skeletons.pack(points, labels.ndim), voxel_size, origin)
    expected = brute_force(labels, points, voxel_size, 0 if origin is None else origin)
    assert found.dtype == np.float32 and found.shape == expected.shape
    length = [
        np.sqrt(((o * np.reshape(voxel_size, (-1, *(1,) * labels.ndim))) ** 2).sum(0))
        for o in (found, expected)
    ]
    assert np.allclose(*length, rtol=1e-5, atol=1e-5)  # as near as can be
    spacing = np.array(voxel_size) / min(voxel_size)
    # Of integer points, distances are exact, so ties go to the first as argmin's do.
    if all((p == np.rint(p)).all() for p in points.values()) and (spacing == np.rint(spacing)).all():
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (2.5, 1.0)])
@pytest.mark.parametrize("whole", [True, False], ids=["whole points", "points between voxels"])
def test_many_objects_and_points_over_many_blocks(voxel_size, whole):
    rng = np.random.default_rng(len(voxel_size) + whole)
    ndim = len(voxel_size)
    shape = (13, 61, 50)[-ndim:]
    tubes = make_volume(shape, seed=3)[1]
    crumbs = rng.integers(1, 9, shape) + 1000  # objects of single voxels, all over the place
    labels = np.where(rng.random(shape) < 0.1, crumbs, tubes)
    points = {int(k): rng.uniform(-20, 70, (rng.integers(1, 200), ndim)) for k in np.unique(labels) if k}
    if whole:
        points = {k: np.rint(own) for k, own in points.items()}
    skeletons = Skeletons.pack(points, ndim)
    stored = {int(k): skeletons.of(int(k)).astype(float) for k in skeletons.ids}
    found = nearest_offsets(labels, skeletons, voxel_size)
    expected = brute_force(labels, stored, np.array(voxel_size), 0)
    assert np.array_equal(found, expected.astype(np.float32))


def test_no_voxel_size_means_isotropic():
    labels, points, _, _ = random_case(1)
    skeletons = Skeletons.pack(points, labels.ndim)
    assert np.array_equal(
        nearest_offsets(labels, skeletons), nearest_offsets(labels, skeletons, (7,) * labels.ndim)
    )


def test_anisotropy_decides():
    labels = np.ones((5, 5), np.int32)
    skeletons = Skeletons.pack({1: np.array([[0, 2], [2, 4]])}, 2)
    assert nearest_offsets(labels, skeletons, (1, 1.5))[:, 2, 2].tolist() == [-2, 0]
    assert nearest_offsets(labels, skeletons, (1.5, 1))[:, 2, 2].tolist() == [0, 2]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0], [2, 3, 0, 1]])
def test_of_points_equally_near_the_first_is_taken(order):
    points = np.array([[0, 2], [2, 0], [2, 4], [4, 2]])[order]
    offset = nearest_offsets(np.ones((5, 5), np.int32), Skeletons.pack({1: points}, 2))
    assert np.array_equal(offset[:, 2, 2], points[0] - 2)


def test_no_skeletons_and_no_objects_give_zero():
    labels = np.ones((3, 4), np.int32)
    assert not nearest_offsets(labels, Skeletons.pack({}, 2)).any()
    assert nearest_offsets(np.zeros((3, 4), np.int32), Skeletons.pack({1: np.ones((2, 2))}, 2)).shape == (
        2,
        3,
        4,
    )


@pytest.mark.parametrize(
    "shape, voxel_size", [((20, 40, 40), (1, 1, 1)), ((12, 40, 40), (3, 1, 1)), ((60, 60), (1, 1))]
)
def test_offsets_of_a_crop_are_the_crop_of_the_offsets(shape, voxel_size):
    labels = make_volume(shape, seed=4)[1]
    skeletons = skeletonize(labels, voxel_size)
    whole = nearest_offsets(labels, skeletons, voxel_size)
    rng = np.random.default_rng(0)
    for _ in range(5):
        start = [int(rng.integers(0, n // 2)) for n in shape]
        box = Box.at(start, [n // 2 for n in shape])
        present = np.unique(labels[box.slices])
        crop = nearest_offsets(labels[box.slices], skeletons.select(present), voxel_size, origin=box.start)
        assert np.array_equal(crop, whole[(slice(None), *box.slices)])


def test_on_own_skeleton_the_offset_is_zero_and_leads_there_from_elsewhere():
    labels = make_volume((20, 30, 30), seed=2)[1]
    skeletons = skeletonize(labels)
    offset = nearest_offsets(labels, skeletons)
    assert not offset[(slice(None), *skeletons.points.astype(int).T)].any()
    where = np.argwhere(labels)
    target = where + offset[(slice(None), *where.T)].T.astype(int)
    assert np.array_equal(labels[tuple(target.T)], labels[tuple(where.T)])
