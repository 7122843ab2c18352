"""Walks along vectors: to labelled seeds, or to wherever they lead."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numba
import numpy as np

from skoots.geometry import Box, relative_spacing


def follow_vectors(
    vectors: np.ndarray,
    foreground: np.ndarray,
    skeleton_labels: np.ndarray,
    scale: Sequence[float],
    voxel_size: Sequence[float] | None = None,
    steps: int = 5,
    reach: float = 5.0,
    box: Box | None = None,
) -> np.ndarray:
    """Give every foreground voxel the label of the skeleton that its vectors lead to.

    A voxel follows the vector under its feet, again and again, and stops as soon as it stands on a labelled
    skeleton or outside the foreground, where vectors mean nothing; if it has found none it takes the nearest
    labelled skeleton within ``reach`` of where it stands.

    Args:
        vectors: (D, *S) in [-1, 1], or int8 in [-127, 127].
        foreground: (*S) bool.
        skeleton_labels: (*S) int32 labelled skeletons, 0 = none.
        scale: D voxels that a vector of length 1 spans, per axis.
        voxel_size: D edge lengths of a voxel. None means isotropic.
        steps: at most so many vectors are followed.
        reach: in units of the finest voxel axis.
        box: the voxels to label; the rest is read where vectors lead there. None labels all.

    Returns:
        int32 labels of the box's shape; 0 where no skeleton was found.
    """
    ndim = foreground.ndim
    box = box or Box.of_shape(foreground.shape)
    labels = np.zeros((*(1,) * (3 - ndim), *box.shape), np.int32)
    _follow(
        *_in_three(vectors, foreground, scale),
        skeleton_labels.reshape(*labels.shape[: 3 - ndim], *foreground.shape),
        np.array((0,) * (3 - ndim) + box.start),
        steps,
        _nearby(reach, relative_spacing(voxel_size or (1.0,) * ndim)),
        labels,
    )
    return labels.reshape(box.shape)


def count_landings(
    vectors: np.ndarray, foreground: np.ndarray, scale: Sequence[float], steps: int = 3
) -> np.ndarray:
    """How many voxels of the foreground end at each voxel, when all follow their vectors.

    Args:
        vectors: (D, *S) in [-1, 1], or int8 in [-127, 127].
        foreground: (*S) bool; a walk ends where it leaves it.
        scale: D voxels that a vector of length 1 spans, per axis.
        steps: vectors that are followed.

    Returns:
        (*S) float32.
    """
    three = _in_three(vectors, foreground, scale)
    votes = np.zeros(three[1].shape, np.float32)
    _vote(*three, steps, votes)
    return votes.reshape(foreground.shape)


def _in_three(
    vectors: np.ndarray, foreground: np.ndarray, scale: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors and foreground of one section where they are 2D, and the voxels of a vector's unit."""
    ndim = foreground.ndim
    unit = np.zeros(3, np.float32)
    unit[3 - ndim :] = np.asarray(scale, np.float32) / (127 if vectors.dtype == np.int8 else 1)
    if ndim == 2:
        vectors = np.concatenate([np.zeros((1, *vectors.shape[1:]), vectors.dtype), vectors])[:, None]
        foreground = foreground[None]
    return vectors, foreground, unit


def _nearby(reach: float, spacing: tuple[float, ...]) -> np.ndarray:
    """(n, 3) voxel steps within ``reach``, nearest first."""
    spans = [range(-int(reach / s), int(reach / s) + 1) for s in spacing]
    steps = np.array(list(itertools.product(*spans)), np.int64)
    distance2 = ((steps * np.array(spacing)) ** 2).sum(1)
    steps = steps[np.argsort(distance2, kind="stable")][: int((distance2 <= reach**2 + 1e-9).sum())]
    return np.concatenate([np.zeros((len(steps), 3 - len(spacing)), np.int64), steps], axis=1)


@numba.njit(cache=True, nogil=True)
def _follow(vectors, foreground, unit, skeletons, start, steps, nearby, labels):  # type: ignore[no-untyped-def]
    nz, ny, nx = foreground.shape
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            for k in range(labels.shape[2]):
                z, y, x = i + start[0], j + start[1], k + start[2]
                if not foreground[z, y, x]:
                    continue
                found = skeletons[z, y, x]
                pz, py, px = float(z), float(y), float(x)
                for _ in range(steps):
                    if found != 0 or not foreground[z, y, x]:
                        break
                    pz, py, px = _step(vectors, unit, foreground.shape, z, y, x, pz, py, px)
                    z, y, x = int(pz + 0.5), int(py + 0.5), int(px + 0.5)
                    found = skeletons[z, y, x]
                if found == 0:
                    for n in range(nearby.shape[0]):
                        a, b, c = z + nearby[n, 0], y + nearby[n, 1], x + nearby[n, 2]
                        if 0 <= a < nz and 0 <= b < ny and 0 <= c < nx and skeletons[a, b, c] != 0:
                            found = skeletons[a, b, c]
                            break
                labels[i, j, k] = found


@numba.njit(cache=True, nogil=True)
def _vote(vectors, foreground, unit, steps, votes):  # type: ignore[no-untyped-def]
    for i in range(votes.shape[0]):
        for j in range(votes.shape[1]):
            for k in range(votes.shape[2]):
                if not foreground[i, j, k]:
                    continue
                z, y, x = i, j, k
                pz, py, px = float(z), float(y), float(x)
                for _ in range(steps):
                    if not foreground[z, y, x]:
                        break
                    pz, py, px = _step(vectors, unit, foreground.shape, z, y, x, pz, py, px)
                    z, y, x = int(pz + 0.5), int(py + 0.5), int(px + 0.5)
                votes[z, y, x] += 1


@numba.njit(cache=True, nogil=True, inline="always")
def _step(vectors, unit, shape, z, y, x, pz, py, px):  # type: ignore[no-untyped-def]
    """From a position along the vector of its voxel, not beyond the array."""
    pz = min(max(pz + vectors[0, z, y, x] * unit[0], 0.0), shape[0] - 1.0)
    py = min(max(py + vectors[1, z, y, x] * unit[1], 0.0), shape[1] - 1.0)
    px = min(max(px + vectors[2, z, y, x] * unit[2], 0.0), shape[2] - 1.0)
    return pz, py, px
