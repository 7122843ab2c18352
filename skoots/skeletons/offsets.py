"""From every voxel to the nearest skeleton point of its own object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skoots.compiled import compiled
from skoots.geometry import relative_spacing
from skoots.skeletons.skeletonize import Skeletons


def nearest_offsets(
    labels: np.ndarray,
    skeletons: Skeletons,
    voxel_size: Sequence[float] | None = None,
    origin: Sequence[float] | None = None,
) -> np.ndarray:
    """Displacement of each voxel to the nearest point of its own object; exact, in physical distance.

    Args:
        labels: (*S) integer ids.
        skeletons: points of at least the objects present; objects without one keep offset 0.
        voxel_size: D edge lengths of a voxel. None means isotropic.
        origin: D voxel coordinates of ``labels[0, 0, 0]`` in the frame of the points (a crop's start).

    Returns:
        (D, *S) float32 voxels, 0 outside objects. Of points equally near, the first in packed order is taken.
    """
    ndim = labels.ndim
    spacing = np.array(relative_spacing(voxel_size if voxel_size is not None else (1.0,) * ndim))
    shift = np.zeros(ndim) if origin is None else np.asarray(origin, float)
    points = skeletons.points.astype(np.float64) - shift
    axes, order = _sort_along_longest_axis(points * spacing, skeletons.starts)

    def three(vector: np.ndarray, fill: float) -> np.ndarray:
        return np.concatenate([np.full((*vector.shape[:-1], 3 - ndim), fill), vector], axis=-1)

    offset = np.zeros((3, *(1,) * (3 - ndim), *labels.shape), np.float32)
    _search(
        np.ascontiguousarray(labels).reshape(offset.shape[1:]),
        skeletons.ids,
        skeletons.starts,
        three(points[order], 0.0),
        order,
        axes + (3 - ndim),
        three(spacing, 1.0),
        offset,
    )
    return offset[3 - ndim :].reshape(ndim, *labels.shape)


def _sort_along_longest_axis(physical: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per object its longest axis, and an order of all points, ascending along it within each object."""
    counts = starts[1:] - starts[:-1]
    if len(physical) == 0:
        return np.zeros(len(counts), np.int64), np.zeros(0, np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    filled = counts > 0
    extent = np.zeros((len(counts), physical.shape[1]))
    begin = starts[:-1][filled]
    extent[filled] = np.maximum.reduceat(physical, begin) - np.minimum.reduceat(physical, begin)
    axes = extent.argmax(1)
    return axes, np.lexsort((physical[np.arange(len(physical)), axes[owner]], owner))


@compiled(inline="always")
def _sum_of_squares(z, y, x):  # type: ignore[no-untyped-def]
    """The same to the last bit in whatever order the axes come, so that ties break alike after a turn."""
    a, b, c = z * z, y * y, x * x
    low, high = min(a, b), max(a, b)
    return min(low, c) + max(low, min(high, c)) + max(high, c)


@compiled()
def _search(labels, ids, starts, points, order, axes, spacing, offset):  # type: ignore[no-untyped-def]
    # Points of an object ascend along its longest axis, so from the voxel's own place on that axis the search
    # walks both ways and ends where the distance along this axis alone exceeds the best found.
    last_id, row = 0, -1
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = labels[z, y, x]
                if label == 0:
                    continue
                if label != last_id:
                    last_id = label
                    row = np.searchsorted(ids, label)
                    if row == len(ids) or ids[row] != label:
                        row = -1
                if row < 0 or starts[row] == starts[row + 1]:
                    continue
                axis = axes[row]
                here = z if axis == 0 else (y if axis == 1 else x)
                low, high = starts[row], starts[row + 1]
                a, b = low, high
                while a < b:
                    middle = (a + b) // 2
                    if points[middle, axis] < here:
                        a = middle + 1
                    else:
                        b = middle
                best, winner, rank = np.inf, -1, -1
                for direction in range(2):
                    i = a if direction == 0 else a - 1
                    while low <= i < high:
                        along = (points[i, axis] - here) * spacing[axis]
                        if along * along > best:
                            break
                        dz = (points[i, 0] - z) * spacing[0]
                        dy = (points[i, 1] - y) * spacing[1]
                        dx = (points[i, 2] - x) * spacing[2]
                        d2 = _sum_of_squares(dz, dy, dx)
                        if d2 < best or (d2 == best and order[i] < rank):
                            best, winner, rank = d2, i, order[i]
                        i += 1 if direction == 0 else -1
                offset[0, z, y, x] = points[winner, 0] - z
                offset[1, z, y, x] = points[winner, 1] - y
                offset[2, z, y, x] = points[winner, 2] - x
