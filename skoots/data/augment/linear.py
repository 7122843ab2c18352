"""Rotation, scale, shear and translation about the centre of a crop, in physical space: anisotropy counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from skoots.data.augment.base import AUGMENTATIONS, Frame, SpatialAugmentation, per_axis
from skoots.data.augment.spatial_map import SpatialMap
from skoots.geometry import to_voxels
from skoots.ranges import Length, NotNegative, Share


@AUGMENTATIONS.register
class Rotate(SpatialAugmentation):
    """Turn with probability ``rate``.

    Args:
        rate: in [0, 1].
        degrees: largest turn to either side. A number turns about the first axis, in the plane of the last
            two; a list has one number for each axis, about which one turns after the other. Of a list, 2D
            takes the first number.
    """

    def __init__(self, rate: Share = 0.5, degrees: NotNegative | list[NotNegative] = 180.0) -> None:
        self.rate, self.degrees = rate, list(degrees) if isinstance(degrees, Sequence) else [degrees]
        if not 1 <= len(self.degrees) <= 3:
            raise ValueError(f"degrees has {len(self.degrees)} numbers. Give one for each axis, or one alone")

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        if rng.random() >= self.rate:
            return None
        if frame.ndim == 3 and len(self.degrees) > 1:
            per_axis(self.degrees, frame.ndim, "Rotate: degrees")
        forward = np.eye(frame.ndim)
        for axis, most in enumerate(self.degrees if frame.ndim == 3 else self.degrees[:1]):
            forward = _turn_about(axis, math.radians(rng.uniform(-most, most)), frame.ndim) @ forward
        return SpatialMap.physical(frame.shape, frame.voxel_size, forward)


@AUGMENTATIONS.register
class Scale(SpatialAugmentation):
    """Magnify all axes alike with probability ``rate``.

    Args:
        rate: in [0, 1].
        scale: smallest and largest magnification.
    """

    def __init__(self, rate: Share = 0.5, scale: tuple[Length, Length] = (0.85, 1.15)) -> None:
        self.rate, self.scale = rate, _rising(scale)

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        if rng.random() >= self.rate:
            return None
        return SpatialMap.about_centre(frame.shape, np.eye(frame.ndim) / rng.uniform(*self.scale))


@AUGMENTATIONS.register
class Shear(SpatialAugmentation):
    """Shear along each of the last two axes with probability ``rate``.

    Args:
        rate: in [0, 1].
        degrees: largest angle to either side, below 45.
    """

    def __init__(self, rate: Share = 0.5, degrees: NotNegative = 7.0) -> None:
        self.rate, self.degrees = rate, _below_45(degrees)

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        if rng.random() >= self.rate:
            return None
        return SpatialMap.physical(frame.shape, frame.voxel_size, _in_plane(_shear(self.degrees, rng), frame))


@AUGMENTATIONS.register
class Translate(SpatialAugmentation):
    """Shift along every axis with probability ``rate``.

    Args:
        rate: in [0, 1].
        distance: largest shift to either side; a number in finest voxels, or a list of voxels per axis
            (2D takes the last two).
    """

    def __init__(self, rate: Share = 0.5, distance: NotNegative | list[NotNegative] = 8.0) -> None:
        self.rate, self.distance = rate, distance

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        if rng.random() >= self.rate:
            return None
        if isinstance(self.distance, Sequence):
            most = tuple(per_axis(self.distance, frame.ndim, "Translate: distance"))
        else:
            most = to_voxels(self.distance, frame.voxel_size)
        shift = [rng.uniform(-d, d) for d in most]
        return SpatialMap.about_centre(frame.shape, np.eye(frame.ndim), shift)


@AUGMENTATIONS.register
class Affine(SpatialAugmentation):
    """Shear, scale and turn in the plane of the last two axes, then shift there, with probability ``rate``.

    Args:
        rate: in [0, 1].
        scale: smallest and largest magnification.
        degrees: largest turn to either side.
        shear: largest angle of shear along each axis, degrees, below 45.
        translate: largest shift to either side, finest voxels.
    """

    def __init__(
        self,
        rate: Share = 0.5,
        scale: tuple[Length, Length] = (0.85, 1.15),
        degrees: NotNegative = 180.0,
        shear: NotNegative = 0.0,
        translate: NotNegative = 0.0,
    ) -> None:
        self.rate, self.scale, self.degrees = rate, _rising(scale), degrees
        self.shear, self.translate = _below_45(shear), translate

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        if rng.random() >= self.rate:
            return None
        turn = _turn_about(0, math.radians(rng.uniform(-self.degrees, self.degrees)), 2)
        plane = rng.uniform(*self.scale) * turn @ _shear(self.shear, rng)
        most = to_voxels(self.translate, frame.voxel_size)[-2:]
        shift = [0.0] * (frame.ndim - 2) + [rng.uniform(-m, m) for m in most]
        return SpatialMap.physical(frame.shape, frame.voxel_size, _in_plane(plane, frame), shift)


@AUGMENTATIONS.register
class RotateScale(Affine):
    """Turn and scale in the plane of the last two axes with probability ``rate``.

    Args:
        rate: in [0, 1].
        degrees: largest turn to either side.
        scale: smallest and largest magnification.
    """

    def __init__(
        self,
        rate: Share = 0.5,
        degrees: NotNegative = 180.0,
        scale: tuple[Length, Length] = (0.85, 1.15),
    ) -> None:
        super().__init__(rate, scale, degrees)


def _turn_about(axis: int, angle: float, ndim: int) -> np.ndarray:
    """(D, D) a turn in the plane of the other two axes; in 2D there is one plane."""
    a, b = [k for k in range(3) if k != axis] if ndim == 3 else (0, 1)
    matrix = np.eye(ndim)
    matrix[[a, b], [a, b]] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def _shear(degrees: float, rng: np.random.Generator) -> np.ndarray:
    slopes = np.tan(np.radians(rng.uniform(-degrees, degrees, 2)))
    return np.array([[1.0, slopes[0]], [slopes[1], 1.0]])


def _in_plane(matrix: np.ndarray, frame: Frame) -> np.ndarray:
    whole = np.eye(frame.ndim)
    whole[-2:, -2:] = matrix
    return whole


def _rising(scale: tuple[float, float]) -> tuple[float, float]:
    if not 0 < scale[0] <= scale[1]:
        raise ValueError("scale is a smallest and a largest magnification, both above 0")
    return scale[0], scale[1]


def _below_45(degrees: float) -> float:
    if not degrees < 45:
        raise ValueError(f"a shear of {degrees:g} degrees folds the image. Stay below 45")
    return degrees
