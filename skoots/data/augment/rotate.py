"""Rotation and scaling within sections, by one resampling."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import ndimage

from skoots.data.augment.base import AUGMENTATIONS, Augmentation, Window
from skoots.ranges import Length, Share


@AUGMENTATIONS.register
class RotateScale(Augmentation):
    """Turn about the first axis of a volume (in the plane of the last two axes) and scale there, with
    probability ``rate``.

    The image is interpolated linearly, labels take the nearest voxel, and skeleton points move by the exact
    map. What comes from beyond the window is not valid, so windows are read larger and cut afterwards, see
    ``margin``.

    Args:
        rate: in [0, 1].
        degrees: largest turn to either side.
        scale: smallest and largest magnification.
    """

    def __init__(
        self, rate: Share = 0.5, degrees: float = 180.0, scale: tuple[Length, Length] = (0.85, 1.15)
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError("scale is a smallest and a largest magnification, both above 0")
        self.rate, self.degrees, self.scale = rate, degrees, scale

    def margin(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        plane = shape[-2:]
        diagonal = math.hypot(*plane) if self.degrees % 360 else max(plane)
        reach = diagonal / min(1.0, self.scale[0])
        return (0,) * (len(shape) - 2) + tuple(max(0, math.ceil((reach - n) / 2)) for n in plane)

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        if rng.random() >= self.rate:
            return window
        forward = self._matrix(window, rng)
        backward = np.linalg.inv(forward)
        centre = (np.array(window.labels.shape) - 1) / 2
        offset = centre - backward @ centre
        image = np.stack(
            [
                ndimage.affine_transform(channel, backward, offset, order=1, mode="nearest", prefilter=False)
                for channel in window.image
            ]
        )
        points = (window.skeletons.points - centre) @ forward.T + centre
        magnification = math.sqrt(abs(np.linalg.det(forward)))
        return replace(
            window,
            image=image,
            labels=ndimage.affine_transform(window.labels, backward, offset, order=0, prefilter=False),
            valid=ndimage.affine_transform(
                window.valid.astype(np.uint8), backward, offset, order=0, prefilter=False
            )
            > 0,
            skeletons=replace(
                window.skeletons,
                points=points.astype(np.float32),
                inscribed=window.skeletons.inscribed * np.float32(magnification),
            ),
        )

    def _matrix(self, window: Window, rng: np.random.Generator) -> np.ndarray:
        """(D, D) map of voxel positions about the window's centre; a turn in physical space."""
        angle = math.radians(rng.uniform(-self.degrees, self.degrees))
        factor = rng.uniform(*self.scale)
        y, x = window.voxel_size[-2:]
        turn = factor * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = np.eye(window.labels.ndim)
        matrix[-2:, -2:] = np.diag([1 / y, 1 / x]) @ turn @ np.diag([y, x])
        return matrix
