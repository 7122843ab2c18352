"""Skeletons of a label volume on disk: each object read and traced in its own bounding box."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from skoots.data.label_index import LabelIndex, label_blocks
from skoots.skeletons import Skeletons
from skoots.skeletons.skeletonize import Algorithm, inscribed_radius, trace_object
from skoots.volumes import Volume

log = logging.getLogger("skoots")
LARGE_BOX = 2**28


def trace_volume(
    labels: Volume,
    index: LabelIndex,
    voxel_size: Sequence[float],
    algorithm: Algorithm = "thinning",
    threads: int = 1,
) -> Skeletons:
    """What ``skeletonize`` gives for the whole array, without ever having it in memory.

    Memory is that of the boxes being traced at once, some ten bytes a voxel: an object that winds through the
    whole volume needs as much as the volume, and a warning says so.

    Args:
        labels: the label volume.
        index: of its objects.
        voxel_size: D edge lengths of a voxel.
        algorithm: as in ``skeletonize``.
        threads: objects are shared among so many threads, each of which has a box in memory.
    """

    def one(number: int) -> tuple[np.ndarray, float]:
        points, radius = trace_object(object_mask(labels, index, number), voxel_size, algorithm)
        return points + np.array(index.boxes[number].start), radius

    large = [number for number, box in index.boxes.items() if box.size > LARGE_BOX]
    if large:
        log.warning(
            "%s: %d objects span boxes of more than %d million voxels, the first is %d; tracing them takes "
            "memory.",
            labels.path,
            len(large),
            LARGE_BOX // 10**6,
            large[0],
        )
    order = sorted(index.boxes, key=lambda number: index.boxes[number].start)  # neighbours share chunks
    if threads > 1 and len(order) > 1:
        with ThreadPoolExecutor(threads) as pool:
            traced = list(pool.map(one, order))
    else:
        traced = [one(number) for number in order]
    return Skeletons.pack(
        {number: points for number, (points, _) in zip(order, traced)},
        labels.spatial_dims,
        {number: radius for number, (_, radius) in zip(order, traced)},
    )


def object_mask(labels: Volume, index: LabelIndex, number: int) -> np.ndarray:
    """(*S) bool of one object in its bounding box, a byte a voxel."""
    box = index.boxes[number]
    mask = np.zeros(box.shape, bool)
    for part, ids in label_blocks(labels, box, index.ignore_label):
        mask[part.relative_to(box).slices] = ids == number
    return mask


def radii_about(
    labels: Volume, index: LabelIndex, points: Mapping[int, np.ndarray], voxel_size: Sequence[float]
) -> dict[int, float]:
    """Inscribed radius of each object about skeleton points that came from elsewhere.

    Args:
        labels: the label volume.
        index: of its objects.
        points: id to (n, D) integer voxels.
        voxel_size: D edge lengths of a voxel.

    Returns:
        id to radius in finest voxels.
    """
    return {
        number: inscribed_radius(
            object_mask(labels, index, number), found - np.array(index.boxes[number].start), tuple(voxel_size)
        )
        for number, found in points.items()
    }
