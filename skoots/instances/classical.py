"""The classical way to separate touching objects, to compare with: watershed of the distance transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from skoots.geometry import relative_spacing


def distance_watershed(
    foreground: np.ndarray, voxel_size: Sequence[float], neck: float = 0.65, smoothing: float = 1.0
) -> np.ndarray:
    """Separate objects at their necks: seeded watershed of the distance to the background.

    Two bulges become two objects where the way between them is narrower than ``neck`` times the smaller
    bulge. That is the h-maxima transform of the logarithm of the distance, so one setting serves small and
    large objects alike; the usual least distance between seeds has to be tuned to each kind of object, and
    was seldom better at its best.

    Args:
        foreground: (*S) bool, 2D or 3D.
        voxel_size: edge lengths of a voxel per axis, any unit; distances are physical.
        neck: 0 to 1; higher separates more: .8 to .9 for round objects, .5 to .7 for elongated ones.
        smoothing: standard deviation of the Gaussian that smooths the distances, in units of the finest
            voxel axis; rough surfaces then make fewer seeds.

    Returns:
        (*S) int32 labels, 0 = background. Every component of the foreground (by its corners too) keeps a
        label.

    Raises:
        ValueError: ``neck`` is not between 0 and 1.
    """
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    if not 0 < neck < 1:
        raise ValueError(f"neck is a ratio between 0 and 1, not {neck}")
    foreground = np.asarray(foreground, bool)
    if not foreground.any() or foreground.all():  # the distance to a background that is nowhere is undefined
        return foreground.astype(np.int32)
    spacing = relative_spacing(voxel_size)
    distance = ndimage.distance_transform_edt(foreground, sampling=spacing)
    distance = ndimage.gaussian_filter(distance, [smoothing / edge for edge in spacing])

    depth = -np.log(neck)
    lowest = np.log(0.25)  # no voxel of the foreground counts as narrower, however much was smoothed away
    height = np.where(foreground, np.log(np.maximum(distance, 0.25)), lowest - 2 * depth)
    corners = np.ones((3,) * foreground.ndim)
    filled = reconstruction(height - depth, height, footprint=corners)
    summits = local_maxima(filled, connectivity=foreground.ndim)
    seeds, _ = ndimage.label(summits & foreground, corners)
    return watershed(-distance, seeds, mask=foreground, connectivity=foreground.ndim).astype(np.int32)
