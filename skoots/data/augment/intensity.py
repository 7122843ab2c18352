"""Changes of grey values; positions stay. Images are normalised, so 1 is about one standard deviation.

What is drawn is a function of tensors, so that a CPU and a GPU do the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skoots.data.augment.base import AUGMENTATIONS, Frame, IntensityAugmentation, rising
from skoots.ranges import Length, NotNegative, Share

if TYPE_CHECKING:
    from torch import Tensor


PAIRS_AT_ONCE = 2**18  # of noise: what fits a cache


@AUGMENTATIONS.register
class BrightnessContrast(IntensityAugmentation):
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
        self.rate, self.contrast = rate, rising(contrast, "contrast")
        self.brightness = rising(brightness, "brightness")

    def draw(self, frame: Frame, rng: np.random.Generator) -> Gain | None:
        if rng.random() >= self.rate:
            return None
        return Gain(rng.uniform(*self.contrast), rng.uniform(*self.brightness))


@AUGMENTATIONS.register
class Invert(IntensityAugmentation):
    """Mirror the grey values, with probability ``rate``.

    Args:
        rate: in [0, 1].
        about: the value that stays: 0 is the mean of an image normalised by ``zscore``; 0.5 suits
            ``percentile`` and ``dtype``.
    """

    def __init__(self, rate: Share = 0.5, about: float = 0.0) -> None:
        self.rate, self.about = rate, about

    def draw(self, frame: Frame, rng: np.random.Generator) -> Gain | None:
        return Gain(-1.0, 2 * self.about) if rng.random() < self.rate else None


@AUGMENTATIONS.register
class Gamma(IntensityAugmentation):
    """Raise the grey values, taken from the darkest to the brightest of the crop, to a power, with
    probability ``rate``.

    Args:
        rate: in [0, 1].
        gamma: smallest and largest power; as many draws lie below 1 as above it if their product is 1.
    """

    def __init__(self, rate: Share = 0.3, gamma: tuple[Length, Length] = (0.7, 1.43)) -> None:
        self.rate, self.gamma = rate, rising(gamma, "gamma")

    def draw(self, frame: Frame, rng: np.random.Generator) -> Power | None:
        if rng.random() >= self.rate:
            return None
        return Power(math.exp(rng.uniform(*np.log(self.gamma))))


@AUGMENTATIONS.register
class Noise(IntensityAugmentation):
    """Gaussian noise of a random strength, with probability ``rate``.

    Args:
        rate: in [0, 1].
        deviation: largest standard deviation.
    """

    def __init__(self, rate: Share = 0.2, deviation: NotNegative = 0.2) -> None:
        self.rate, self.deviation = rate, deviation

    def draw(self, frame: Frame, rng: np.random.Generator) -> Grain | None:
        if rng.random() >= self.rate:
            return None
        return Grain(rng.uniform(0, self.deviation), int(rng.integers(2**31)))


@AUGMENTATIONS.register
class Blur(IntensityAugmentation):
    """Gaussian blur within sections (the last two axes), with probability ``rate``.

    Args:
        rate: in [0, 1].
        sigma: largest width, voxels.
    """

    def __init__(self, rate: Share = 0.1, sigma: NotNegative = 1.0) -> None:
        self.rate, self.sigma = rate, sigma

    def draw(self, frame: Frame, rng: np.random.Generator) -> Smooth | None:
        return Smooth(rng.uniform(0, self.sigma)) if rng.random() < self.rate else None


@dataclass(frozen=True)
class Gain:
    """``image * factor + shift``."""

    factor: float
    shift: float

    def __call__(self, image: Tensor) -> Tensor:
        return (image * self.factor).add_(self.shift)


@dataclass(frozen=True)
class Power:
    """A power of the grey values between darkest and brightest of each channel, which stay."""

    gamma: float

    def __call__(self, image: Tensor) -> Tensor:
        each = (-1, *(1,) * (image.ndim - 1))
        low, high = image.flatten(1).aminmax(dim=1)
        low, span = low.view(each), (high - low).clamp(min=1e-6).view(each)
        return (image - low).div_(span).pow_(self.gamma).mul_(span).add_(low)


@dataclass(frozen=True)
class Grain:
    """White Gaussian noise that is a function of the voxel's number and a seed, and so the same on any
    device: hashed integers (Wellons' lowbias32), made Gaussian in pairs (Box & Muller 1958)."""

    deviation: float
    seed: int

    def __call__(self, image: Tensor) -> Tensor:
        import torch

        noisy = image.clone(memory_format=torch.contiguous_format)
        half = -(-image.numel() // 2)
        first, second = noisy.view(-1)[:half], noisy.view(-1)[half:]
        for begin in range(0, len(first), PAIRS_AT_ONCE):
            end = min(begin + PAIRS_AT_ONCE, len(first))
            number = torch.arange(begin, end, dtype=torch.int32, device=image.device)
            radius = _uniform(number, self.seed).log_().mul_(-2).sqrt_().mul_(self.deviation)
            angle = _uniform(number, self.seed ^ 0x5BD1E995).mul_(2 * math.pi)
            first[begin:end] += radius * angle.cos()
            rest = second[begin:end]
            rest += (radius * angle.sin())[: len(rest)]
        return noisy


def _uniform(number: Tensor, seed: int) -> Tensor:
    """(N,) float32 in (0, 1]; products of int32 are meant to overflow."""
    import torch

    x = _scramble(number ^ _scramble(torch.full_like(number[:1], seed)))
    return (x >> 8).bitwise_and_(0xFFFFFF).to(torch.float32).add_(1).mul_(2.0**-24)


def _scramble(x: Tensor) -> Tensor:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32), (16, 1)):
        x = (x >> shift).bitwise_and_((1 << (32 - shift)) - 1).bitwise_xor_(x).mul_(factor)
    return x


@dataclass(frozen=True)
class Smooth:
    """Gaussian blur along the last two axes, up to four widths away; the rim is repeated."""

    sigma: float

    def __call__(self, image: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        radius = math.ceil(4 * self.sigma)
        weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / max(self.sigma, 1e-6)) ** 2)
        shares = (weights / weights.sum()).tolist()
        padded = F.pad(image, (radius,) * 4, mode="replicate")
        for axis in (-2, -1):
            length = image.shape[axis]
            total = shares[0] * padded.narrow(axis, 0, length)
            for k, weight in enumerate(shares[1:], 1):
                total.add_(padded.narrow(axis, k, length), alpha=weight)
            padded = total
        return padded
