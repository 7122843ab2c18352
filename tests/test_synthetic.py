"""Synthetic volumes: the same for a seed, touching, and what their docstring says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from skoots.synthetic import make_volume


@pytest.mark.parametrize("objects", ["tubes", "blobs"])
@pytest.mark.parametrize("shape", [(20, 40, 40), (72, 72)])
def test_a_seed_makes_one_volume(shape, objects):
    (image, labels), again = make_volume(shape, 3, objects), make_volume(shape, 3, objects)
    assert np.array_equal(image, again[0]) and np.array_equal(labels, again[1])
    assert not np.array_equal(labels, make_volume(shape, 4, objects)[1])
    assert image.shape == labels.shape == shape
    assert image.dtype == np.float32 and labels.dtype == np.int32
    assert 0 <= image.min() < image.max() <= 1
    assert np.unique(labels).tolist() == list(range(labels.max() + 1)) and labels.max() >= 3
    assert 0.2 < (labels > 0).mean() < 0.5


def test_every_object_is_one_piece():
    labels = make_volume((24, 48, 48), 0)[1]
    for object_id, box in enumerate(ndimage.find_objects(labels), 1):
        assert ndimage.label(labels[box] == object_id)[1] == 1


def test_objects_touch_so_that_components_merge_them():
    labels = make_volume((32, 64, 64), 0)[1]
    assert ndimage.label(labels > 0)[1] < 0.5 * labels.max()


def test_objects_are_darker_than_what_is_between_them():
    image, labels = make_volume((24, 48, 48), 0, noise=0.0)
    inside = ndimage.binary_erosion(labels > 0, iterations=2)
    outside = ndimage.binary_erosion(labels == 0, iterations=2)
    assert 0.2 < image[outside].mean() - image[inside].mean() < 0.5


def test_count_and_radius():
    assert make_volume((24, 48, 48), 0, count=3)[1].max() <= 3
    sizes = [
        np.bincount(make_volume((60, 60), 0, "blobs", radius=(r, r))[1].ravel())[1:].max() for r in (4, 8)
    ]
    assert sizes[0] <= np.pi * 4.5**2 < sizes[1] <= np.pi * 8.5**2
