"""The section of a volume that is worth a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skoots.reports.figures import square_pixels


def busiest_section(labels: np.ndarray) -> int:
    """Number of the section across the first axis that shows most objects; of several, the one of most
    foreground.

    Args:
        labels: (*S) ids, 0 = background; of a 2D array the answer is 0.
    """
    if labels.ndim == 2:
        return 0
    sections = [(np.unique(section[section > 0]).size, int((section > 0).sum())) for section in labels]
    return max(range(len(sections)), key=sections.__getitem__)


def section(array: np.ndarray, number: int, ndim: int) -> np.ndarray:
    """One section of an array as (..., H, W); of a 2D array all of it.

    Args:
        array: (..., *S).
        number: of the section.
        ndim: spatial dimensions.
    """
    return array if ndim == 2 else array[..., number, :, :]


def image_section(image: np.ndarray, number: int) -> np.ndarray:
    """One section of an image, (C, *S): (H, W, 3) if it has three channels, else (H, W) of the first."""
    flat = section(image, number, image.ndim - 1)
    return np.moveaxis(flat, 0, -1) if len(flat) == 3 else flat[0]


def in_proportion(picture: np.ndarray, voxel_size: Sequence[float]) -> np.ndarray:
    """A picture of one section, (H, W, ...), with square pixels: repeated along the longer edge.

    Args:
        picture: of the last two axes of a volume.
        voxel_size: D edge lengths of a voxel of the volume.
    """
    return square_pixels(picture, *tuple(voxel_size)[-2:])
