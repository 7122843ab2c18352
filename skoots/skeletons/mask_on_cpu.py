"""The skeleton mask as a compiled loop that looks at few voxels more than the mask has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skoots.compiled import compiled

KEPT, REACHED = 1, 2  # clear of other masks; connected with the skeleton besides


def mask_on_cpu(labels: Tensor, offset: Tensor, reach2: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """What ``skeleton_mask`` describes, for tensors in the host's memory.

    Args:
        labels: (B, *S) instance ids.
        offset: (B, D, *S) float32 voxels to the nearest own skeleton point.
        reach2: (B, *S) float32, square of the radius.
        spacing: D edge lengths of a voxel, 1 for the finest axis.

    Returns:
        (B, *S) bool.
    """
    batch, *shape = labels.shape
    volume = (batch, *(1,) * (3 - len(shape)), *shape)
    mask = np.empty(volume, np.bool_)
    _draw(
        labels.contiguous().numpy().reshape(volume),
        offset.contiguous().numpy().reshape(batch, len(shape), *volume[1:]),
        reach2.contiguous().numpy().reshape(volume),
        np.array(spacing, np.float32),
        mask,
    )
    return torch.from_numpy(mask).view(labels.shape)


@compiled()
def _draw(labels, offset, reach2, spacing, mask):  # type: ignore[no-untyped-def]
    # A rim of one voxel, so that every voxel has all its neighbours, at the same steps in the flat arrays.
    _, depth, height, width = labels.shape
    rows, columns = height + 2, width + 2
    lines = _steps_to_lines(rows, columns)
    for b in range(len(labels)):
        owner = np.zeros((depth + 2) * rows * columns, np.int32)
        state = np.zeros((depth + 2) * rows * columns, np.uint8)
        stack = np.empty(_near(labels[b], offset[b], reach2[b], spacing, owner, state), np.int64)
        waiting = _keep_apart(offset[b], owner, state, lines, stack)
        _grow(state, lines, stack, waiting)
        mask[b] = state.reshape((depth + 2, rows, columns))[1:-1, 1:-1, 1:-1] == REACHED


@compiled()
def _steps_to_lines(rows, columns):  # type: ignore[no-untyped-def]
    """From a voxel to the middles of the nine lines, of three voxels each, that are its neighbourhood."""
    steps = np.empty(9, np.int64)
    for i in range(9):
        steps[i] = ((i // 3 - 1) * rows + i % 3 - 1) * columns
    return steps


@compiled()
def _near(labels, offset, reach2, spacing, owner, state):  # type: ignore[no-untyped-def]
    """Mark the voxels within reach with their object, and the skeleton itself as reached; count them."""
    depth, height, width = labels.shape
    count = 0
    for z in range(depth):
        for y in range(height):
            row = ((z + 1) * (height + 2) + y + 1) * (width + 2) + 1
            for x in range(width):
                if labels[z, y, x] <= 0:
                    continue
                distance2, bare = np.float32(0), True
                for axis in range(len(spacing)):
                    along = offset[axis, z, y, x]
                    bare &= abs(along) <= 0.5
                    distance2 += (along * spacing[axis]) * (along * spacing[axis])
                if bare or distance2 <= reach2[z, y, x]:
                    owner[row + x] = labels[z, y, x]
                    count += 1
                if bare:
                    state[row + x] = REACHED
    return count


@compiled()
def _keep_apart(offset, owner, state, lines, stack):  # type: ignore[no-untyped-def]
    """Mark what is kept, and stack what is connected with the skeleton, or with its part outside."""
    _, depth, height, width = offset.shape
    waiting = 0
    for z in range(depth):
        for y in range(height):
            row = ((z + 1) * (height + 2) + y + 1) * (width + 2) + 1
            for x in range(width):
                place = row + x
                if owner[place] == 0:
                    continue
                if state[place] != REACHED:
                    if _touches_another(owner, lines, place):
                        continue
                    state[place] = REACHED if _leads_outside(offset, z, y, x) else KEPT
                if state[place] == REACHED:
                    stack[waiting] = place
                    waiting += 1
    return waiting


@compiled()
def _touches_another(owner, lines, place):  # type: ignore[no-untyped-def]
    own = owner[place]
    for step in lines:
        middle = place + step
        # Without short cuts: three look-ups are cheaper than a branch between them.
        a, b, c = owner[middle - 1], owner[middle], owner[middle + 1]
        if ((a != 0) & (a != own)) | ((b != 0) & (b != own)) | ((c != 0) & (c != own)):
            return True
    return False


@compiled()
def _leads_outside(offset, z, y, x):  # type: ignore[no-untyped-def]
    here = (z, y, x)
    first = 3 - len(offset)
    for axis in range(len(offset)):
        target = np.float32(here[first + axis]) + offset[axis, z, y, x]
        if target < -0.5 or target > offset.shape[1 + first + axis] - 0.5:
            return True
    return False


@compiled()
def _grow(state, lines, stack, waiting):  # type: ignore[no-untyped-def]
    while waiting > 0:
        waiting -= 1
        place = stack[waiting]
        for step in lines:
            for neighbour in range(place + step - 1, place + step + 2):
                if state[neighbour] == KEPT:
                    state[neighbour] = REACHED
                    stack[waiting] = neighbour
                    waiting += 1
