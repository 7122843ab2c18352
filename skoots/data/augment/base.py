"""The contract of augmentations, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from skoots.data.augment.resample import move_skeletons, resample
from skoots.data.augment.spatial_map import SpatialMap
from skoots.errors import SkootsError
from skoots.registry import Registry
from skoots.skeletons import Skeletons

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Change: TypeAlias = "Callable[[Tensor], Tensor]"


@dataclass(frozen=True)
class Window:
    """What an augmentation changes.

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


@dataclass(frozen=True)
class Frame:
    """What is known of a crop before it is read.

    Args:
        shape: D voxels.
        voxel_size: D edge lengths of a voxel.
    """

    shape: tuple[int, ...]
    voxel_size: tuple[float, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Augmentation(ABC):
    """A random change of a window; all randomness comes from the generator that it is given.

    One that moves voxels is a ``SpatialAugmentation``, one that changes grey values an
    ``IntensityAugmentation``: both say what they would do before anything is read. Any other change of a
    window extends this class alone; it takes its turn among the grey values, on the CPU only.
    """

    @abstractmethod
    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        """A new window of the same shape; the one given is left as it is."""


class SpatialAugmentation(Augmentation):
    """A random map of positions. Maps of one crop are composed and applied once."""

    @abstractmethod
    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        """A map from the crop to what it shows, or None for no change."""

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        drawn = self.draw(Frame(window.labels.shape, window.voxel_size), rng)
        return window if drawn is None else moved(window, drawn)


class IntensityAugmentation(Augmentation):
    """A random change of grey values, the same on any device."""

    @abstractmethod
    def draw(self, frame: Frame, rng: np.random.Generator) -> Change | None:
        """A function from a (C, *S) float32 image to a new one, or None for no change. It must be possible
        to pickle it, since worker processes draw it."""

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        import torch

        change = self.draw(Frame(window.image.shape[1:], window.voxel_size), rng)
        if change is None:
            return window
        image = change(torch.from_numpy(np.ascontiguousarray(window.image)))
        return replace(window, image=image.numpy())


def per_axis(values: Sequence[T], ndim: int, what: str) -> list[T]:
    """A list given in a config as one value an axis; in 2D a list of three begins with the sections.

    Raises:
        SkootsError: it has too few values.
    """
    if not ndim <= len(values) <= 3:
        raise SkootsError(f"{what} {list(values)} has {len(values)} numbers for {ndim} axes.")
    return list(values[-ndim:])


def rising(pair: tuple[float, float], what: str) -> tuple[float, float]:
    """A range given in a config.

    Raises:
        ValueError: its first number is larger than its second.
    """
    if not pair[0] <= pair[1]:
        raise ValueError(f"{what} is {list(pair)}, must be a smallest and a largest number. Exchange them")
    return pair[0], pair[1]


def moved(window: Window, spatial_map: SpatialMap) -> Window:
    """A window as a map shows it; what comes from beyond it is not valid."""
    shape = window.labels.shape
    image, labels, valid = resample((window.image, window.labels, window.valid), spatial_map, shape)
    skeletons = move_skeletons(window.skeletons, spatial_map, (0,) * len(shape))
    return Window(image, labels, valid, skeletons, window.voxel_size)


AUGMENTATIONS: Registry[Augmentation] = Registry(
    "augmentation",
    Augmentation,
    home=[
        f"skoots.data.augment.{name}"
        for name in ("turns", "linear", "elastic", "sections", "intensity", "sequential")
    ],
)
