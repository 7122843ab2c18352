"""The geometry of labelled objects, measured: sizes, skeleton lengths, neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fastremap
import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import cKDTree

from skoots.data.labelled_volume import LabelledVolume
from skoots.geometry import Box, relative_spacing, tile_volume
from skoots.skeletons import Skeletons
from skoots.volumes import read_labels

BLOCK = {2: (2048, 2048), 3: (64, 256, 256)}


@dataclass(frozen=True)
class ObjectGeometry:
    """What the objects of some volumes look like; lengths are in units of the finest voxel axis.

    Args:
        sizes: (N,) voxels of each object.
        starts: (N, D) first voxel of each object's bounding box.
        stops: (N, D) one past its last voxel.
        inscribed: (N,) inscribed radius of each object.
        lengths: (N,) length of each object's skeleton.
        touching: pairs of objects that share a face.
        close: other pairs that meet at a corner, or that one background voxel parts along an axis.
        touching_skeletons: pairs of objects whose bare skeletons touch; decoding cannot tell these apart.
        foreground: voxels inside objects.
        known: voxels whose truth is known.
    """

    sizes: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    inscribed: np.ndarray
    lengths: np.ndarray
    touching: int
    close: int
    touching_skeletons: int
    foreground: int
    known: int

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def foreground_share(self) -> float:
        """Share of the known voxels that lie inside objects."""
        return self.foreground / max(1, self.known)


def measure_objects(volume: LabelledVolume) -> ObjectGeometry:
    """Measure the objects of one volume; labels are read block by block.

    Args:
        volume: with its skeletons.
    """
    boxes: dict[int, list[np.ndarray]] = {}
    sizes: dict[int, int] = {}
    touching: set[tuple[int, int]] = set()
    close: set[tuple[int, int]] = set()
    known = 0
    whole = Box.of_shape(volume.shape)
    for tile in tile_volume(volume.shape, BLOCK[len(volume.shape)]):
        # two voxels more on one side and one on the other, so that pairs across blocks are met
        read = tile.write.grow(2).intersect(whole)
        ids = _known_labels(volume, read)
        inner = ids[tile.write.relative_to(read).slices]
        known += _count_known(volume, tile.write)
        for number, count, start, stop in _objects(inner):
            box = boxes.setdefault(
                number, [np.full(inner.ndim, np.iinfo(np.int64).max), np.zeros(inner.ndim)]
            )
            box[0] = np.minimum(box[0], start + np.array(tile.write.start))
            box[1] = np.maximum(box[1], stop + np.array(tile.write.start))
            sizes[number] = sizes.get(number, 0) + count
        touching |= touching_pairs(ids)
        close |= close_pairs(ids)
    order = sorted(sizes)
    lengths, touching_skeletons = _skeleton_lengths(volume.skeletons, relative_spacing(volume.voxel_size))
    length_of = dict(zip(volume.skeletons.ids.tolist(), lengths.tolist()))
    radius_of = dict(zip(volume.skeletons.ids.tolist(), volume.skeletons.inscribed.tolist()))
    ndim = len(volume.shape)
    return ObjectGeometry(
        sizes=np.array([sizes[k] for k in order], np.int64),
        starts=np.array([boxes[k][0] for k in order], np.int64).reshape(-1, ndim),
        stops=np.array([boxes[k][1] for k in order], np.int64).reshape(-1, ndim),
        inscribed=np.array([radius_of.get(k, 1.0) for k in order]),
        lengths=np.array([length_of.get(k, 0.0) for k in order]),
        touching=len(touching),
        close=len(close - touching),
        touching_skeletons=touching_skeletons,
        foreground=sum(sizes.values()),
        known=known,
    )


def pool(parts: Sequence[ObjectGeometry]) -> ObjectGeometry:
    """Several volumes as one; bounding boxes stay in voxels of their own volume."""
    arrays = ("sizes", "starts", "stops", "inscribed", "lengths")
    numbers = ("touching", "close", "touching_skeletons", "foreground", "known")
    pooled: dict[str, Any] = {
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
        **{name: sum(getattr(part, name) for part in parts) for name in numbers},
    }
    return ObjectGeometry(**pooled)


# Blocks ----------------------------------------------------------------------------------------------------


def _known_labels(volume: LabelledVolume, box: Box) -> np.ndarray:
    """(*S) ids, unknown voxels as background."""
    ids = read_labels(volume.labels, box, ignore_label=volume.ignore_label)
    return ids if volume.ignore_label is None else np.where(ids == volume.ignore_label, 0, ids)


def _count_known(volume: LabelledVolume, box: Box) -> int:
    if volume.ignore_label is None:
        return box.size
    ids = read_labels(volume.labels, box, ignore_label=volume.ignore_label)
    return int((ids != volume.ignore_label).sum())


def _objects(ids: np.ndarray) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Id, voxels, first and last-plus-one voxel of every object of a block."""
    compact, original = fastremap.renumber(np.ascontiguousarray(ids), preserve_zero=True, in_place=False)
    counts = np.bincount(compact.ravel())
    boxes = ndimage.find_objects(compact)
    for old, new in original.items():
        if new:
            box = boxes[int(new) - 1]
            start, stop = (np.array([getattr(s, end) for s in box]) for end in ("start", "stop"))
            yield int(old), int(counts[int(new)]), start, stop


