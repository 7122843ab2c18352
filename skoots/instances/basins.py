"""Hills of a map, told apart by how deep the passes between them are."""

from __future__ import annotations

import itertools

import numpy as np

from skoots.compiled import compiled
from skoots.instances.relabel import close_gaps


def persistent_basins(height: np.ndarray, floor: float, neck: float, min_size: int = 0) -> np.ndarray:
    """Label the hills of a map; the water is let down from the highest summit.

    Where two hills meet they stay two if the pass is lower than ``neck`` times the lower summit; else they
    are one.

    Args:
        height: (*S) float32.
        floor: what is not above it belongs to no hill.
        neck: 0 to 1; 0 gives connected components, 1 every summit.
        min_size: hills of fewer voxels are dropped.

    Returns:
        (*S) int32 labels 1..n, 0 = no hill. Neighbours over corners count.
    """
    lead = (1,) * (3 - height.ndim)
    labels = np.zeros(height.shape, np.int32)
    above = np.flatnonzero(height.ravel() > floor)
    order = above[np.argsort(-height.ravel()[above], kind="stable")]
    shape = np.array((*lead, *height.shape))
    steps = [step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)]
    count = _flood(height.ravel(), order, shape, np.array(steps), neck, labels.ravel())
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return close_gaps(sizes, min_size)[labels]


@compiled()
def _flood(height, order, shape, steps, neck, labels):  # type: ignore[no-untyped-def]
    # Each hill has a summit, and a parent: itself where it has not been joined to a higher one (union-find).
    parent, summit = np.zeros(len(order) + 1, np.int32), np.zeros(len(order) + 1, np.float32)
    count = 0
    met = np.zeros(27, np.int32)
    for n in range(len(order)):
        at = order[n]
        z, y, x = at // (shape[1] * shape[2]), at // shape[2] % shape[1], at % shape[2]
        meeting = 0
        for s in range(len(steps)):
            a, b, c = z + steps[s, 0], y + steps[s, 1], x + steps[s, 2]
            if 0 <= a < shape[0] and 0 <= b < shape[1] and 0 <= c < shape[2]:
                other = labels[(a * shape[1] + b) * shape[2] + c]
                if other != 0:
                    met[meeting] = _root(parent, other)
                    meeting += 1
        if meeting == 0:
            count += 1
            parent[count], summit[count], labels[at] = count, height[at], count
            continue
        highest = met[0]  # hills are numbered from the highest down
        for m in range(1, meeting):
            highest = min(highest, met[m])
        for m in range(meeting):
            lower = _root(parent, met[m])
            if lower != highest and height[at] >= neck * summit[lower]:
                parent[lower] = highest
        labels[at] = highest
    for n in range(len(order)):
        labels[order[n]] = _root(parent, labels[order[n]])
    return count


@compiled()
def _root(parent, label):  # type: ignore[no-untyped-def]
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label
