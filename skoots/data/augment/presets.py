"""What ``augment: default``, ``original`` and ``none`` mean."""

from __future__ import annotations

from skoots.data.augment.base import AUGMENTATIONS, Augmentation


def default_augmentations(normalize: str = "zscore") -> list[Augmentation]:
    """Exact turns, then mild changes of grey values, alike for every normalisation."""
    return [AUGMENTATIONS.build(name) for name in ("Flip", "SwapAxes", "BrightnessContrast", "Blur", "Noise")]


def no_augmentations(normalize: str = "zscore") -> list[Augmentation]:
    """Crops as they are."""
    return []


def original_augmentations(normalize: str = "zscore") -> list[Augmentation]:
    """The rates and ranges of the original SKOOTS.

    Its grey values lie in [0, 1], as ours do with ``percentile`` and ``dtype``. With ``zscore`` and ``asinh``
    1 is about a standard deviation, which is taken for a quarter of that range: its brightness of 0.1 is 0.4
    there, and so is its noise. It inverts half of its images, about the middle of the range.

    Args:
        normalize: how the images are normalised; not ``none``, which tells nothing of their range.
    """
    middle, tenth = (0.5, 0.1) if normalize in ("percentile", "dtype") else (0.0, 0.4)
    nodes = [
        {"type": "Flip", "rate": 0.5},
        {"type": "Affine", "rate": 0.66, "scale": (0.85, 1.1), "degrees": 180.0, "shear": 7.0},
        {"type": "Elastic", "rate": 0.33, "grid": [2, 6, 6], "magnitude": [0.01, 0.05, 0.05]},
        {"type": "Invert", "rate": 0.5, "about": middle},
        {"type": "BrightnessContrast", "rate": 0.4, "contrast": (1.0, 1.0), "brightness": (-tenth, tenth)},
        {"type": "BrightnessContrast", "rate": 0.33, "contrast": (0.75, 2.0), "brightness": (0.0, 0.0)},
        {"type": "Noise", "rate": 0.2, "deviation": tenth},
    ]
    return [AUGMENTATIONS.build(node) for node in nodes]


PRESETS = {"default": default_augmentations, "original": original_augmentations, "none": no_augmentations}
