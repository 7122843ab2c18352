"""Transforms that move image, labels and skeletons by the same map, and change grey values."""

from skoots.data.augment.base import (
    AUGMENTATIONS,
    Augmentation,
    Frame,
    IntensityAugmentation,
    SpatialAugmentation,
    Window,
)
from skoots.data.augment.presets import PRESETS, default_augmentations
from skoots.data.augment.sequential import Sequential
from skoots.data.augment.spatial_map import SpatialMap

__all__ = [
    "AUGMENTATIONS",
    "PRESETS",
    "Augmentation",
    "Frame",
    "IntensityAugmentation",
    "Sequential",
    "SpatialAugmentation",
    "SpatialMap",
    "Window",
    "default_augmentations",
]
