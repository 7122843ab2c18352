"""Properties of targets that hold for all labels, spacings and maps, each against a slow reading of what it
says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maps import composed, grid_of, random_steps
from scipy import ndimage

from skoots.data.augment import AUGMENTATIONS, Frame, SpatialMap, Window
from skoots.data.augment.base import moved
from skoots.data.dataset import CropDataset
from skoots.data.labelled_volume import LabelledVolume, make_sample
from skoots.data.normalize import Intensity
from skoots.geometry import Box, relative_spacing
from skoots.skeletons import Skeletons, skeleton_mask, skeletonize
from skoots.volumes.array import ArrayVolume

CASES = [
    ((14, 17), (1.0, 1.0)),
    ((16, 12), (2.4, 1.0)),
    ((6, 13, 13), (5.43, 1.0, 1.0)),
    ((9, 9, 9), (1.0, 1.0, 1.0)),
]
seeds, cases = st.integers(0, 10**6), st.sampled_from(CASES)


def random_labels(seed, shape):
    """Ragged touching objects with ids far apart."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.3)
    part = np.floor(3 * ndimage.gaussian_filter(rng.normal(size=shape), 2) / 0.1)
    pieces = ndimage.label(smooth > -0.02)[0] * 40 + part.astype(int) + 10
    return np.where(smooth > -0.02, pieces, 0).astype(np.int32)


def window_of(seed, shape, voxel_size):
    labels = random_labels(seed, shape)
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(1, *shape)).astype(np.float32)
    return Window(image, labels, rng.random(shape) < 0.9, skeletonize(labels, voxel_size), voxel_size)


def volume_of(seed, shape, voxel_size):
    window = window_of(seed, shape, voxel_size)
    raw = Intensity(np.zeros(1, np.float32), np.ones(1, np.float32))
    image, labels = ArrayVolume("image", window.image[0]), ArrayVolume("labels", window.labels)
    return LabelledVolume("v", image, labels, window.skeletons, raw, voxel_size)


def masks_of(sample):
    return skeleton_mask(
        *(torch.from_numpy(a)[None] for a in (sample.labels, sample.offset, sample.inscribed)),
        sample.voxel_size,
    )[0].numpy()


@settings(max_examples=25, deadline=None)
@given(seeds, cases)
def test_offset_leads_to_the_nearest_skeleton_point_of_the_own_object(seed, case):
    shape, voxel_size = case
    window = moved(window_of(seed, shape, voxel_size), composed(random_steps(seed, shape, voxel_size, 0.5)))
    sample = make_sample(window)
    size = np.array(relative_spacing(voxel_size))
    for place in np.argwhere(window.labels > 0):
        points = window.skeletons.of(window.labels[tuple(place)])
        offset = sample.offset[(slice(None), *place)]
        distances = np.sqrt((((points - place) * size) ** 2).sum(1))
        assert np.sqrt(((offset * size) ** 2).sum()) == pytest.approx(distances.min(), abs=1e-4)
        assert np.abs(points - place - offset).max(1).min() < 1e-4  # one of its own points
    assert not sample.offset[:, window.labels == 0].any()


@settings(max_examples=30, deadline=None)
@given(seeds, cases)
def test_skeleton_masks_lie_inside_objects_after_any_map(seed, case):
    shape, voxel_size = case
    window = moved(window_of(seed, shape, voxel_size), composed(random_steps(seed, shape, voxel_size, 0.5)))
    assert not masks_of(make_sample(window))[window.labels == 0].any()


@settings(max_examples=80, deadline=None)
@given(seeds, cases)
def test_turns_commute_with_making_targets_bit_for_bit(seed, case):
    shape, voxel_size = case
    rng = np.random.default_rng(seed)
    order = np.arange(len(shape))
    swap = [k for k in order if (shape[k], voxel_size[k]) == (shape[-1], voxel_size[-1])]
    order[swap] = rng.permutation(order[swap])
    sign = rng.choice([-1.0, 1.0], len(shape))
    turn = SpatialMap.about_centre(shape, np.eye(len(shape))[order] * sign)
    assert turn.is_turn
    window = window_of(seed, shape, voxel_size)
    before, after = make_sample(window), make_sample(moved(window, turn))
    # A voxel of the turned window comes from this place of the other, and vectors turn along.
    came_from = tuple(turn.backward(grid_of(shape)).astype(int).T)
    for name in ("image", "labels", "valid", "inscribed"):
        one, two = np.atleast_1d(getattr(before, name)), getattr(after, name)
        assert np.array_equal(one.reshape(-1, *shape)[(slice(None), *came_from)].ravel(), two.ravel())
    vectors = np.linalg.inv(turn.matrices[0]) @ before.offset[(slice(None), *came_from)].astype(float)
    assert np.array_equal(vectors, after.offset.reshape(len(shape), -1))
    assert np.array_equal(masks_of(before)[came_from], masks_of(after).ravel())


