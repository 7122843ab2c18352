"""Which objects a label volume holds and where, found block by block."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import fastremap
import numpy as np
from scipy import ndimage

from skoots.geometry import Box, tile_volume
from skoots.volumes import Volume, read_objects

BLOCK = (64, 256, 256)


@dataclass(frozen=True)
class LabelIndex:
    """What one pass through a label volume tells.

    Args:
        boxes: bounding box of each object by its id, ids ascending.
        checksum: changes with any voxel.
        ignore_label: id of voxels whose truth is unknown; they are no object.
    """

    boxes: dict[int, Box]
    checksum: int
    ignore_label: int | None = None


def index_labels(labels: Volume, ignore_label: int | None = None) -> LabelIndex:
    """Bounding boxes and checksum; one block is in memory at a time.

    Args:
        labels: the label volume.
        ignore_label: id of voxels whose truth is unknown; they are no object.
    """
    boxes: dict[int, Box] = {}
    checksum = 0
    for box, ids in label_blocks(labels, Box.of_shape(labels.shape), ignore_label):
        # 64 bit throughout: which type a block is read as depends on the ids in it
        checksum = zlib.crc32(np.ascontiguousarray(ids, "<i8").data, checksum)
        for number, found in _boxes_in(ids):
            there = found.shift(box.start)
            known = boxes.get(number)
            boxes[number] = there if known is None else known.union(there)
    return LabelIndex(dict(sorted(boxes.items())), checksum, ignore_label)


def label_blocks(
    labels: Volume, box: Box, ignore_label: int | None = None
) -> Iterator[tuple[Box, np.ndarray]]:
    """Boxes that partition a box of the volume, each with its ids."""
    core = BLOCK[-box.ndim :]
    if all(n <= c for n, c in zip(box.shape, core)):  # most objects; there may be tens of thousands
        yield box, read_objects(labels, box, ignore_label)
        return
    for tile in tile_volume(box.shape, core):
        part = tile.write.shift(box.start)
        yield part, read_objects(labels, part, ignore_label)


def _boxes_in(ids: np.ndarray) -> Iterator[tuple[int, Box]]:
    if not ids.any():
        return
    compact, numbers = fastremap.renumber(ids, preserve_zero=True, in_place=False)
    boxes = ndimage.find_objects(compact)
    for number, new in numbers.items():
        if new != 0:
            slices = boxes[new - 1]
            yield int(number), Box(tuple(s.start for s in slices), tuple(s.stop for s in slices))


def labels_at(labels: Volume, points: np.ndarray, ignore_label: int | None = None) -> np.ndarray:
    """The ids at (n, D) integer voxels inside a volume, read where the points are."""
    found = np.zeros(len(points), np.int64)
    cells, cell_of = np.unique(points // BLOCK[-points.shape[1] :], axis=0, return_inverse=True)
    for i in range(len(cells)):
        rows = np.flatnonzero(cell_of.ravel() == i)
        here = points[rows]
        box = Box(tuple(here.min(0)), tuple(here.max(0) + 1))
        found[rows] = read_objects(labels, box, ignore_label)[tuple((here - box.start).T)]
    return found
