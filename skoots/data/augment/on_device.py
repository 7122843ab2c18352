"""``resample`` on any device, with the same result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skoots.data.augment.spatial_map import Displacement, SpatialMap
from skoots.skeletons.offsets_on_device import float_of


def resample_on_device(
    image: Tensor,
    labels: Tensor,
    valid: Tensor,
    spatial_map: SpatialMap,
    shape: Sequence[int],
    start: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """A crop of tensors as a map shows it; see ``resample``.

    Args:
        image: (C, *R) of any type.
        labels: (*R) integers.
        valid: (*R) bool.
        spatial_map: from crop to tensors.
        shape: voxels of the crop.
        start: D coordinates of the tensors' first voxel, counted from the crop's start.

    Returns:
        The image (float32), labels and validity.
    """
    places = [place - s for place, s in zip(_locate(spatial_map, shape, labels.device), start)]
    before, after, share = _neighbours(places, labels.shape)
    nearest = [torch.where(f >= 0.5, b, a) for a, b, f in zip(before, after, share)]
    inside = torch.ones(tuple(shape), dtype=torch.bool, device=labels.device)
    for place, length in zip(places, labels.shape):
        inside &= (place >= -0.5) & (place < length - 0.5)
    at = _flat(nearest, labels.shape)
    shares = [f.float() for f in share]
    channels = [_interpolate(grey.flatten(), labels.shape, before, after, shares) for grey in image]
    return (
        torch.stack(channels),
        torch.where(inside, labels.flatten()[at], 0),
        inside & valid.flatten()[at],
    )


def _locate(spatial_map: SpatialMap, shape: Sequence[int], device: torch.device) -> list[Tensor]:
    """D tensors (*S): where each voxel of the crop comes from. The order of sums is that of the compiled
    loop, so that both round alike."""
    grid = [torch.arange(n, dtype=float_of(device), device=device) for n in shape]
    places = list(torch.meshgrid(*grid, indexing="ij"))
    for i, (matrix, offset) in enumerate(zip(spatial_map.matrices, spatial_map.offsets)):
        if i:
            places = _displaced(places, spatial_map.displacements[i - 1])
        places = [_combine(row, places) + float(o) for row, o in zip(matrix, offset)]
    return places


def _combine(weights: Sequence[float], places: list[Tensor]) -> Tensor:
    total = places[0] * float(weights[0])
    for weight, place in zip(weights[1:], places[1:]):
        total = total + place * float(weight)
    return total


def _displaced(places: list[Tensor], displacement: Displacement) -> list[Tensor]:
    values = torch.from_numpy(displacement.values).to(places[0])
    nodes = values.shape[:-1]
    at = [(p - o) * (1 / s) for p, o, s in zip(places, displacement.origin, displacement.spacing)]
    neighbours = _neighbours(at, nodes)
    return [
        place + _interpolate_nodes(values[..., axis].flatten(), nodes, *neighbours)
        for axis, place in enumerate(places)
    ]


def _neighbours(
    places: list[Tensor], shape: Sequence[int]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Per axis the elements before and after a place, ends repeated, and the share of the second."""
    within = [place.clamp(0, n - 1) for place, n in zip(places, shape)]
    before = [place.long() for place in within]
    after = [(b + 1).clamp(max=n - 1) for b, n in zip(before, shape)]
    return before, after, [place - b for place, b in zip(within, before)]


def _interpolate_nodes(
    values: Tensor, shape: Sequence[int], before: list[Tensor], after: list[Tensor], share: list[Tensor]
) -> Tensor:
    """Linear along the first axis first, then along the one after it, and so on."""

    def up_to(axis: int, chosen: list[Tensor]) -> Tensor:
        if axis < 0:
            return values[_flat(chosen, shape)].to(share[0].dtype)
        first, second = (up_to(axis - 1, [side[axis], *chosen]) for side in (before, after))
        return first + share[axis] * (second - first)

    return up_to(len(shape) - 1, [])


def _interpolate(
    values: Tensor, shape: Sequence[int], before: list[Tensor], after: list[Tensor], share: list[Tensor]
) -> Tensor:
    """Linear along the last axis first, then along the one before it, and so on."""

    def along(axis: int, chosen: list[Tensor]) -> Tensor:
        if axis == len(shape):
            return values[_flat(chosen, shape)].to(share[0].dtype)
        first, second = (along(axis + 1, [*chosen, side[axis]]) for side in (before, after))
        return first + share[axis] * (second - first)

    return along(0, [])


def _flat(index: list[Tensor], shape: Sequence[int]) -> Tensor:
    total = index[0]
    for axis, length in zip(index[1:], shape[1:]):
        total = total * length + axis
    return total
