"""How deep a voxel lies inside its object, in voxels and as a share of the depth at its skeleton."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from skoots.compiled import compiled
from skoots.geometry import relative_spacing

FAR = np.float32(1e12)  # squared; no wall in sight
PAIRS = 2**24  # of voxels that are compared at once on a device: 64 MiB
TO_FACE = 0.5  # a wall lies between the centres of two voxels


def object_depth(labels: Tensor, voxel_size: Sequence[float]) -> Tensor:
    """Distance of every voxel to the wall of its own object; the border of the array is no wall.

    Exact, one axis after the other (Felzenszwalb & Huttenlocher 2012), all objects at once.

    Args:
        labels: (B, *S) instance ids, 0 = background.
        voxel_size: D edge lengths of a voxel.

    Returns:
        (B, *S) float32, in units of the finest voxel axis from the centre of a voxel to the face of the
        nearest one outside; 0 in the background, and of the order of 1e6 where no wall is in sight.
    """
    spacing = relative_spacing(voxel_size)
    squared = _squared_on_cpu if labels.device.type == "cpu" else _squared_on_device
    depth = squared(labels, spacing).sqrt_().sub_(TO_FACE)
    return depth.masked_fill_(labels <= 0, 0.0)


def relative_depth(labels: Tensor, offset: Tensor, voxel_size: Sequence[float]) -> Tensor:
    """Depth as a share of the depth at the nearest skeleton point: 1 on the skeleton, near 0 at the wall.

    Where the skeleton point lies beyond the array, the depth there is taken to be the depth here and the way
    to it.

    Args:
        labels: (B, *S) instance ids, 0 = background.
        offset: (B, D, *S) voxels to the nearest own skeleton point.
        voxel_size: D edge lengths of a voxel.

    Returns:
        (B, *S) float32 in [0, 1]; 0 in the background.
    """
    depth = object_depth(labels, voxel_size)
    at_skeleton = _at_skeleton_point(depth, offset, voxel_size)
    return (depth / at_skeleton.clamp_(min=TO_FACE)).clamp_(max=1.0)


def _at_skeleton_point(depth: Tensor, offset: Tensor, voxel_size: Sequence[float]) -> Tensor:
    """(B, *S) depth at the skeleton point of every voxel."""
    shape = depth.shape[1:]
    place = torch.zeros_like(depth, dtype=torch.int64)
    inside = torch.ones_like(depth, dtype=torch.bool)
    way2 = torch.zeros_like(depth)
    for axis, (length, edge) in enumerate(zip(shape, relative_spacing(voxel_size))):
        along = offset[:, axis].float()
        here = torch.arange(length, device=depth.device).view(-1, *(1,) * (len(shape) - 1 - axis))
        there = here + along.round().long()
        inside &= (there >= 0) & (there < length)
        place = place * length + there.clamp_(0, length - 1)
        way2 += (along * edge) ** 2
    seen = depth.flatten(1).gather(1, place.flatten(1)).view_as(depth)
    return torch.where(inside, seen, depth + way2.sqrt_())


def _squared_on_device(labels: Tensor, spacing: Sequence[float]) -> Tensor:
    """(B, *S) squared distance to the nearest voxel with another label: all pairs of a line at once, which
    takes few kernels and no wait for the device."""
    distance2 = torch.full(labels.shape, float(FAR), device=labels.device)
    for axis, edge in enumerate(spacing, start=1):
        lines, ids = distance2.movedim(axis, -1), labels.movedim(axis, -1)
        length = lines.shape[-1]
        runs = (ids.diff(dim=-1, prepend=ids[..., :1]) != 0).cumsum(-1, dtype=torch.int32).flatten(0, -2)
        ways = torch.arange(length, device=labels.device)
        apart = ((ways[:, None] - ways) * edge).square().float()
        # what lies in another run is, or is behind, a voxel outside the object
        nearest = [
            torch.where(run[:, :, None] == run[:, None], line[:, None], 0.0).add_(apart).amin(-1)
            for run, line in zip(*(t.split(max(1, PAIRS // length**2)) for t in (runs, lines.flatten(0, -2))))
        ]
        distance2 = torch.cat(nearest).view(lines.shape).movedim(-1, axis)
    return distance2.clamp_(max=float(FAR))


def _squared_on_cpu(labels: Tensor, spacing: Sequence[float]) -> Tensor:
    batch, *shape = labels.shape
    volume = (batch, *(1,) * (3 - len(shape)), *shape)
    distance2 = np.full(volume, FAR, np.float32)
    ids = labels.contiguous().numpy().reshape(volume)
    edges = np.array([1.0] * (3 - len(shape)) + list(spacing), np.float32)
    for b in range(batch):
        _along_rows(ids[b], distance2[b], edges[2])
        if volume[2] > 1:
            _along_columns(ids[b], distance2[b], edges[1])
        if volume[1] > 1:
            _along_columns(ids[b].transpose(1, 0, 2), distance2[b].transpose(1, 0, 2), edges[0])
    return torch.from_numpy(distance2).view(labels.shape)


@compiled()
def _along_rows(labels, distance2, edge):  # type: ignore[no-untyped-def]
    """Squared distance to the nearest voxel of the same row with another label."""
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            since = -1  # voxels since the last wall; -1: none yet
            for x in range(1, width):
                if labels[z, y, x] != labels[z, y, x - 1]:
                    since = 0
                if since >= 0:
                    since += 1
                    distance2[z, y, x] = (np.float32(since) * edge) ** 2
            since = -1
            for x in range(width - 2, -1, -1):
                if labels[z, y, x] != labels[z, y, x + 1]:
                    since = 0
                if since >= 0:
                    since += 1
                    distance2[z, y, x] = min(distance2[z, y, x], (np.float32(since) * edge) ** 2)


@compiled()
def _along_columns(labels, distance2, edge):  # type: ignore[no-untyped-def]
    """Add the second axis: each run of one label in a column is a lower envelope of parabolas of its own."""
    depth, height, width = labels.shape
    tops = np.empty(height + 2, np.float32)  # the parabolas: where, how high, and from where on the lowest
    middles = np.empty(height + 2, np.int64)
    froms = np.empty(height + 3, np.float32)
    unit = edge * edge
    for z in range(depth):
        for x in range(width):
            start = 0
            while start < height:
                stop = start + 1
                while stop < height and labels[z, stop, x] == labels[z, start, x]:
                    stop += 1
                count = 0
                # a wall before and after the run is a parabola of height 0
                first = start - 1 if start > 0 else start
                last = stop if stop < height else stop - 1
                if labels[z, start, x] > 0:
                    for y in range(first, last + 1):
                        top = np.float32(0)
                        if start <= y < stop:
                            top = distance2[z, y, x]
                            if top >= FAR:
                                continue
                        top /= unit
                        begin = np.float32(-FAR)
                        while count > 0:
                            middle = middles[count - 1]
                            begin = ((top + y * y) - (tops[count - 1] + middle * middle)) / np.float32(
                                2 * (y - middle)
                            )
                            if begin > froms[count - 1]:
                                break
                            count -= 1
                            begin = np.float32(-FAR)
                        tops[count], middles[count], froms[count] = top, y, begin
                        count += 1
                    if count > 0:
                        froms[count] = FAR
                        lowest = 0
                        for y in range(start, stop):
                            while froms[lowest + 1] < y:
                                lowest += 1
                            away = np.float32(y - middles[lowest])
                            distance2[z, y, x] = (tops[lowest] + away * away) * unit
                start = stop