@pytest.mark.parametrize("size", [2.3, 1.7, 3.3, 5.43])
def test_ties_break_alike_after_a_turn(size):
    """Sums of squares must not depend on the order of the axes, or ties break by the last bit."""
    shape, swap = (6, 8, 8), SpatialMap.about_centre((6, 8, 8), np.eye(3)[[0, 2, 1]])
    labels, known = np.ones(shape, np.int32), np.ones(shape, bool)
    for y, x in itertools.combinations(range(8), 2):
        points = Skeletons.pack({1: np.array([[5, y, x], [5, x, y]])}, 3)
        window = Window(np.zeros((1, *shape), np.float32), labels, known, points, (1.0, size, size))
        before, after = make_sample(window).offset, make_sample(moved(window, swap)).offset
        assert np.array_equal(after, before[[0, 2, 1]].transpose(0, 1, 3, 2))


@settings(max_examples=40, deadline=None)
@given(seeds, cases)
def test_targets_of_a_crop_are_those_of_the_volume(seed, case):
    shape, voxel_size = case
    rng = np.random.default_rng(seed)
    volume = volume_of(seed, shape, voxel_size)
    crop = [int(rng.integers(max(4, n // 2), n + 1)) for n in shape]
    box = Box.at([int(rng.integers(0, n - c + 1)) for n, c in zip(shape, crop)], crop)
    whole, part = make_sample(volume.window(Box.of_shape(shape))), make_sample(volume.window(box))
    assert np.array_equal(part.offset, whole.offset[(slice(None), *box.slices)])
    assert np.array_equal(part.inscribed, whole.inscribed[box.slices])
    assert np.array_equal(part.labels > 0, whole.labels[box.slices] > 0)


@pytest.mark.parametrize("shape, voxel_size", [((60, 64), (1.0, 1.0)), ((14, 44, 40), (3.0, 1.0, 1.0))])
@pytest.mark.parametrize("seed", range(4))
def test_skeleton_masks_of_a_crop_are_those_of_the_volume_away_from_the_margin(shape, voxel_size, seed):
    """A mask also looks at neighbours, and at what it is connected with."""
    volume = volume_of(seed, shape, voxel_size)
    start = (1, 2, 3)[-len(shape) :]
    box = Box(start, tuple(n - s for n, s in zip(shape, start)))
    whole, part = (masks_of(make_sample(volume.window(b))) for b in (Box.of_shape(shape), box))
    margin = tuple(slice(4 if n > 20 else 1, n - 4 if n > 20 else n - 1) for n in box.shape)
    assert part[margin].any() and np.array_equal(part[margin], whole[box.slices][margin])


@settings(max_examples=30, deadline=None)
@given(seeds, cases)
def test_a_mapped_crop_is_the_crop_of_the_mapped_volume(seed, case):
    """Reading only what is reached changes nothing, and points outside the crop count."""
    shape, voxel_size = case
    volume = volume_of(seed, shape, voxel_size)
    spatial_map = composed(random_steps(seed, shape, voxel_size, 0.5))
    everything = moved(volume.window(Box.of_shape(shape)), spatial_map)
    here = volume.window(Box.of_shape(shape), spatial_map)
    assert np.allclose(here.image, everything.image, atol=1e-5) and np.array_equal(
        here.valid, everything.valid
    )
    assert np.array_equal(here.labels > 0, everything.labels > 0)
    assert np.allclose(make_sample(here).offset, make_sample(everything).offset)


class Spy(ArrayVolume):
    """Records the boxes that are read."""

    def read(self, box):
        self.boxes = [*getattr(self, "boxes", []), box]
        return super().read(box)


@pytest.mark.parametrize("name", ["Flip", "Rotate", "Elastic", "Affine", "ShiftedSections"])
def test_only_what_this_map_reaches_is_read(name):
    shape, box = (30, 80, 80), Box.at((12, 20, 30), (10, 30, 30))
    volume = volume_of(0, shape, (2.0, 1.0, 1.0))
    image, labels = (Spy("spy", v.read_all()) for v in (volume.image, volume.labels))
    watched = replace(volume, image=image, labels=labels)
    augmentation = AUGMENTATIONS.build({"type": name, "rate": 1.0})
    for seed in range(10):
        spatial_map = augmentation.draw(Frame(box.shape, (2.0, 1.0, 1.0)), np.random.default_rng(seed))
        image.boxes, labels.boxes = [], []
        watched.window(box, spatial_map)
        (read,) = image.boxes
        assert labels.boxes == [read]
        places = spatial_map.backward(grid_of(box.shape)) + box.start
        low, high = np.floor(places.min(0)), np.ceil(places.max(0)) + 1
        low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
        assert (read.start <= low).all() and (read.stop >= high).all()
        spare = 4 if name in ("Elastic", "ShiftedSections") else 0
        assert (low - read.start <= spare).all() and (read.stop - high <= spare).all()


def test_the_dataset_reads_one_box_a_sample():
    volume = volume_of(0, (30, 80, 80), (1.0, 1.0, 1.0))
    watched = replace(volume, image=Spy("spy", volume.image.read_all()))
    for name, most in (("Flip", 1.0), ("Affine", 3.2)):
        part = AUGMENTATIONS.build({"type": name, "rate": 1.0})
        dataset = CropDataset([(watched, 8)], (10, 30, 30), [part], seed=1)
        watched.image.boxes = []
        assert all(dataset[1, index].image.shape == (1, 10, 30, 30) for index in range(8))
        sizes = [box.size / 9000 for box in watched.image.boxes]
        assert len(sizes) == 8 and max(sizes) <= most
