"""The contract of augmentations, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from skoots.registry import Registry
from skoots.skeletons import Skeletons


@dataclass(frozen=True)
class Window:
    """What an augmentation moves.

    Args:
        image: (C, *S) float32, normalised.
        labels: (*S) int32 ids.
        valid: (*S) bool.
        skeletons: points in voxels of the window; they may lie outside it.
        voxel_size: D edge lengths of a voxel.
    """

    image: np.ndarray
    labels: np.ndarray
    valid: np.ndarray
    skeletons: Skeletons
    voxel_size: tuple[float, ...]


class Augmentation(ABC):
    """A random change of a window; all randomness comes from the generator that it is given."""

    @abstractmethod
    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        """A new window of the same shape; the one given is left as it is."""


AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation", Augmentation, home=["skoots.data.augment.turns", "skoots.data.augment.intensity"]
)
