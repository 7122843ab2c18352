"""The contract of augmentations, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    def cut(self, margin: Sequence[int]) -> Window:
        """Without ``margin`` voxels on both sides of each axis."""
        if not any(margin):
            return self
        inner = tuple(slice(m, n - m) for m, n in zip(margin, self.labels.shape))
        window = (slice(None), *inner)
        return Window(
            self.image[window],
            self.labels[inner],
            self.valid[inner],
            replace(self.skeletons, points=self.skeletons.points - np.asarray(margin, np.float32)),
            self.voxel_size,
        )


class Augmentation(ABC):
    """A random change of a window; all randomness comes from the generator that it is given."""

    @abstractmethod
    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        """A new window of the same shape; the one given is left as it is."""

    def margin(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """D voxels on either side that a window of ``shape`` needs besides, so that all of it has data
        afterwards."""
        return (0,) * len(shape)


AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation",
    Augmentation,
    home=["skoots.data.augment.turns", "skoots.data.augment.rotate", "skoots.data.augment.intensity"],
)
