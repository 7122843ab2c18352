"""RotateScale moves image, labels and points by the same map."""

from __future__ import annotations

import numpy as np
import pytest

from skoots.data.augment import Window
from skoots.data.augment.rotate import RotateScale
from skoots.data.dataset import CropDataset, Reading, Synthetic, open_sources
from skoots.skeletons import Skeletons

SIZES = {2: (1.0, 1.0), 3: (4.0, 1.0, 2.0)}


def ball_window(ndim: int) -> tuple[Window, np.ndarray]:
    """Balls of radius 4 around points that are also their skeletons; the image is brightest at the points."""
    shape = (9, 80, 80)[-ndim:]
    rng = np.random.default_rng(0)
    centres = np.array([[4, y, x] for y in (24, 40, 56) for x in (24, 40, 56)], float)[:, -ndim:]
    centres[:, -2:] += rng.uniform(-2, 2, (9, 2))
    voxels = np.moveaxis(np.indices(shape), 0, -1)[..., None, :]
    distance = np.sqrt(((voxels - centres) ** 2).sum(-1))
    labels = np.where(distance.min(-1) <= 4, distance.argmin(-1) + 1, 0).astype(np.int32)
    image = np.exp(-(distance.min(-1) ** 2) / 8).astype(np.float32)[None]
    skeletons = Skeletons.pack({i + 1: c[None] for i, c in enumerate(centres)}, ndim)
    return Window(image, labels, np.ones(shape, bool), skeletons, SIZES[ndim]), centres


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_points_stay_at_the_centres_of_their_objects(ndim: int, seed: int) -> None:
    window, _ = ball_window(ndim)
    moved = RotateScale(rate=1.0)(window, np.random.default_rng(seed))
    assert moved.labels.shape == window.labels.shape and moved.image.shape == window.image.shape
    compared = 0
    for i in range(9):
        point = moved.skeletons.of(i + 1)[0]
        plane = moved.labels if ndim == 2 else moved.labels[4]
        voxels = np.argwhere(plane == i + 1)
        if not ((point[-2:] > 11).all() and (point[-2:] < 69).all()):
            continue
        compared += 1
        assert np.abs(voxels.mean(0) - point[-2:]).max() < 0.5
        at = tuple(np.rint(point).astype(int))
        assert moved.labels[at] == i + 1 and moved.image[0][at] > 0.8
    assert compared >= 2
    assert np.abs(moved.skeletons.points - window.skeletons.points).max() > 2


def test_what_comes_from_outside_is_not_valid_and_the_margin_prevents_it() -> None:
    window, _ = ball_window(2)
    augmentation = RotateScale(rate=1.0)
    rng = np.random.default_rng(1)
    assert not augmentation(window, rng).valid.all()
    for seed in range(20):
        margin = augmentation.margin((40, 40))
        big = Window(window.image, window.labels, window.valid, window.skeletons, window.voxel_size)
        assert all(40 + 2 * m <= 80 for m in margin)
        inner = augmentation(big, np.random.default_rng(seed)).cut(tuple((80 - 40) // 2 for _ in margin))
        assert inner.labels.shape == (40, 40) and inner.valid.all()


def test_the_dataset_reads_larger_and_cuts() -> None:
    volumes = open_sources([Synthetic([24, 64, 64], seed=3, samples_per_volume=4)], Reading())
    dataset = CropDataset(volumes, (16, 24, 24), [RotateScale(rate=1.0)], seed=1)
    sample = dataset[1, 0]
    assert sample.labels.shape == (16, 24, 24) == sample.offset.shape[1:]
    inside = sample.labels > 0
    assert inside.any()
    # Offsets still lead to the skeletons of the turned objects: never farther than objects are thick, scaled
    # up.
    assert np.abs(sample.offset[:, inside]).max() < 12


def test_scale_must_be_possible() -> None:
    with pytest.raises(ValueError, match="above 0"):
        RotateScale(scale=(0.0, 1.0))
