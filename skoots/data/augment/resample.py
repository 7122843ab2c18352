"""Reading a window through a map: image, labels and validity in one pass, each voxel once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skoots.data.augment.spatial_map import SpatialMap, inlined, locate, neighbours, unchecked
from skoots.skeletons import Skeletons

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def resample(
    arrays: Arrays, spatial_map: SpatialMap, shape: Sequence[int], start: Sequence[int] | None = None
) -> Arrays:
    """A crop of arrays as a map shows it.

    Args:
        arrays: (C, *R) image of any type, (*R) integer labels and (*R) bool validity.
        spatial_map: from crop to arrays.
        shape: voxels of the crop.
        start: D coordinates of the arrays' first voxel, counted from the crop's start. None means 0.

    Returns:
        The image, interpolated linearly (float32), labels and validity of the nearest voxel. Beyond the
        arrays the image repeats their rim, labels are 0, and nothing is valid. A map that only permutes
        voxels interpolates none and leaves the image's type as it is.
    """
    origin = np.zeros(len(shape)) if start is None else np.array(start, float)
    if spatial_map.is_turn:
        return _turn(arrays, spatial_map, shape, origin)
    return _warp(arrays, spatial_map, shape, origin)


def move_skeletons(skeletons: Skeletons, spatial_map: SpatialMap, start: Sequence[int]) -> Skeletons:
    """Skeletons where a map shows them.

    Args:
        skeletons: in voxels of the volume.
        spatial_map: from crop to volume.
        start: D voxel coordinates of the crop in the volume.
    """
    points = spatial_map.forward(skeletons.points.astype(np.float64) - np.asarray(start, float))
    counts = np.diff(skeletons.starts)
    owner = np.repeat(np.arange(len(counts)), counts)
    total = np.bincount(owner, spatial_map.magnification(points), minlength=len(counts))
    factor = np.where(counts > 0, total / np.maximum(counts, 1), 1)
    return replace(
        skeletons,
        points=points.astype(np.float32),
        inscribed=(skeletons.inscribed * factor).astype(np.float32),
    )


def _turn(arrays: Arrays, spatial_map: SpatialMap, shape: Sequence[int], start: np.ndarray) -> Arrays:
    """By index alone: each axis of the arrays follows one axis of the crop, forwards or backwards."""
    labels = arrays[1]
    matrix, offset = spatial_map.matrices[0], spatial_map.offsets[0] - start
    follows = np.abs(matrix).argmax(1)
    wanted = [
        (matrix[axis, other] * np.arange(shape[other]) + offset[axis]).astype(np.int64)
        for axis, other in enumerate(follows)
    ]
    index = [np.clip(at, 0, n - 1) for at, n in zip(wanted, labels.shape)]
    image, labels, valid = (_take(array, index, np.argsort(follows)) for array in arrays)
    for axis, (at, kept) in enumerate(zip(wanted, index)):
        outside = at != kept
        if outside.any():
            beyond = (*(slice(None),) * int(follows[axis]), outside)
            labels[beyond], valid[beyond] = 0, False
    return image, labels, valid


def _take(array: np.ndarray, index: list[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Voxels of each channel by their numbers along each axis, then the axes in another order; a view unless
    voxels are repeated."""
    channels = array.ndim - len(index)
    if all((np.abs(np.diff(at)) == 1).all() for at in index):
        pieces = (slice(None),) * channels + tuple(_as_slice(at) for at in index)
        taken = array[pieces]
    else:
        taken = array[np.ix_(*(np.arange(n) for n in array.shape[:channels]), *index)]
    return taken.transpose(*range(channels), *(order + channels))


def _as_slice(numbers: np.ndarray) -> slice:
    step = int(numbers[-1] >= numbers[0]) * 2 - 1
    stop = int(numbers[-1]) + step
    return slice(int(numbers[0]), stop if stop >= 0 else None, step)


def _warp(arrays: Arrays, spatial_map: SpatialMap, shape: Sequence[int], start: np.ndarray) -> Arrays:
    image, labels, valid = arrays
    thin = (1,) * (3 - len(shape))  # 2D is a volume of one section
    if image.dtype not in (np.uint8, np.uint16):  # the few types that loops are compiled for
        image = image.astype(np.float32, copy=False)
    moved = (
        np.empty((len(image), *shape), np.float32),
        np.empty(tuple(shape), labels.dtype),
        np.empty(tuple(shape), bool),
    )
    loop_over = [
        np.ascontiguousarray(array).reshape(
            *array.shape[: array.ndim - len(shape)], *thin, *array.shape[-len(shape) :]
        )
        for array in (image, labels, valid, *moved)
    ]
    _sample(  # type: ignore[call-arg]
        *loop_over, np.concatenate([np.zeros(len(thin)), start]), *spatial_map.chain
    )
    return moved


@unchecked
def _sample(  # type: ignore[no-untyped-def]
    image, labels, valid, new_image, new_labels, new_valid, start,
    matrices, offsets, fields, begins, shapes, origins, densities,
):  # fmt: skip
    depth, rows, columns = labels.shape
    size, sections = depth * rows * columns, rows * columns
    oz, oy, ox = start[0], start[1], start[2]
    grey, ids, known = image.ravel(), labels.ravel(), valid.ravel()
    length = new_labels.shape[2]
    places = np.empty((3, length))
    for z in range(new_labels.shape[0]):
        for y in range(new_labels.shape[1]):
            for x in range(length):
                places[0, x], places[1, x], places[2, x] = z, y, x
            locate(places, matrices, offsets, fields, begins, shapes, origins, densities)
            for x in range(length):
                pz, py, px = places[0, x] - oz, places[1, x] - oy, places[2, x] - ox
                z0, z1, fz = neighbours(pz, depth)
                y0, y1, fy = neighbours(py, rows)
                x0, x1, fx = neighbours(px, columns)
                first, below, right = (z0 * rows + y0) * columns + x0, (y1 - y0) * columns, x1 - x0
                behind = (z1 - z0) * sections
                inside = (pz >= -0.5) & (py >= -0.5) & (px >= -0.5)
                inside &= (pz < depth - 0.5) & (py < rows - 0.5) & (px < columns - 0.5)
                # Sums, since which neighbour is nearer is nothing that a processor could foresee.
                nearest = first + (fz >= 0.5) * behind + (fy >= 0.5) * below + (fx >= 0.5) * right
                new_labels[z, y, x] = ids[np.uint64(nearest)] * inside
                new_valid[z, y, x] = known[np.uint64(nearest)] & inside
                gz, gy, gx = np.float32(fz), np.float32(fy), np.float32(fx)
                for c in range(len(image)):
                    value = _in_plane(grey, first, below, right, gy, gx)
                    if gz > 0:
                        value += gz * (_in_plane(grey, first + behind, below, right, gy, gx) - value)
                    new_image[c, z, y, x] = value
                    first += size


@inlined
def _in_plane(grey, first, below, right, fy, fx):  # type: ignore[no-untyped-def]
    """Bilinear between a voxel, its neighbours below and to the right, and the fourth; exact where a place is
    a voxel."""
    a, b = np.float32(grey[np.uint64(first)]), np.float32(grey[np.uint64(first + right)])
    second = first + below
    c, d = np.float32(grey[np.uint64(second)]), np.float32(grey[np.uint64(second + right)])
    above, under = a + fx * (b - a), c + fx * (d - c)
    return above + fy * (under - above)
