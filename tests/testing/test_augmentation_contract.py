"""Every built-in augmentation keeps the contract of plugins, and the contract catches faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skoots.data.augment import AUGMENTATIONS, PRESETS, Augmentation, Sequential
from skoots.testing import AugmentationContract, example_window

BUILT_IN = (
    "Affine", "Blur", "BrightnessContrast", "Elastic", "Flip", "Gamma", "Invert", "MissingSections", "Noise",
    "Rotate", "RotateScale", "Scale", "SectionJitter", "Shear", "ShiftedSections", "SwapAxes", "Translate",
)  # fmt: skip


def at_rate_one(name: str) -> Augmentation:
    return AUGMENTATIONS.build({"type": name, "rate": 1.0})


class TestOriginalPreset(AugmentationContract):
    def make(self) -> Augmentation:
        return Sequential(PRESETS["original"]())


class TestEverything(AugmentationContract):
    def make(self) -> Augmentation:
        return Sequential([at_rate_one(name) for name in BUILT_IN])


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_alone(name: str) -> None:
    class Alone(AugmentationContract):
        def make(self) -> Augmentation:
            return at_rate_one(name)

    contract = Alone()
    for dims in (2, 3):
        contract.test_shapes_and_types_stay(dims, 0)
        contract.test_the_window_given_is_left_as_it_is(dims, 0)
        contract.test_the_generator_decides_everything(dims, 0)
        contract.test_skeletons_stay_on_their_objects(dims, 0)


class ForgetsThePoints(Augmentation):
    def __call__(self, window, rng):
        return replace(window, labels=np.roll(window.labels, 5, -1), image=np.roll(window.image, 5, -1))


class WritesIntoTheWindow(Augmentation):
    def __call__(self, window, rng):
        window.image[...] += 1
        return window


def test_faults_are_caught() -> None:
    class Forgetful(AugmentationContract):
        def make(self) -> Augmentation:
            return ForgetsThePoints()

    with pytest.raises(AssertionError, match="moved other than its skeleton"):
        Forgetful().test_skeletons_stay_on_their_objects(3, 0)

    class Careless(AugmentationContract):
        def make(self) -> Augmentation:
            return WritesIntoTheWindow()

    with pytest.raises(AssertionError):
        Careless().test_the_window_given_is_left_as_it_is(2, 0)
    assert example_window(2).labels.max() > 2
