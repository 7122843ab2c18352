"""From every voxel to the nearest skeleton point of its own object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from skoots.geometry import relative_spacing
from skoots.skeletons.skeletonize import Skeletons

# Edges of the blocks in which candidates are narrowed down, in units of the finest voxel axis. Of 8 to 32 and
# 3 to 8 these were the fastest on dense neurites and never far from the fastest elsewhere.
COARSE, FINE = 24, 6


class Candidates(NamedTuple):
    """The points that may be nearest to some voxel of a block, for each object of the block (CSR).

    The arrays are as long as the longest block may need, so that no block allocates any.
    """

    slot: np.ndarray  # (N,) where the object of a row stands below
    row: np.ndarray  # (N,) its row, so that a slot left over from an earlier block is recognised
    box: np.ndarray  # (N, 6) first z, y, x and last z, y, x of its voxels in the block
    start: np.ndarray  # (N + 1,)
    point: np.ndarray  # (P,) indices of points, ascending within an object


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
    lead = 3 - ndim  # 2D is one section of 3D
    spacing = np.ones(3)
    spacing[lead:] = relative_spacing(voxel_size if voxel_size is not None else (1.0,) * ndim)
    points = np.zeros((len(skeletons.points), 3))
    points[:, lead:] = skeletons.points.astype(np.float64)
    if origin is not None:
        points[:, lead:] -= np.asarray(origin, float)
    offset = np.zeros((3, *(1,) * lead, *labels.shape), np.float32)
    rows = np.empty(offset.shape[1:], np.int32)
    _find_rows(np.ascontiguousarray(labels).ravel(), skeletons.ids, skeletons.starts, rows.ravel())
    coarse, fine = (np.maximum(1, np.rint(edge / spacing)).astype(np.int64) for edge in (COARSE, FINE))
    whole, outer, inner = (_empty(len(skeletons), len(points)) for _ in range(3))
    _search(rows, skeletons.starts, points, spacing, coarse, fine, whole, outer, inner, offset)
    return offset[lead:].reshape(ndim, *labels.shape)


def _empty(objects: int, points: int) -> Candidates:
    return Candidates(
        np.zeros(objects, np.int64),
        np.full(objects, -1),
        np.empty((objects, 6), np.int64),
        np.zeros(objects + 1, np.int64),
        np.empty(points, np.int64),
    )


@numba.njit(cache=True, nogil=True)
def _find_rows(labels, ids, starts, rows):  # type: ignore[no-untyped-def]
    """Row of each voxel's object; -1 in the background and where an object has no skeleton."""
    last, row = 0, -1
    for i in range(len(labels)):
        if labels[i] != last:
            last, row = labels[i], -1
            if last != 0:
                found = np.searchsorted(ids, last)
                if found < len(ids) and ids[found] == last and starts[found] < starts[found + 1]:
                    row = found
        rows[i] = row


@numba.njit(cache=True, nogil=True)
def _search(rows, starts, points, spacing, coarse, fine, whole, outer, inner, offset):  # type: ignore[no-untyped-def]
    # From the whole array to coarse blocks to fine ones, each starts from what the one around it left over.
    everything = Candidates(np.arange(len(starts) - 1), whole.row, whole.box, starts, np.arange(len(points)))
    physical = points * spacing
    size = fine[0] * fine[1] * fine[2]
    voxels, best, winner = np.empty((3, size)), np.empty(size), np.zeros(size, np.int64)
    end = rows.shape
    _narrow(rows, (0, 0, 0), end, physical, spacing, everything, whole)
    for z0 in range(0, end[0], coarse[0]):
        for y0 in range(0, end[1], coarse[1]):
            for x0 in range(0, end[2], coarse[2]):
                last = _end_of_block((z0, y0, x0), coarse, end)
                if _narrow(rows, (z0, y0, x0), last, physical, spacing, whole, outer) == 0:
                    continue
                for z in range(z0, last[0], fine[0]):
                    for y in range(y0, last[1], fine[1]):
                        for x in range(x0, last[2], fine[2]):
                            stop = _end_of_block((z, y, x), fine, last)
                            count = _narrow(rows, (z, y, x), stop, physical, spacing, outer, inner)
                            for slot in range(count):
                                _compare(rows, slot, points, spacing, inner, voxels, best, winner, offset)


@numba.njit(cache=True, nogil=True)
def _end_of_block(first, edge, end):  # type: ignore[no-untyped-def]
    return min(first[0] + edge[0], end[0]), min(first[1] + edge[1], end[1]), min(first[2] + edge[2], end[2])


