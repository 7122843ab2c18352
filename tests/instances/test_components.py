"""Components against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from skoots.instances import label_components


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(a)) == len(np.unique(b)) and np.array_equal(a == 0, b == 0)


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("shape", [(40, 40), (14, 15, 16)])
def test_components_are_scipys(shape, corners):
    mask = np.random.default_rng(0).random(shape) < (0.3 if corners else 0.45) / len(shape)
    structure = np.ones((3,) * len(shape)) if corners else None
    labels = label_components(mask, corners=corners)
    assert labels.dtype == np.int32
    expected, count = ndimage.label(mask, structure)
    assert count > 20 and labels.max() == count
    assert same_partition(labels, expected)


@pytest.mark.parametrize("corners", [True, False])
def test_crowded_sections(corners):
    """Of the kind in which connected-components-3d loses count."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        mask = rng.random(rng.integers(100, 300, 2)) < rng.uniform(0.1, 0.6)
        expected, _ = ndimage.label(mask, np.ones((3, 3)) if corners else None)
        assert same_partition(label_components(mask, corners=corners), expected)


def test_views_in_any_memory_order():
    mask = np.random.default_rng(1).random((9, 30, 31)) < 0.1
    assert same_partition(label_components(mask.T).T, label_components(mask))
    assert same_partition(label_components(mask[:, ::2]), label_components(mask[:, ::2].copy()))


def test_small_components_are_dropped_and_the_rest_numbered_anew():
    mask = np.random.default_rng(2).random((30, 30)) < 0.2
    every, large = label_components(mask), label_components(mask, min_size=3)
    sizes = np.bincount(every.ravel())
    keep = sizes[every] >= 3
    assert np.array_equal(large > 0, keep & mask)
    assert np.unique(large).tolist() == list(range(int((sizes[1:] >= 3).sum()) + 1))


def test_nothing_and_everything():
    assert label_components(np.zeros((4, 5), bool)).max() == 0
    assert (label_components(np.ones((3, 4, 5), bool)) == 1).all()
    assert label_components(np.ones((3, 4), bool), min_size=13).max() == 0
