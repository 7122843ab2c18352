"""What happens to single sections of a stack: shifted, missing, stained or exposed otherwise. 2D images have
no sections and stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skoots.data.augment.base import (
    AUGMENTATIONS,
    Frame,
    IntensityAugmentation,
    SpatialAugmentation,
    rising,
)
from skoots.data.augment.spatial_map import Displacement, SpatialMap
from skoots.geometry import to_voxels
from skoots.ranges import Length, NotNegative, Share

if TYPE_CHECKING:
    from torch import Tensor


@AUGMENTATIONS.register
class ShiftedSections(SpatialAugmentation):
    """Shift some sections in their plane, image and truth alike, with probability ``rate``.

    Args:
        rate: in [0, 1].
        share: of the sections that are shifted; 1 makes all of them jitter.
        distance: largest shift along each axis to either side, finest voxels.
    """

    def __init__(self, rate: Share = 0.1, share: Share = 0.1, distance: NotNegative = 3.0) -> None:
        self.rate, self.share, self.distance = rate, share, distance

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        if frame.ndim < 3 or rng.random() >= self.rate:
            return None
        sections = frame.shape[0]
        shift = rng.uniform(-1, 1, (sections, 2)) * to_voxels(self.distance, frame.voxel_size)[-2:]
        shift[rng.random(sections) >= self.share] = 0
        values = np.zeros((sections, 1, 1, 3))
        values[:, 0, 0, 1:] = shift
        return SpatialMap.displaced(Displacement(values, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))


@AUGMENTATIONS.register
class MissingSections(IntensityAugmentation):
    """Blacken some sections of the image, but not the truth, with probability ``rate``.

    Args:
        rate: in [0, 1].
        share: of the sections that are missing.
    """

    def __init__(self, rate: Share = 0.1, share: Share = 0.05) -> None:
        self.rate, self.share = rate, share

    def draw(self, frame: Frame, rng: np.random.Generator) -> Blacken | None:
        if frame.ndim < 3 or rng.random() >= self.rate:
            return None
        missing = np.flatnonzero(rng.random(frame.shape[0]) < self.share)
        return Blacken(tuple(missing.tolist())) if len(missing) else None


@dataclass(frozen=True)
class Blacken:
    """Give sections the darkest value of the crop.

    Args:
        sections: their numbers.
    """

    sections: tuple[int, ...]

    def __call__(self, image: Tensor) -> Tensor:
        changed = image.clone()
        changed[:, list(self.sections)] = image.flatten(1).amin(1).view(-1, 1, 1, 1)
        return changed


@AUGMENTATIONS.register
class SectionJitter(IntensityAugmentation):
    """Change brightness and contrast of each section on its own, with probability ``rate``.

    Args:
        rate: in [0, 1].
        contrast: smallest and largest factor.
        brightness: largest shift to either side.
    """

    def __init__(
        self, rate: Share = 0.1, contrast: tuple[Length, Length] = (0.9, 1.1), brightness: NotNegative = 0.1
    ) -> None:
        self.rate, self.contrast, self.brightness = rate, rising(contrast, "contrast"), brightness

    def draw(self, frame: Frame, rng: np.random.Generator) -> SectionGain | None:
        if frame.ndim < 3 or rng.random() >= self.rate:
            return None
        factors = rng.uniform(*self.contrast, frame.shape[0])
        shifts = rng.uniform(-self.brightness, self.brightness, frame.shape[0])
        return SectionGain(tuple(factors.tolist()), tuple(shifts.tolist()))


@dataclass(frozen=True)
class SectionGain:
    """``image * factor + shift`` for each section.

    Args:
        factors: one a section.
        shifts: one a section.
    """

    factors: tuple[float, ...]
    shifts: tuple[float, ...]

    def __call__(self, image: Tensor) -> Tensor:
        factors, shifts = image.new_tensor([self.factors, self.shifts]).view(2, 1, -1, 1, 1)
        return image * factors + shifts
