"""The skeleton mask: voxels near their own skeleton, kept apart from the masks of other objects."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from skoots.geometry import relative_spacing
from skoots.skeletons.mask_on_cpu import mask_on_cpu

SMALLEST_AUTO_RADIUS = 1.5


def skeleton_mask(
    labels: Tensor,
    offset: Tensor,
    inscribed: Tensor,
    voxel_size: Sequence[float],
    radius: float | Literal["auto"] = "auto",
) -> Tensor:
    """Voxels within ``radius`` of their own skeleton, masks of objects kept apart at corners too.

    A voxel that neighbours another object's mask is taken out, unless it is a skeleton point itself; so is
    what this cuts off from the skeleton. The masks of two objects then touch only where their bare skeletons
    do.

    Args:
        labels: (B, *S) instance ids, at most 2**24 of them in a batch entry.
        offset: (B, D, *S) voxels to the nearest own skeleton point.
        inscribed: (B, *S) inscribed radius of the own object, finest voxels; read when ``radius`` is
            ``auto``.
        voxel_size: D edge lengths of a voxel.
        radius: in units of the finest voxel axis; ``auto`` is half of the inscribed radius, at least 1.5.

    Returns:
        (B, *S) bool.
    """
    spacing, offset = relative_spacing(voxel_size), offset.float()
    reach = (
        (inscribed / 2).clamp(min=SMALLEST_AUTO_RADIUS)
        if radius == "auto"
        else torch.full_like(inscribed, radius)
    )
    return _draw(labels, offset, reach.float() ** 2, spacing)


def core_mask(
    labels: Tensor, offset: Tensor, relative: Tensor, voxel_size: Sequence[float], least: float = 0.5
) -> Tensor:
    """Voxels at least so deep inside their object, kept apart and connected as those of ``skeleton_mask``.

    Args:
        labels: (B, *S) instance ids, at most 2**24 of them in a batch entry.
        offset: (B, D, *S) voxels to the nearest own skeleton point.
        relative: (B, *S) depth as a share of the depth at the skeleton, see ``relative_depth``.
        voxel_size: D edge lengths of a voxel.
        least: relative depth of the core's surface.

    Returns:
        (B, *S) bool.
    """
    reach2 = torch.where(relative >= least, torch.inf, -1.0)
    return _draw(labels, offset.float(), reach2, relative_spacing(voxel_size))


def _draw(labels: Tensor, offset: Tensor, reach2: Tensor, spacing: tuple[float, ...]) -> Tensor:
    draw = mask_on_cpu if labels.device.type == "cpu" else _mask_on_device
    return draw(labels, offset, reach2, spacing)


def _mask_on_device(labels: Tensor, offset: Tensor, reach2: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """The same without a wait for the device; arguments as of ``mask_on_cpu``."""
    inside = labels > 0
    distance2, bare = torch.zeros_like(reach2), inside.clone()
    for along, edge in zip(offset.unbind(1), spacing):
        distance2 += (along * edge) ** 2
        bare &= along.abs() <= 0.5
    mask = inside & ((distance2 <= reach2) | bare)
    kept = bare | (mask & ~touches_another(labels, mask))
    return _reachable(kept, bare | (kept & _leads_outside(offset)))


def _neighbourhood_max(values: Tensor) -> Tensor:
    """(B, *S) largest value among a voxel and its 3**D - 1 neighbours.

    One axis after the other, each voxel with the one before and the one after; torch's pooling looks at the
    whole cube.
    """
    for axis in range(1, values.ndim):
        count, largest = values.shape[axis] - 1, values.clone()
        after, before = largest.narrow(axis, 0, count), largest.narrow(axis, 1, count)
        torch.maximum(after, values.narrow(axis, 1, count), out=after)
        torch.maximum(before, values.narrow(axis, 0, count), out=before)
        values = largest
    return values


def touches_another(labels: Tensor, mask: Tensor) -> Tensor:
    """(B, *S) voxels that have a voxel of the mask with another label among their 3**D - 1 neighbours.

    Args:
        labels: (B, *S) instance ids, at most 2**24 of them in a batch entry.
        mask: (B, *S) bool.
    """
    own = labels.float()
    nothing = torch.full_like(own, float("-inf"))
    largest = _neighbourhood_max(torch.where(mask, own, nothing))
    smallest = -_neighbourhood_max(torch.where(mask, -own, nothing))
    return (largest > own) | (smallest < own)


def _leads_outside(offset: Tensor) -> Tensor:
    """(B, *S) voxels whose skeleton point lies beyond the array: all that a crop may see of it."""
    outside = torch.zeros_like(offset[:, 0], dtype=torch.bool)
    for axis, length in enumerate(offset.shape[2:]):
        where = torch.arange(length, device=offset.device).view(-1, *(1,) * (offset.ndim - 3 - axis))
        target = where + offset[:, axis]
        outside |= (target < -0.5) | (target > length - 0.5)
    return outside


def _reachable(kept: Tensor, seeds: Tensor, rounds: int = 64) -> Tensor:
    """What of ``kept`` is connected with ``seeds``; grown voxel by voxel, since masks are thin.

    To ask whether it is done would make the program wait at every round.
    """
    reached = seeds
    for _ in range(rounds):
        reached = _neighbourhood_max(reached) & kept
    return reached


def touching_skeletons(labels: Tensor, offset: Tensor) -> int:
    """How many pairs of objects have touching bare skeletons (26 neighbours); decoding merges these.

    Args:
        labels: (*S) instance ids.
        offset: (D, *S) voxels to the nearest own skeleton point.
    """
    bare = torch.where((labels > 0) & (offset.abs() <= 0.5).all(0), labels, torch.zeros_like(labels))
    pairs: set[tuple[int, int]] = set()
    for step in _half_of_neighbours(labels.ndim):
        here = bare[tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, bare.shape))]
        there = bare[tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, bare.shape))]
        meet = (here > 0) & (there > 0) & (here != there)
        both = torch.stack([here[meet], there[meet]], 1).sort(1).values
        pairs.update((a, b) for a, b in both.unique(dim=0).tolist())
    return len(pairs)


def _half_of_neighbours(ndim: int) -> list[tuple[int, ...]]:
    """One of each pair of opposite neighbours: 13 in 3D, 4 in 2D."""
    steps = list(itertools.product((-1, 0, 1), repeat=ndim))
    return steps[len(steps) // 2 + 1 :]
