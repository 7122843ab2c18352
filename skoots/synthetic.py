"""Seeded volumes of touching, bending tubes (or blobs) with known labels: tests, examples, defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

Shape = Literal["tubes", "blobs"]


def make_volume(
    shape: Sequence[int],
    seed: int = 0,
    objects: Shape = "tubes",
    count: int | None = None,
    radius: tuple[float, float] = (3.0, 5.0),
    noise: float = 0.12,
) -> tuple[np.ndarray, np.ndarray]:
    """An image like an electron micrograph of mitochondria, and its labels.

    Tubes are drawn one after the other, each around a curve that keeps clear of the earlier tubes' curves but
    not of their flanks, so that neighbours touch and flatten each other, and components of the foreground
    merge them.

    Args:
        shape: voxels per axis, two or three of them.
        seed: same seed, same volume.
        objects: ``tubes`` or ``blobs``.
        count: how many objects to attempt; None fills about a third of the volume.
        radius: smallest and largest radius, voxels.
        noise: standard deviation of the image noise; the contrast between object and background is about
            0.35.

    Returns:
        (*S) float32 image in [0, 1] and (*S) int32 labels 1..n.
    """
    rng = np.random.default_rng(seed)
    labels = _draw_objects(tuple(shape), rng, objects, count, radius)
    return _render(labels, rng, noise), labels


def _draw_objects(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    objects: Shape,
    count: int | None,
    radius: tuple[float, float],
) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    curves: list[tuple[np.ndarray, float]] = []
    attempts = count if count is not None else 4000
    n = 0
    for _ in range(attempts):
        r = rng.uniform(*radius)
        curve = _grow_curve(shape, rng, curves, r, 1 if objects == "blobs" else int(rng.integers(20, 70)))
        if len(curve) < (1 if objects == "blobs" else 10):
            continue
        if _draw(labels, curve, r, n + 1):
            n += 1
            curves.append((curve, r))
        if count is None and (labels > 0).mean() > 0.33:
            break
    return labels


def _grow_curve(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    curves: list[tuple[np.ndarray, float]],
    r: float,
    length: int,
) -> np.ndarray:
    """(n, D) points, one voxel apart, of a curve that bends smoothly and ends before an earlier one."""
    extent = np.array(shape) - 1
    placed = np.concatenate([c for c, _ in curves]) if curves else np.zeros((0, len(shape)))
    clearance = np.concatenate([np.full(len(c), q) for c, q in curves]) if curves else np.zeros(0)

    def free(point: np.ndarray) -> bool:
        distance = np.sqrt(((placed - point) ** 2).sum(1))
        return bool((distance > 0.82 * (clearance + r)).all())

    point = rng.uniform(0, extent)
    direction = rng.normal(size=len(shape))
    direction /= np.linalg.norm(direction)
    bend = np.zeros(len(shape))
    curve: list[np.ndarray] = []
    for _ in range(length):
        if not free(point) or (point < 0).any() or (point > extent).any():
            break
        curve.append(point)
        bend = 0.9 * bend + 0.06 * rng.normal(size=len(shape))
        direction = direction + bend
        direction /= np.linalg.norm(direction)
        point = point + direction
    return np.array(curve).reshape(-1, len(shape))


def _draw(labels: np.ndarray, curve: np.ndarray, r: float, new: int) -> bool:
    """Label the free voxels within ``r`` of a curve, if these form one piece of some size."""
    low = np.maximum(np.floor(curve.min(0) - r).astype(int), 0)
    high = np.minimum(np.ceil(curve.max(0) + r).astype(int) + 1, labels.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    voxels = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high)], indexing="ij"), -1)
    near = cKDTree(curve).query(voxels.reshape(-1, labels.ndim), distance_upper_bound=r)[0] <= r
    mask = near.reshape(voxels.shape[:-1]) & (labels[box] == 0)
    pieces, count = ndimage.label(mask)
    if count == 0:
        return False
    sizes = np.bincount(pieces.ravel())[1:]
    if sizes.max() < max(20, 0.8 * sizes.sum()):
        return False
    labels[box][pieces == 1 + sizes.argmax()] = new
    return True


def _render(labels: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """Bright cytoplasm, darker objects of varying tone in still darker membranes; blurred, then noise."""
    tone = rng.uniform(0.36, 0.52, labels.max() + 1)
    image = np.where(labels > 0, tone[labels], 0.8)
    texture = ndimage.gaussian_filter(rng.normal(size=labels.shape), 3.0)
    image = image + 0.1 * texture / max(float(texture.std()), 1e-6) * (labels == 0)
    image[_membrane(labels)] = 0.18
    image = ndimage.gaussian_filter(image, 0.6) + noise * rng.normal(size=labels.shape)
    return np.clip(image, 0, 1).astype(np.float32)


def _membrane(labels: np.ndarray) -> np.ndarray:
    """Object voxels with a face towards anything else."""
    rim = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        differs = np.diff(labels, axis=axis) != 0
        pad = [(0, 0)] * labels.ndim
        pad[axis] = (0, 1)
        rim |= np.pad(differs, pad)
        pad[axis] = (1, 0)
        rim |= np.pad(differs, pad)
    return rim & (labels > 0)
