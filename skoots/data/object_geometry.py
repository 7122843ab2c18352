"""The geometry of labelled objects, measured: sizes, calibres, skeleton lengths, neighbours."""

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
CALIBRE_POINTS = 2000


@dataclass(frozen=True)
class ObjectGeometry:
    """What the objects of some volumes look like; lengths are in units of the finest voxel axis.

    Args:
        sizes: (N,) voxels of each object.
        starts: (N, D) first voxel of each object's bounding box.
        stops: (N, D) one past its last voxel.
        inscribed: (N,) inscribed radius of each object.
        lengths: (N,) length of each object's skeleton.
        calibres: (M, 2) of objects that were looked at: median radius along the skeleton, and inscribed
            radius.
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
    calibres: np.ndarray
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

    @property
    def evenness(self) -> float:
        """Median over objects of the median radius along the skeleton by the inscribed radius: near 1 where
        objects are round or tubes, small where they swell and narrow."""
        return float(np.median(self.calibres[:, 0] / self.calibres[:, 1])) if len(self.calibres) else 1.0


def measure_objects(volume: LabelledVolume, seed: int = 0) -> ObjectGeometry:
    """Measure the objects of one volume; labels are read block by block.

    Args:
        volume: with its skeletons.
        seed: of the draw of skeleton points at which the calibre is measured; all else is exact.
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
        calibres=_calibres(volume, seed),
        touching=len(touching),
        close=len(close - touching),
        touching_skeletons=touching_skeletons,
        foreground=sum(sizes.values()),
        known=known,
    )


def pool(parts: Sequence[ObjectGeometry]) -> ObjectGeometry:
    """Several volumes as one; bounding boxes stay in voxels of their own volume."""
    arrays = ("sizes", "starts", "stops", "inscribed", "lengths", "calibres")
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


def _calibres(volume: LabelledVolume, seed: int) -> np.ndarray:
    """(M, 2) median radius along the skeleton, and inscribed radius, of objects that were drawn."""
    skeletons, spacing = volume.skeletons, np.array(relative_spacing(volume.voxel_size))
    owner = np.repeat(np.arange(len(skeletons)), np.diff(skeletons.starts))
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(owner))[:CALIBRE_POINTS])
    radii = np.array(
        [
            _clearance(
                volume, skeletons.ids[owner[i]], skeletons.points[i], skeletons.inscribed[owner[i]], spacing
            )
            for i in drawn
        ]
    )
    rows = [
        (float(np.median(radii[owner[drawn] == row])), float(skeletons.inscribed[row]))
        for row in np.unique(owner[drawn])
    ]
    return np.array(rows).reshape(-1, 2)


def _clearance(
    volume: LabelledVolume, number: int, point: np.ndarray, most: float, spacing: np.ndarray
) -> float:
    """Distance from a skeleton point to the nearest voxel outside its object; beyond the volume is outside.

    No point of an object is further inside than ``most``, so that only a small box is read.
    """
    reach = np.ceil((most + 1) / spacing).astype(int)
    centre = np.rint(point).astype(int)
    box = Box(tuple(centre - reach), tuple(centre + reach + 1))
    inside = box.intersect(Box.of_shape(volume.shape))
    within = np.zeros(box.shape, bool)
    within[inside.relative_to(box).slices] = _known_labels(volume, inside) == number
    outside = np.argwhere(~within) - reach
    if not len(outside):
        return float(most)
    return float(np.sqrt(((outside * spacing) ** 2).sum(1).min()))
