"""Augmentations: image, labels, valid and skeletons move by one map, and no voxel is invented."""

from __future__ import annotations

import numpy as np
import pytest

from skoots.data.augment import AUGMENTATIONS, Sequential, Window, default_augmentations
from skoots.data.augment.intensity import Blur, BrightnessContrast, Noise
from skoots.data.augment.turns import Flip, SwapAxes
from skoots.data.labelled_volume import make_sample
from skoots.skeletons import nearest_offsets, skeletonize
from skoots.synthetic import make_volume


def make_window(shape=(8, 16, 16), voxel_size=None):
    """Two channels, the first of which encodes each voxel's position."""
    voxel_size = voxel_size or (1.0,) * len(shape)
    image, labels = make_volume(shape, 0, radius=(2, 3))
    code = np.arange(labels.size, dtype=np.float32).reshape(shape)
    valid = np.random.default_rng(0).random(shape) < 0.8
    return Window(np.stack([code, image]), labels, valid, skeletonize(labels, voxel_size), voxel_size)


def seeds_of(augmentation, window, count=12):
    return [augmentation(window, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize(
    "augmentation", [Flip(), SwapAxes(), SwapAxes(rate=1.0), Flip(rate=1.0)], ids=lambda a: type(a).__name__
)
@pytest.mark.parametrize(
    "shape, voxel_size",
    [
        ((8, 16, 16), None),
        ((12, 12, 12), None),
        ((24, 24), None),
        ((16, 16, 16), (3, 1, 1)),
    ],
)
def test_everything_moves_by_one_map(augmentation, shape, voxel_size):
    window = make_window(shape, voxel_size)
    moved_at_all = False
    for moved in seeds_of(augmentation, window):
        assert moved.image.shape == window.image.shape and moved.labels.shape == shape
        came_from = moved.image[0].astype(int).ravel()
        assert (
            len(np.unique(came_from)) == window.labels.size
        )  # a permutation: nothing lost, nothing invented
        assert np.array_equal(moved.image[1].ravel(), window.image[1].ravel()[came_from])
        assert np.array_equal(moved.labels.ravel(), window.labels.ravel()[came_from])
        assert np.array_equal(moved.valid.ravel(), window.valid.ravel()[came_from])
        before, after = (w.skeletons.points.astype(int) for w in (window, moved))
        assert np.array_equal(moved.image[0][tuple(after.T)], window.image[0][tuple(before.T)])
        moved_at_all |= not np.array_equal(came_from, np.arange(window.labels.size))
    assert moved_at_all


def test_offsets_turn_with_the_window():
    """Offsets made after a turn have the lengths of offsets made before it: the geometry is the same."""
    window = make_window((12, 12, 12), (1, 1, 1))
    before = nearest_offsets(window.labels, window.skeletons)
    for moved in seeds_of(SwapAxes(), window, 6):
        came_from = moved.image[0].astype(int).ravel()
        after = make_sample(moved).offset
        lengths = [(o**2).sum(0).ravel() for o in (after, before)]
        assert np.array_equal(lengths[0], lengths[1][came_from])


def test_the_window_given_is_left_as_it_is():
    window = make_window()
    copies = [window.image.copy(), window.labels.copy(), window.valid.copy(), window.skeletons.points.copy()]
    every = [AUGMENTATIONS.build(name) for name in AUGMENTATIONS.names() if name != "Sequential"]
    for part in every:
        part.rate = 1.0
    for augmentation in [*every, Sequential(every)]:
        for changed in seeds_of(augmentation, window, 2):
            assert changed.image.shape == window.image.shape and changed.labels.shape == window.labels.shape
    after = [window.image, window.labels, window.valid, window.skeletons.points]
    assert all(np.array_equal(a, b) for a, b in zip(copies, after))


def test_axes_that_differ_are_never_swapped():
    cubes, flat = make_window((16, 16, 16), (3, 1, 1)), make_window((12, 14, 16))
    for moved in seeds_of(SwapAxes(rate=1.0), cubes):
        assert (
            moved.image[0] // 16**2 == np.arange(16).reshape(16, 1, 1)
        ).all()  # each section stays in its place
    assert all(np.array_equal(moved.image, flat.image) for moved in seeds_of(SwapAxes(rate=1.0), flat))


def test_flips_and_swaps_reach_all_48_turns_of_a_cube():
    window = make_window((8, 8, 8))
    turns = set()
    for seed in range(500):
        rng = np.random.default_rng(seed)
        turns.add(SwapAxes()(Flip()(window, rng), rng).image[0].tobytes())
    assert len(turns) == 48


@pytest.mark.parametrize(
    "augmentation", [BrightnessContrast(rate=1), Noise(rate=1), Blur(rate=1)], ids=lambda a: type(a).__name__
)
def test_grey_values_change_and_positions_do_not(augmentation):
    window = make_window()
    for changed in seeds_of(augmentation, window, 4):
        assert changed.image.dtype == np.float32 and changed.image.shape == window.image.shape
        assert not np.array_equal(changed.image, window.image)
        assert changed.labels is window.labels and changed.skeletons is window.skeletons
    for unchanged in seeds_of(type(augmentation)(rate=0), window, 4):
        assert unchanged is window


def test_strengths():
    window = make_window()
    rng = np.random.default_rng(0)
    doubled = BrightnessContrast(1, (2, 2), (0.5, 0.5))(window, rng)
    assert np.allclose(doubled.image, 2 * window.image + 0.5)
    noise = [np.std(Noise(1, 0.2)(window, rng).image[1] - window.image[1]) for _ in range(20)]
    assert 0.1 < max(noise) < 0.22
    blurred = Blur(1, 2.0)(window, np.random.default_rng(1)).image[1]
    assert blurred.std() < window.image[1].std()
    spike = np.zeros((1, 5, 9, 9), np.float32)
    spike[0, 2, 4, 4] = 1
    spread = Blur(1, 2.0)(Window(spike, *[None] * 3, (1, 1, 1)), np.random.default_rng(1)).image[0]
    assert not spread[[0, 1, 3, 4]].any() and (spread[2] > 0).sum() > 5  # within the section only


def test_the_generator_decides_everything():
    window = make_window()
    for augmentation in default_augmentations():
        one, two = (augmentation(window, np.random.default_rng(7)) for _ in range(2))
        assert np.array_equal(one.image, two.image) and np.array_equal(one.labels, two.labels)
    assert [type(a).__name__ for a in default_augmentations()] == [
        "Flip",
        "SwapAxes",
        "BrightnessContrast",
        "Blur",
        "Noise",
    ]
