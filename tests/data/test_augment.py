"""Augmentations: image, labels, valid and skeletons move by one map, and no voxel is invented."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from skoots.data.augment import AUGMENTATIONS, Augmentation, Frame, Sequential, Window, default_augmentations
from skoots.data.augment.intensity import Blur, BrightnessContrast, Gamma, Grain, Invert, Noise, Smooth
from skoots.data.augment.sections import MissingSections, SectionJitter
from skoots.data.augment.turns import Flip, SwapAxes
from skoots.data.labelled_volume import make_sample
from skoots.errors import SkootsError
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


def test_inversion_gamma_and_noise():
    window = make_window()
    rng = np.random.default_rng(0)
    assert np.allclose(Invert(1.0)(window, rng).image, -window.image)
    assert np.allclose(Invert(1.0, about=0.5)(window, rng).image, 1 - window.image, atol=1e-3)
    for seed in range(5):
        bent = Gamma(1.0, (2.0, 2.0))(window, np.random.default_rng(seed)).image
        for channel, before in zip(bent, window.image):
            low, high = before.min(), before.max()
            expected = ((before - low) / (high - low)) ** 2 * (high - low) + low
            assert np.allclose(channel, expected, atol=1e-3 * (high - low))


def test_noise_is_white_gaussian_and_never_the_same():
    image = torch.zeros(1, 40, 101, 99)
    one, same, other = Grain(1.0, 5)(image), Grain(1.0, 5)(image), Grain(1.0, 6)(image)
    assert torch.equal(one, same) and abs(float((one * other).mean())) < 0.01
    values = one.flatten().double()
    assert abs(float(values.mean())) < 0.01 and abs(float(values.std()) - 1) < 0.01
    assert abs(float((values**4).mean()) - 3) < 0.05  # as of a Gaussian
    half = len(values) // 2
    for lag in (1, 2, 99, half):
        assert abs(float((values[:-lag] * values[lag:]).mean())) < 0.01


@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.0, 2.5])
def test_blur_is_gaussian(sigma):
    image = np.random.default_rng(0).normal(size=(2, 3, 30, 20)).astype(np.float32)
    expected = ndimage.gaussian_filter(image, (0, 0, sigma, sigma), mode="nearest")
    assert np.allclose(Smooth(sigma)(torch.from_numpy(image)).numpy(), expected, atol=1e-2)


def test_single_sections_change_and_the_others_do_not():
    window = make_window((20, 16, 16))
    black = MissingSections(1.0, 0.3)(window, np.random.default_rng(1))
    changed = (black.image != window.image).any((0, 2, 3))
    assert (
        2 <= changed.sum() <= 11
        and (black.image[:, changed] == window.image.min((1, 2, 3)).reshape(2, 1, 1, 1)).all()
    )
    assert black.labels is window.labels
    jitter = SectionJitter(1.0, (0.8, 1.2), 0.3)(window, np.random.default_rng(1)).image
    slopes = [np.polyfit(a.ravel(), b.ravel(), 1) for a, b in zip(window.image[1], jitter[1])]
    assert np.ptp([s[0] for s in slopes]) > 0.2 and np.ptp([s[1] for s in slopes]) > 0.2
    for a, b, (slope, shift) in zip(window.image[1], jitter[1], slopes):
        assert np.allclose(b, slope * a + shift, atol=1e-4) and 0.8 <= slope <= 1.2
    flat = make_window((24, 24))
    for part in (MissingSections(1.0, 1.0), SectionJitter(1.0)):
        assert part(flat, np.random.default_rng(0)) is flat


class Stamp(Augmentation):
    """A user's own: it writes a mark."""

    def __call__(self, window, rng):
        image = window.image.copy()
        image[..., 0] = 7
        return replace(window, image=image)


def test_a_change_of_ones_own_takes_its_turn_among_the_grey_values():
    window = make_window((24, 24))
    sequence = Sequential([BrightnessContrast(1.0, (2, 2), (0, 0)), Stamp(), Invert(1.0), Flip(1.0)])
    image = sequence(window, np.random.default_rng(0)).image
    assert (image[..., 0] == -7).all() and np.allclose(
        image[..., 1:], -2 * window.image[:, ::-1, ::-1][..., 1:]
    )
    assert sequence.unportable == ["Stamp"]
    with pytest.raises(SkootsError, match="Stamp cannot work on the device"):
        sequence.draw_changes(Frame((24, 24), (1.0, 1.0)), np.random.default_rng(0))
