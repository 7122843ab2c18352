"""Transforms that move image, labels and skeletons by the same map."""

from __future__ import annotations

from skoots.data.augment.base import AUGMENTATIONS, Augmentation, Window

__all__ = ["AUGMENTATIONS", "Augmentation", "Window", "default_augmentations"]


def default_augmentations() -> list[Augmentation]:
    """What ``augment: default`` means: exact turns, then mild changes of grey values."""
    return [AUGMENTATIONS.build(name) for name in ("Flip", "SwapAxes", "BrightnessContrast", "Blur", "Noise")]