def touching_pairs(ids: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of objects that share a face.

    Args:
        ids: (*S) labels, 0 = background.
    """
    return set().union(*(_pairs(ids, step) for step in np.eye(ids.ndim, dtype=int).tolist()))


def close_pairs(ids: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of objects that meet at a corner, or that one voxel parts along an axis.

    Args:
        ids: (*S) labels, 0 = background.
    """
    neighbours = list(itertools.product((-1, 0, 1), repeat=ids.ndim))
    half = neighbours[len(neighbours) // 2 + 1 :]  # one of each pair of opposite ones
    corners = [step for step in half if np.abs(step).sum() > 1]
    across = (2 * np.eye(ids.ndim, dtype=int)).tolist()
    return set().union(*(_pairs(ids, step) for step in [*corners, *across]))


def _pairs(ids: np.ndarray, step: Sequence[int]) -> set[tuple[int, int]]:
    """Pairs of objects of which one lies ``step`` voxels from the other."""
    here = ids[tuple(slice(max(0, -s), max(0, n - max(0, s))) for s, n in zip(step, ids.shape))]
    there = ids[tuple(slice(max(0, s), max(0, n + min(0, s))) for s, n in zip(step, ids.shape))]
    meet = (here > 0) & (there > 0) & (here != there)
    met = np.sort(np.stack([here[meet], there[meet]], axis=1), axis=1)
    return {(int(a), int(b)) for a, b in np.unique(met, axis=0)}


# Skeletons -------------------------------------------------------------------------------------------------


def _skeleton_lengths(skeletons: Skeletons, spacing: Sequence[float]) -> tuple[np.ndarray, int]:
    """(N,) lengths of the skeletons as minimum spanning trees of neighbouring points, and the pairs that
    touch."""
    points = skeletons.points.astype(np.float64)
    owner = np.repeat(np.arange(len(skeletons)), np.diff(skeletons.starts))
    if not len(points):
        return np.zeros(len(skeletons)), 0
    near = cKDTree(points).query_pairs(1.0, p=np.inf, output_type="ndarray")
    same = owner[near[:, 0]] == owner[near[:, 1]]
    others = np.unique(np.sort(owner[near[~same]], axis=1), axis=0)
    a, b = near[same].T
    steps = np.sqrt((((points[a] - points[b]) * np.array(spacing)) ** 2).sum(1))
    graph = coo_matrix((steps, (a, b)), shape=(len(points),) * 2)
    tree = minimum_spanning_tree(graph).tocoo()
    return np.bincount(owner[tree.row], tree.data, minlength=len(skeletons)), len(others)
