"""The fused resampling against SciPy, and turns that interpolate nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maps import composed, grid_of, random_steps
from scipy import ndimage

from skoots.data.augment.on_device import resample_on_device
from skoots.data.augment.resample import _turn, _warp, move_skeletons, resample
from skoots.data.augment.spatial_map import Displacement, SpatialMap
from skoots.skeletons import Skeletons

CASES = [((14, 18), (1.0, 2.0)), ((6, 14, 12), (3.0, 1.0, 1.0))]


def arrays_of(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    image = (rng.random((2, *shape)) * 200).astype(dtype)
    return image, rng.integers(0, 9, shape).astype(np.int32), rng.random(shape) < 0.8


@pytest.mark.parametrize("shape, voxel_size", CASES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int16])
@pytest.mark.parametrize("seed", range(4))
def test_linear_and_nearest_as_scipy(shape, voxel_size, dtype, seed):
    larger, start = tuple(n + 5 for n in shape), (-3, 2, -1)[: len(shape)]
    arrays = arrays_of(larger, dtype)
    spatial_map = composed(random_steps(seed, shape, voxel_size))
    image, labels, valid = resample(arrays, spatial_map, shape, start)
    places = (spatial_map.backward(grid_of(shape)) - start).T.reshape(-1, *shape)
    for channel, original in zip(image, arrays[0]):
        expected = ndimage.map_coordinates(original.astype(float), places, order=1, mode="nearest")
        assert np.allclose(channel, expected, atol=1e-3)
    at = np.floor(places + 0.5).astype(int)
    bounds = np.reshape(larger, (-1, *(1,) * len(shape)))
    inside = ((at >= 0) & (at < bounds)).all(0)
    index = tuple(np.clip(at, 0, bounds - 1))
    assert np.array_equal(labels, np.where(inside, arrays[1][index], 0)) and inside.any()
    assert np.array_equal(valid, inside & arrays[2][index])
    assert image.dtype == np.float32 and labels.dtype == np.int32 and valid.dtype == bool

    tensors = [torch.from_numpy(a.astype(np.float32) if a.dtype == np.uint16 else a) for a in arrays]
    for there, here in zip(resample_on_device(*tensors, spatial_map, shape, start), (image, labels, valid)):
        assert np.array_equal(there.numpy(), here)


@pytest.mark.parametrize("shape", [(12, 30), (5, 12, 30)])
@pytest.mark.parametrize("nodes", [4, 40])
def test_lines_of_voxels_are_displaced_as_single_voxels_are(shape, nodes):
    rng = np.random.default_rng(nodes)
    values = rng.uniform(-0.1, 0.1, (*shape[:-1], nodes, len(shape)))
    spacing = (*(1.0,) * (len(shape) - 1), (shape[-1] - 1) / (nodes - 1))
    bent = SpatialMap.displaced(Displacement(values, (0.3,) * len(shape), spacing))
    turned = SpatialMap.about_centre(shape, np.eye(len(shape)) * 0.9).then(bent)
    for spatial_map in (bent, turned, turned.then(turned)):
        places = grid_of(shape)
        together = [spatial_map.backward(line) for line in places.reshape(-1, shape[-1], len(shape))]
        alone = [spatial_map.backward(place[None]) for place in places]
        assert np.array_equal(np.concatenate(together), np.concatenate(alone))


@pytest.mark.parametrize("shape", [(7, 7), (6, 6, 6)])
def test_turns_are_the_same_to_the_last_bit_with_and_without_interpolation(shape):
    rng = np.random.default_rng(0)
    arrays = arrays_of(tuple(n + 2 for n in shape), np.float32)
    for _ in range(10):
        order = rng.permutation(len(shape))
        matrix = np.eye(len(shape))[order] * rng.choice([-1.0, 1.0], len(shape))
        turn = SpatialMap.about_centre(shape, matrix, rng.integers(-3, 3, len(shape)))
        start = rng.integers(-3, 2, len(shape)).astype(float)
        assert turn.is_turn
        for one, two in zip(_turn(arrays, turn, shape, start), _warp(arrays, turn, shape, start)):
            assert np.array_equal(one, two)


def test_identity_reads_and_repeats_the_rim():
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    crop, labels, valid = resample(
        (image, image[0].astype(np.int32), np.ones((3, 4), bool)), SpatialMap.identity(2), (5, 4), (1, 0)
    )
    assert crop.dtype == np.uint8 and crop[0, :, 0].tolist() == [0, 0, 4, 8, 8]
    assert valid[:, 0].tolist() == [False, True, True, True, False] and labels[:, 1].tolist() == [
        0,
        1,
        5,
        9,
        0,
    ]


def test_radii_grow_with_their_own_object():
    points = {1: np.array([[2.0, 2.0]]), 5: np.zeros((0, 2)), 9: np.array([[15.0, 15.0], [16.0, 15.0]])}
    skeletons = Skeletons.pack(points, 2, {1: 3.0, 5: 1.0, 9: 4.0})
    larger = SpatialMap.about_centre((20, 20), np.eye(2) / 1.5)
    there = move_skeletons(skeletons, larger, (0, 0))
    assert there.inscribed.tolist() == pytest.approx([4.5, 1.0, 6.0]) and there.points.dtype == np.float32
    assert np.allclose(there.of(9), (np.array([[15, 15], [16, 15]]) - 9.5) * 1.5 + 9.5)
