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
    foreground = np.asarray(foreground, bool)
    if foreground.all():  # the distance to a background that is nowhere is undefined
        distance = np.ones(foreground.shape)
    else:
        distance = ndimage.distance_transform_edt(foreground, sampling=relative_spacing(voxel_size))
    return height_watershed(distance, foreground, voxel_size, neck, smoothing)


def height_watershed(
    height: np.ndarray,
    foreground: np.ndarray,
    voxel_size: Sequence[float],
    neck: float = 0.65,
    smoothing: float = 1.0,
    least: float = 0.25,
) -> np.ndarray:
    """Separate objects where a map is low between two hills, as ``distance_watershed`` does with distances.

    Args:
        height: (*S), high inside objects and low at their borders.
        foreground: (*S) bool.
        voxel_size: edge lengths of a voxel per axis.
        neck: two hills are one object where the pass is at least so many times as high as the lower one.
        smoothing: standard deviation of the Gaussian that smooths the map, in units of the finest voxel axis.
        least: no voxel of the foreground counts as lower, however much is smoothed away.

    Returns:
        (*S) int32 labels, 0 = background.

    Raises:
        ValueError: ``neck`` is not between 0 and 1.
    """
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    if not 0 < neck < 1:
        raise ValueError(f"neck is a ratio between 0 and 1, not {neck}")
    if not foreground.any():
        return foreground.astype(np.int32)
    smooth = ndimage.gaussian_filter(height, [smoothing / edge for edge in relative_spacing(voxel_size)])
    depth, lowest = -np.log(neck), np.log(least)
    logarithm = np.where(foreground, np.log(np.maximum(smooth, least)), lowest - 2 * depth)
    corners = np.ones((3,) * foreground.ndim)
    filled = reconstruction(logarithm - depth, logarithm, footprint=corners)
    summits = local_maxima(filled, connectivity=foreground.ndim) | (filled == filled.max())  # also if all are
    seeds, _ = ndimage.label(summits & foreground, corners)
    return watershed(-smooth, seeds, mask=foreground, connectivity=foreground.ndim).astype(np.int32)
