"""Walks along vectors: to labelled seeds, or to wherever they lead."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from skoots.compiled import compiled
from skoots.geometry import Box, relative_spacing


def follow_vectors(
    vectors: np.ndarray,
    inside: np.ndarray,
    seeds: np.ndarray,
    scale: Sequence[float],
    voxel_size: Sequence[float] | None = None,
    steps: int = 5,
    reach: float = 5.0,
    box: Box | None = None,
    above: int = 0,
) -> np.ndarray:
    """Give every foreground voxel the label of the seed that its vectors lead to.

    A voxel follows the vector under its feet, again and again, and stops as soon as it stands on a seed or
    outside the foreground, where vectors mean nothing; if it has found none it takes the nearest seed within
    ``reach`` of where it stands.

    Args:
        vectors: (D, *S) in [-1, 1], or int8 in [-127, 127].
        inside: (*S) bool, or integers.
        seeds: (*S) int32 labels, 0 = none.
        scale: D voxels that a vector of length 1 spans, per axis.
        voxel_size: D edge lengths of a voxel. None means isotropic.
        steps: at most so many vectors are followed.
        reach: in units of the finest voxel axis.
        box: the voxels to label; the rest is read where vectors lead there. None labels all.
        above: the foreground is where ``inside`` exceeds this.

    Returns:
        int32 labels of the box's shape; 0 where no seed was found.
    """
    lead = (1,) * (3 - inside.ndim)
    box = box or Box.of_shape(inside.shape)
    labels = np.zeros((*lead, *box.shape), np.int32)
    _follow(
        *_in_three(vectors, inside, scale),
        above,
        seeds.reshape(lead + seeds.shape),
        np.array((0,) * len(lead) + box.start),
        steps,
        _nearby(reach, relative_spacing(voxel_size or (1.0,) * inside.ndim)),
        labels,
    )
    return labels.reshape(box.shape)


def count_landings(
    vectors: np.ndarray, inside: np.ndarray, scale: Sequence[float], steps: int = 3, above: int = 0
) -> np.ndarray:
    """How many voxels of the foreground end at each voxel, when all follow their vectors.

    Args:
        vectors: (D, *S) in [-1, 1], or int8 in [-127, 127].
        inside: (*S) bool, or integers.
        scale: D voxels that a vector of length 1 spans, per axis.
        steps: vectors that are followed; a walk ends where it leaves the foreground.
        above: the foreground is where ``inside`` exceeds this.

    Returns:
        (*S) float32.
    """
    vectors, inside_three, unit = _in_three(vectors, inside, scale)
    votes = np.zeros(inside_three.shape, np.float32)
    _vote(vectors, inside_three, unit, above, steps, votes)
    return votes.reshape(inside.shape)


def _in_three(
    vectors: np.ndarray, inside: np.ndarray, scale: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both as views with three axes, the first of one section in 2D, and the voxels of a vector's unit."""
    unit = np.asarray(scale, np.float32) / (127 if vectors.dtype == np.int8 else 1)
    inside = inside.view(np.uint8) if inside.dtype == bool else inside
    if inside.ndim == 2:
        vectors, inside = vectors[:, None], inside[None]
    return vectors, inside, unit


def _nearby(reach: float, spacing: tuple[float, ...]) -> np.ndarray:
    """(n, 3) voxel steps within ``reach``, nearest first."""
    spans = [range(-int(reach / s), int(reach / s) + 1) for s in spacing]
    steps = np.array(list(itertools.product(*spans)), np.int64)
    distance2 = ((steps * np.array(spacing)) ** 2).sum(1)
    steps = steps[np.argsort(distance2, kind="stable")][: int((distance2 <= reach**2 + 1e-9).sum())]
    return np.concatenate([np.zeros((len(steps), 3 - len(spacing)), np.int64), steps], axis=1)


@compiled()
def _follow(vectors, inside, unit, above, seeds, start, steps, nearby, labels):  # type: ignore[no-untyped-def]
    nz, ny, nx = inside.shape
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            for k in range(labels.shape[2]):
                first = (i + start[0], j + start[1], k + start[2])
                if inside[first] <= above:
                    continue
                stand, moved = first, (0.0, 0.0, 0.0)
                found = seeds[stand]
                for _ in range(steps):
                    if found != 0 or inside[stand] <= above:
                        break
                    stand, moved = _step(vectors, unit, inside.shape, first, stand, moved)
                    found = seeds[stand]
                if found == 0:
                    for n in range(nearby.shape[0]):
                        z, y, x = stand[0] + nearby[n, 0], stand[1] + nearby[n, 1], stand[2] + nearby[n, 2]
                        if 0 <= z < nz and 0 <= y < ny and 0 <= x < nx and seeds[z, y, x] != 0:
                            found = seeds[z, y, x]
                            break
                labels[i, j, k] = found


@compiled()
def _vote(vectors, inside, unit, above, steps, votes):  # type: ignore[no-untyped-def]
    for i in range(votes.shape[0]):
        for j in range(votes.shape[1]):
            for k in range(votes.shape[2]):
                first = (i, j, k)
                if inside[first] <= above:
                    continue
                stand, moved = first, (0.0, 0.0, 0.0)
                for _ in range(steps):
                    if inside[stand] <= above:
                        break
                    stand, moved = _step(vectors, unit, inside.shape, first, stand, moved)
                votes[stand] += 1


# What is added up is the way from the first voxel, not a position: so roundings do not depend on where a part
# lies in the volume.
@compiled(inline="always")
def _step(vectors, unit, shape, first, stand, moved):  # type: ignore[no-untyped-def]
    """Along the vector underfoot, not beyond the array; gives the new voxel, and the way from the first."""
    z, y, x = stand
    dz, dy, dx = moved
    lead = 3 - vectors.shape[0]  # 1 in 2D, where no vector leads to another section
    if lead == 0:
        dz = _within(dz + vectors[0, z, y, x] * unit[0], first[0], shape[0])
    dy = _within(dy + vectors[1 - lead, z, y, x] * unit[1 - lead], first[1], shape[1])
    dx = _within(dx + vectors[2 - lead, z, y, x] * unit[2 - lead], first[2], shape[2])
    ahead = (first[0] + _nearest(dz), first[1] + _nearest(dy), first[2] + _nearest(dx))
    return ahead, (dz, dy, dx)


@compiled(inline="always")
def _within(moved, first, length):  # type: ignore[no-untyped-def]
    return min(max(moved, -float(first)), float(length - 1 - first))


@compiled(inline="always")
def _nearest(moved):  # type: ignore[no-untyped-def]
    return int(np.floor(moved + 0.5))
