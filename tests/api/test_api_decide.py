"""What ``auto`` means, against brute force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from skoots.api import decide
from skoots.api.decide import choose_crop, choose_vector_scale
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.sources import Reading, Synthetic
from skoots.volumes.array import ArrayVolume


def longest_offsets(volume: LabelledVolume) -> np.ndarray:
    """(n, D) lengths per axis from every voxel to the nearest skeleton point of its object."""
    labels, skeletons = volume.labels.read_all(), volume.skeletons
    spacing = np.array(volume.voxel_size) / min(volume.voxel_size)
    lengths = []
    for row, number in enumerate(skeletons.ids):
        points = skeletons.points[skeletons.starts[row] : skeletons.starts[row + 1]]
        voxels = np.argwhere(labels == number)
        nearest = cdist(voxels * spacing, points * spacing).argmin(1)
        lengths.append(np.abs(points[nearest] - voxels))
    return np.concatenate(lengths)


# Crop -------------------------------------------------------------------------------------------------------


def test_a_large_cube_gives_a_cube() -> None:
    assert choose_crop([(500, 500, 500)], (1, 1, 1), (4, 4, 4), 48**3) == [48, 48, 48]
    assert choose_crop([(500, 500)], (3.0, 3.0), (8, 8), 128 * 128) == [128, 128]


def test_coarse_axes_get_fewer_voxels() -> None:
    assert choose_crop([(500, 900, 900)], (40, 10, 10), (1, 8, 8), 16 * 64 * 64) == [16, 64, 64]


def test_thin_volumes_leave_more_for_the_other_axes() -> None:
    assert choose_crop([(5, 900, 900)], (1, 1, 1), (1, 4, 4), 5 * 100 * 100) == [5, 100, 100]
    assert choose_crop([(5, 30, 900)], (1, 1, 1), (1, 4, 4), 5 * 30 * 200) == [5, 30, 200]


def test_small_volumes_are_taken_whole() -> None:
    assert choose_crop([(10, 20, 30)], (1, 1, 1), (4, 4, 4), 10**6) == [10, 20, 30]
    assert choose_crop([(10, 20), (7, 33)], (1, 1), (4, 4), 10**6) == [10, 33]  # the longest of each axis


def test_random_crops_are_multiples_of_the_stride_within_the_volume() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        ndim = int(rng.integers(2, 4))
        shape = tuple(int(n) for n in rng.integers(1, 200, ndim))
        size = tuple(float(v) for v in rng.uniform(1, 6, ndim))
        stride = tuple(int(s) for s in rng.choice([1, 2, 4, 8], ndim))
        voxels = int(10 ** rng.uniform(2, 6))
        crop = choose_crop([shape], size, stride, voxels)
        assert all(c == n or (c < n and c % s == 0) for c, n, s in zip(crop, shape, stride)), (
            shape,
            stride,
            crop,
        )
        if all(c > 4 * s for c, s in zip(crop, stride)) and any(c < n for c, n in zip(crop, shape)):
            assert 0.5 < math.prod(crop) / voxels < 2


# Scale ------------------------------------------------------------------------------------------------------


def volume_of(shape: Sequence[int], seed: int) -> LabelledVolume:
    return Synthetic(list(shape), seed=seed, radius=(3.0, 5.0)).open(Reading())[0]


@pytest.mark.parametrize("shape", [(60, 60), (16, 40, 40)])
def test_scale_is_a_little_more_than_nearly_all_voxels_need(shape: tuple[int, ...]) -> None:
    volumes = [volume_of(shape, 1), volume_of(shape, 2)]
    lengths = np.concatenate([longest_offsets(volume) for volume in volumes])
    expected = np.maximum(2.0, np.percentile(lengths, 99.5, axis=0) * 1.15)
    scale = choose_vector_scale(volumes)
    assert len(scale) == len(shape)
    assert scale == pytest.approx(expected, abs=0.006)


def test_scale_follows_the_voxel_size() -> None:
    """Nearest is nearest in physical distance; the lengths are voxels."""
    volume = replace(volume_of((16, 40, 40), 3), voxel_size=(5.0, 1.0, 1.0))
    expected = np.maximum(2.0, np.percentile(longest_offsets(volume), 99.5, axis=0) * 1.15)
    assert choose_vector_scale([volume]) == pytest.approx(expected, abs=0.006)
    assert choose_vector_scale([volume]) != choose_vector_scale([replace(volume, voxel_size=(1.0, 1.0, 1.0))])


def test_small_objects_still_get_two_voxels() -> None:
    volume = volume_of((40, 40), 1)
    points = volume.skeletons.points.round().astype(int)
    labels = np.zeros((40, 40), np.int32)
    owner = np.repeat(volume.skeletons.ids, np.diff(volume.skeletons.starts))
    labels[tuple(points.T)] = owner
    assert choose_vector_scale([replace(volume, labels=ArrayVolume("thin", labels, (1.0, 1.0)))]) == [
        2.0,
        2.0,
    ]


def test_ignored_voxels_have_no_say() -> None:
    volume = volume_of((60, 60), 2)
    labels = volume.labels.read_all()
    hidden = np.where(labels == 2, 255, labels)
    ignoring = replace(volume, labels=ArrayVolume("hidden", hidden, (1.0, 1.0)), ignore_label=255)
    bare = replace(volume, labels=ArrayVolume("bare", np.where(labels == 2, 0, labels), (1.0, 1.0)))
    assert choose_vector_scale([ignoring]) == choose_vector_scale([bare])


def test_of_large_volumes_some_blocks_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = volume_of((60, 60), 2)
    whole = choose_vector_scale([volume])
    monkeypatch.setattr(decide, "_block", lambda volume: (15, 15))
    assert choose_vector_scale([volume]) == whole  # 16 blocks are all of it
    monkeypatch.setattr(decide, "SCALE_BLOCKS", 2)
    drawn = {tuple(choose_vector_scale([volume], seed)) for seed in range(6)}
    assert len(drawn) > 1
    assert choose_vector_scale([volume], 3) == choose_vector_scale([volume], 3)


def test_a_draw_of_empty_blocks_falls_back_on_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[30:38, 30:38] = 1
    volume = volume_of((40, 40), 1)
    skeletons = replace(
        volume.skeletons,
        ids=np.array([1]),
        starts=np.array([0, 1]),
        points=np.array([[33.0, 33.0]], np.float32),
        inscribed=np.array([4.0], np.float32),
    )
    lone = replace(volume, labels=ArrayVolume("lone", labels, (1.0, 1.0)), skeletons=skeletons)
    monkeypatch.setattr(decide, "_block", lambda volume: (10, 10))
    monkeypatch.setattr(decide, "SCALE_BLOCKS", 1)
    seeds = [choose_vector_scale([lone], seed) for seed in range(5)]
    assert seeds == [[round(4 * 1.15, 2)] * 2] * 5
