"""Changes of grey values; positions stay. Images are normalised, so 1 is about one standard deviation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from skoots.data.augment.base import AUGMENTATIONS, Augmentation, Window
from skoots.ranges import NotNegative, Share


@AUGMENTATIONS.register
class BrightnessContrast(Augmentation):
    """``image * factor + shift`` with probability ``rate``.

    Args:
        rate: in [0, 1].
        contrast: smallest and largest factor.
        brightness: smallest and largest shift.
    """

    def __init__(
        self,
        rate: Share = 0.5,
        contrast: tuple[float, float] = (0.75, 1.33),
        brightness: tuple[float, float] = (-0.3, 0.3),
    ) -> None:
        self.rate, self.contrast, self.brightness = rate, contrast, brightness

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        if rng.random() >= self.rate:
            return window
        factor, shift = rng.uniform(*self.contrast), rng.uniform(*self.brightness)
        return replace(window, image=window.image * np.float32(factor) + np.float32(shift))


@AUGMENTATIONS.register
class Noise(Augmentation):
    """Gaussian noise of a random strength, with probability ``rate``.

    Args:
        rate: in [0, 1].
        deviation: largest standard deviation.
    """

    def __init__(self, rate: Share = 0.2, deviation: NotNegative = 0.2) -> None:
        self.rate, self.deviation = rate, deviation

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        if rng.random() >= self.rate:
            return window
        strength = np.float32(rng.uniform(0, self.deviation))
        return replace(
            window, image=window.image + strength * rng.standard_normal(window.image.shape, np.float32)
        )


@AUGMENTATIONS.register
class Blur(Augmentation):
    """Gaussian blur within sections (the last two axes), with probability ``rate``.

    Args:
        rate: in [0, 1].
        sigma: largest width, voxels.
    """

    def __init__(self, rate: Share = 0.1, sigma: NotNegative = 1.0) -> None:
        self.rate, self.sigma = rate, sigma

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        if rng.random() >= self.rate:
            return window
        width = rng.uniform(0, self.sigma)
        widths = (0,) * (window.image.ndim - 2) + (width, width)
        return replace(window, image=ndimage.gaussian_filter(window.image, widths))
