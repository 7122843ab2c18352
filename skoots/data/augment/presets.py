"""What ``augment: default``, ``original`` and ``none`` mean."""

from __future__ import annotations

from skoots.data.augment.base import AUGMENTATIONS, Augmentation


def default_augmentations() -> list[Augmentation]:
    """Exact turns, then mild changes of grey values."""
    return [AUGMENTATIONS.build(name) for name in ("Flip", "SwapAxes", "BrightnessContrast", "Blur", "Noise")]


def original_augmentations() -> list[Augmentation]:
    """The rates and ranges of the original SKOOTS.

    Its grey values lie in [0, 1]. Of ours, 1 is a standard deviation, which is taken for a quarter of that
    range: its brightness of 0.1 is 0.4 here, and so is its noise. It inverts half of its images.
    """
    nodes = [
        {"type": "Flip", "rate": 0.5},
        {"type": "Affine", "rate": 0.66, "scale": (0.85, 1.1), "degrees": 180.0, "shear": 7.0},
        {"type": "Elastic", "rate": 0.33, "grid": [2, 6, 6], "magnitude": [0.01, 0.05, 0.05]},
        {"type": "Invert", "rate": 0.5},
        {"type": "BrightnessContrast", "rate": 0.4, "contrast": (1.0, 1.0), "brightness": (-0.4, 0.4)},
        {"type": "BrightnessContrast", "rate": 0.33, "contrast": (0.75, 2.0), "brightness": (0.0, 0.0)},
        {"type": "Noise", "rate": 0.2, "deviation": 0.4},
    ]
    return [AUGMENTATIONS.build(node) for node in nodes]


PRESETS = {"default": default_augmentations, "original": original_augmentations, "none": list}
