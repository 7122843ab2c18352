"""Hills of a map against a plain reading of the rule, voxel by voxel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from skoots.instances import label_components
from skoots.instances.basins import persistent_basins


def hills_plainly(height, floor, neck, min_size):
    """Voxels from the highest down; each joins the highest hill that it touches, and may join hills there."""
    hills = []  # [summit, voxels], the highest first
    above = sorted((-h, i) for i, h in enumerate(height.ravel().tolist()) if h > floor)
    for lowered, number in above:
        here, level = np.unravel_index(number, height.shape), -lowered
        around = {tuple(np.add(here, step)) for step in itertools.product((-1, 0, 1), repeat=height.ndim)}
        met = [hill for hill in hills if around & hill[1]]
        if not met:
            hills.append([level, {tuple(here)}])
            continue
        met[0][1].add(tuple(here))
        for lower in met[1:]:
            if level >= neck * lower[0]:
                met[0][1].update(lower[1])
                hills.remove(lower)
    labels = np.zeros(height.shape, int)
    for label, (_, voxels) in enumerate((hill for hill in hills if len(hill[1]) >= min_size), 1):
        labels[tuple(np.transpose(sorted(voxels)))] = label
    return labels


@pytest.mark.parametrize("neck", [0.0, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(12))
def test_the_rule(seed, neck):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 13, 2)) if seed % 2 else tuple(rng.integers(1, 7, 3))
    height = ndimage.gaussian_filter(rng.random(shape), rng.choice([0, 0.7]))
    height = (height * rng.choice([5, 1000])).round().astype(np.float32)  # also plateaus and ties
    floor, min_size = float(np.quantile(height, 0.3)), int(rng.choice([0, 1, 3]))
    labels = persistent_basins(height, floor, neck, min_size)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, hills_plainly(height, floor, neck, min_size))


@pytest.mark.parametrize("shape", [(40, 50), (12, 14, 16)])
def test_without_a_neck_hills_are_components(shape):
    height = ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 1).astype(np.float32)
    floor = float(np.quantile(height, 0.8))
    labels, components = persistent_basins(height, floor, 0.0), label_components(height > floor)
    pairs = np.unique(np.stack([labels.ravel(), components.ravel()]), axis=1)
    assert pairs.shape[1] == len(np.unique(labels)) == len(np.unique(components)) > 5


def test_the_depth_of_the_pass_decides_and_not_the_floor():
    row = np.array([[0, 4, 8, 4, 3, 4, 6, 2, 0, 0, 1, 0]], np.float32)  # two hills of 8 and 6, the pass at 3
    assert persistent_basins(row, 0.5, 0.51).tolist() == [[0, 1, 1, 1, 1, 2, 2, 2, 0, 0, 3, 0]]
    assert persistent_basins(row, 0.5, 0.5).tolist() == [[0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 2, 0]]
    assert persistent_basins(row, 0.5, 0.5, min_size=2).tolist() == [[0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]]
    assert persistent_basins(row, 3.5, 0.5).tolist() == [[0, 1, 1, 1, 0, 2, 2, 0, 0, 0, 0, 0]]


def test_views_and_nothing():
    height = np.random.default_rng(1).random((9, 20, 6)).astype(np.float32)
    assert np.array_equal(persistent_basins(height.T, 0.5, 0.7), persistent_basins(height.T.copy(), 0.5, 0.7))
    assert not persistent_basins(np.zeros((4, 5), np.float32), 0.0, 0.5).any()
    assert persistent_basins(np.zeros((0, 5), np.float32), 0.0, 0.5).shape == (0, 5)
