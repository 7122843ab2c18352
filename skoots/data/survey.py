"""One pass through a label volume, block by block, for what drawing windows must know of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from skoots.geometry import Box, tile_volume
from skoots.volumes import Volume, read_labels

BLOCK = (64, 256, 256)
MOST_BOUNDARY_VOXELS = 20_000


@dataclass(frozen=True)
class Survey:
    """What is known of a label volume after one pass.

    Args:
        labelled: the smallest box that holds every voxel whose truth is known; empty if there is none.
        boundaries: (n, D) int32 voxels between objects, in array order.
    """

    labelled: Box
    boundaries: np.ndarray


def survey_labels(
    labels: Volume, ignore_label: int | None = None, most: int = MOST_BOUNDARY_VOXELS, seed: int = 0
) -> Survey:
    """Find the labelled part and the boundaries of a volume.

    Args:
        labels: the label volume; a block of it is in memory at a time.
        ignore_label: id of voxels whose truth is unknown.
        most: boundary voxels kept; of more, as many are drawn, all alike.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    kept, keys = np.zeros((0, labels.spatial_dims), np.int32), np.zeros(0)
    low, high = np.array(labels.shape), np.zeros(labels.spatial_dims, int)
    for box, ids, known in _blocks(labels, ignore_label):
        for axis in range(box.ndim):
            found = np.flatnonzero(known.any(tuple(a for a in range(box.ndim) if a != axis)))
            if len(found):
                low[axis] = min(low[axis], box.start[axis] + found[0])
                high[axis] = max(high[axis], box.start[axis] + found[-1] + 1)
        new = np.argwhere(ids & known).astype(np.int32) + np.array(box.start, np.int32)
        kept, keys = np.concatenate([kept, new]), np.concatenate([keys, rng.random(len(new))])
        if len(kept) > most:
            first = np.sort(np.argpartition(keys, most)[:most])
            kept, keys = kept[first], keys[first]
    order = np.lexsort(kept.T[::-1])
    return Survey(Box(tuple(np.minimum(low, high)), tuple(high)), kept[order])


def _blocks(labels: Volume, ignore_label: int | None) -> Iterator[tuple[Box, np.ndarray, np.ndarray]]:
    """Boxes that partition the volume, each with its boundary voxels and its known ones as masks."""
    whole = Box.of_shape(labels.shape)
    for tile in tile_volume(labels.shape, BLOCK[-labels.spatial_dims :]):
        around = tile.write.grow(1).intersect(whole)
        ids = read_labels(labels, around, ignore_label=ignore_label)
        known = np.ones(ids.shape, bool) if ignore_label is None else ids != ignore_label
        inner = tile.write.relative_to(around).slices
        yield tile.write, boundary_mask(np.where(known, ids, 0))[inner], known[inner]


def boundary_mask(labels: np.ndarray) -> np.ndarray:
    """Voxels with two different objects among themselves and their 3**D - 1 neighbours.

    So a gap one voxel wide between two objects counts, and so do both sides where they touch.

    Args:
        labels: (*S) ids, 0 = background.
    """
    highest = labels
    lowest = np.where(labels > 0, labels, np.iinfo(labels.dtype).max)
    for axis in range(labels.ndim):
        highest, lowest = _spread(highest, axis, np.maximum), _spread(lowest, axis, np.minimum)
    return (highest > 0) & (lowest < highest)


def _spread(values: np.ndarray, axis: int, choose: np.ufunc) -> np.ndarray:
    """Each voxel and its two neighbours along an axis, as one value."""
    after = (slice(None),) * axis + (slice(1, None),)
    before = (slice(None),) * axis + (slice(None, -1),)
    spread = values.copy()
    choose(spread[after], values[before], out=spread[after])
    choose(spread[before], values[after], out=spread[before])
    return spread