@numba.njit(cache=True, nogil=True)
def _narrow(rows, first, stop, physical, spacing, given, left):  # type: ignore[no-untyped-def]
    """Leave of the given candidates those that no single other one beats in the whole block; returns how many
    objects the block has."""
    count = _find_objects(rows, first, stop, left)
    used = 0
    for slot in range(count):
        left.start[slot] = used
        source = given.slot[left.row[slot]]
        begin, end = given.start[source], given.start[source + 1]
        az, bz = left.box[slot, 0] * spacing[0], left.box[slot, 3] * spacing[0]
        ay, by = left.box[slot, 1] * spacing[1], left.box[slot, 4] * spacing[1]
        ax, bx = left.box[slot, 2] * spacing[2], left.box[slot, 5] * spacing[2]
        least, rival = np.inf, -1
        for n in range(begin, end):  # the rival: the point whose farthest voxel is nearest
            pz, py, px = physical[given.point[n]]
            z, y, x = max(pz - az, bz - pz), max(py - ay, by - py), max(px - ax, bx - px)
            if z * z + y * y + x * x < least:
                least, rival = z * z + y * y + x * x, given.point[n]
        rz, ry, rx = physical[rival]
        az, bz, ay, by, ax, bx = az - rz, bz - rz, ay - ry, by - ry, ax - rx, bx - rx
        for n in range(begin, end):
            # |v - r|^2 - |v - p|^2 is linear in the voxel v, so a corner of the box decides. A margin
            # far above the rounding errors keeps points that are equally near.
            z, y, x = physical[given.point[n]]
            z, y, x = z - rz, y - ry, x - rx
            apart = z * z + y * y + x * x
            gain = 2 * (max(az * z, bz * z) + max(ay * y, by * y) + max(ax * x, bx * x)) - apart
            if gain >= -1e-9 * (apart + least):
                left.point[used] = given.point[n]
                used += 1
    left.start[count] = used
    return count


@numba.njit(cache=True, nogil=True)
def _find_objects(rows, first, stop, left):  # type: ignore[no-untyped-def]
    """Slots and boxes of the objects of a block, run by run along x; returns how many there are."""
    count = 0
    for z in range(first[0], stop[0]):
        for y in range(first[1], stop[1]):
            x = first[2]
            while x < stop[2]:
                row, begin = rows[z, y, x], x
                while x < stop[2] and rows[z, y, x] == row:
                    x += 1
                if row < 0:
                    continue
                slot = left.slot[row]
                box = left.box[slot]
                if slot < count and left.row[slot] == row:
                    box[3] = z
                    box[1], box[4] = min(box[1], y), max(box[4], y)
                    box[2], box[5] = min(box[2], begin), max(box[5], x - 1)
                else:
                    left.slot[row], left.row[count] = count, row
                    box = left.box[count]
                    box[0], box[1], box[2], box[3], box[4], box[5] = z, y, begin, z, y, x - 1
                    count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _compare(rows, slot, points, spacing, candidates, voxels, best, winner, offset):  # type: ignore[no-untyped-def]
    """All voxels of one object in a block with all its candidates. Candidates are the outer loop, so that the
    inner one, over voxels, runs on vector units."""
    row, count = candidates.row[slot], 0
    z0, y0, x0, z1, y1, x1 = candidates.box[slot]
    for z in range(z0, z1 + 1):
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                if rows[z, y, x] == row:
                    voxels[0, count], voxels[1, count], voxels[2, count] = z, y, x
                    best[count] = np.inf
                    count += 1
    for n in range(candidates.start[slot], candidates.start[slot + 1]):
        i = candidates.point[n]
        pz, py, px = points[i]
        for v in range(count):
            dz = (pz - voxels[0, v]) * spacing[0]
            dy = (py - voxels[1, v]) * spacing[1]
            dx = (px - voxels[2, v]) * spacing[2]
            d2 = _sum_of_squares(dz, dy, dx)
            nearer = d2 < best[v]
            best[v] = d2 if nearer else best[v]
            winner[v] = i if nearer else winner[v]
    for v in range(count):
        i, z, y, x = winner[v], int(voxels[0, v]), int(voxels[1, v]), int(voxels[2, v])
        offset[0, z, y, x] = points[i, 0] - z
        offset[1, z, y, x] = points[i, 1] - y
        offset[2, z, y, x] = points[i, 2] - x


@numba.njit(cache=True, nogil=True, inline="always")
def _sum_of_squares(z, y, x):  # type: ignore[no-untyped-def]
    """The same to the last bit in whatever order the axes come, so that ties break alike after a turn."""
    a, b, c = z * z, y * y, x * x
    low, high = min(a, b), max(a, b)
    return min(low, c) + max(low, min(high, c)) + max(high, c)
