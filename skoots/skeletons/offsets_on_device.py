"""``nearest_offsets`` on any device, with the same result."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from skoots.geometry import relative_spacing

PAIRS_AT_ONCE = 2_000_000


def nearest_offsets_on_device(
    labels: Tensor, starts: Sequence[int], points: Tensor, voxel_size: Sequence[float]
) -> Tensor:
    """Displacement of each voxel to the nearest point of its own object; exact, in physical distance.

    Args:
        labels: (*S) integers; 0 is background, and ``k`` is the object of row ``k - 1`` of ``starts``.
        starts: N + 1 numbers; the points of row ``i`` are ``points[starts[i]:starts[i + 1]]``.
        points: (P, D) voxels.
        voxel_size: D edge lengths of a voxel.

    Returns:
        (D, *S) float32 voxels, 0 outside objects. Of points equally near, the first is taken.
    """
    precise = float_of(labels.device)
    spacing = torch.tensor(relative_spacing(voxel_size), dtype=precise, device=labels.device)
    offset = torch.zeros(labels.ndim, labels.numel(), device=labels.device)
    places, ends = _by_object(labels, len(starts) - 1)
    axes = torch.unravel_index(places, labels.shape)
    voxels = torch.stack([axis.to(precise) for axis in axes])
    points = points.to(precise).T
    for row, (begin, end) in enumerate(itertools.pairwise(ends)):
        own = points[:, starts[row] : starts[row + 1]]
        if not own.shape[1]:
            continue
        several = max(1, PAIRS_AT_ONCE // own.shape[1])
        for first in range(begin, end, several):
            chunk = slice(first, min(first + several, end))
            nearest = _nearest(voxels[:, chunk], own, spacing)
            offset[:, places[chunk]] = (own[:, nearest] - voxels[:, chunk]).float()
    return offset.view(-1, *labels.shape)


def float_of(device: torch.device) -> torch.dtype:
    """The most precise type for coordinates: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _by_object(labels: Tensor, objects: int) -> tuple[Tensor, list[int]]:
    """Flat indices of all voxels of objects, one object after the other, and where each object begins."""
    flat = labels.flatten()
    places = flat.nonzero()[:, 0]
    own, order = flat[places].sort(stable=True)
    ends = torch.searchsorted(own, torch.arange(1, objects + 2, device=labels.device))
    return places[order], ends.tolist()


def _nearest(voxels: Tensor, points: Tensor, spacing: Tensor) -> Tensor:
    """(n,) which of (D, m) points is nearest to each of (D, n) voxels."""
    squares = [((p - v[:, None]) * s) ** 2 for p, v, s in zip(points, voxels, spacing)]
    distance2 = _sum(squares)
    nearest = distance2.amin(1, keepdim=True)
    numbers = torch.arange(points.shape[1], device=points.device)
    return torch.where(distance2 == nearest, numbers, points.shape[1]).amin(1)


def _sum(squares: list[Tensor]) -> Tensor:
    """From the smallest to the largest, as ``nearest_offsets`` does, so that ties break alike."""
    if len(squares) == 2:
        return squares[0] + squares[1]
    a, b, c = squares
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return torch.minimum(low, c) + torch.maximum(low, torch.minimum(high, c)) + torch.maximum(high, c)
