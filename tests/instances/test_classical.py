"""The distance-transform watershed on shapes whose right answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from skoots.instances.classical import distance_watershed
from skoots.metrics import contingency, score


def balls(shape, centres, radius, voxel_size=None):
    """Labels of balls by their nearest centre, physically round."""
    grid = np.indices(shape).astype(float)
    edges = np.asarray(voxel_size or (1,) * len(shape)).reshape(-1, *(1,) * len(shape))
    distances = np.stack(
        [np.sqrt((((grid - np.reshape(c, edges.shape)) * edges) ** 2).sum(axis=0)) for c in centres]
    )
    return np.where(distances.min(axis=0) <= radius, distances.argmin(axis=0) + 1, 0)


def f1(truth, labels):
    return score(contingency(truth, labels))["F1@0.75"]


@pytest.mark.parametrize(
    "shape, centres",
    [
        ((30, 40), [(15, 12), (15, 28)]),
        ((24, 24, 40), [(12, 12, 12), (12, 12, 28)]),
    ],
)
def test_touching_balls_come_apart(shape, centres):
    truth = balls(shape, centres, 9)
    assert ndimage.label(truth)[1] == 1
    labels = distance_watershed(truth > 0, (1,) * len(shape), neck=0.8)
    assert labels.dtype == np.int32
    assert np.array_equal(labels > 0, truth > 0)
    assert f1(truth, labels) == 1.0


def test_a_tube_stays_whole():
    zz, yy, xx = np.indices((20, 40, 60))
    tube = ((zz - 10) ** 2 + (yy - 20 - 8 * np.sin(xx / 10)) ** 2 <= 25) & (xx > 3) & (xx < 56)
    assert distance_watershed(tube, (1, 1, 1)).max() == 1


def test_anisotropy_is_honoured():
    """Two balls above each other in z, voxels four times as high as wide."""
    voxel_size = (40.0, 10.0, 10.0)
    truth = balls((12, 30, 30), [(3, 15, 15), (7.4, 15, 15)], 100, voxel_size)
    assert ndimage.label(truth)[1] == 1
    assert f1(truth, distance_watershed(truth > 0, voxel_size, neck=0.8)) == 1.0
    assert f1(truth, distance_watershed(truth > 0, (1, 1, 1), neck=0.8)) < 1.0


def test_neck_decides():
    truth = balls((30, 44), [(15, 12), (15, 25)], 9)  # the neck is 0.72 of the balls
    counts = [distance_watershed(truth > 0, (1, 1), neck=neck).max() for neck in (0.4, 0.9)]
    assert counts == [1, 2]


def test_small_and_large_objects_with_one_setting():
    truth = np.zeros((60, 90), int)
    truth[:16] = np.pad(balls((16, 30), [(8, 8), (8, 17)], 5), ((0, 0), (0, 60)))
    large = balls((44, 90), [(22, 23), (22, 59)], 20)
    truth[16:] = np.where(large, large + 2, 0)
    assert f1(truth, distance_watershed(truth > 0, (1, 1), neck=0.9)) == 1.0


def test_every_component_keeps_a_label():
    foreground = np.zeros((9, 9, 9), bool)
    foreground[0, 0, 0] = foreground[4, 4, 2:7] = foreground[8, 7:, 7:] = True
    labels = distance_watershed(foreground, (1, 1, 1))
    assert np.array_equal(labels > 0, foreground)
    assert labels.max() == 3


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full(value):
    labels = distance_watershed(np.full((4, 5, 6), value), (2, 1, 1))
    assert np.array_equal(labels, np.full((4, 5, 6), int(value)))


def test_neck_out_of_range():
    with pytest.raises(ValueError, match=r"neck is a ratio between 0 and 1, not 1\.5"):
        distance_watershed(np.ones((3, 3), bool), (1, 1), neck=1.5)
