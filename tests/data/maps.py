"""Random maps and label volumes for the tests of augmentation."""

from __future__ import annotations

import numpy as np

from skoots.data.augment.spatial_map import Displacement, SpatialMap


def random_displacement(rng, shape, steepness):
    """On a grid of its own, as steep as asked for, or not at all if its only node is one."""
    nodes = tuple(int(n) for n in rng.integers(1, 6, len(shape)))
    values = rng.uniform(-1, 1, (*nodes, len(shape)))
    origin = tuple(float(v) for v in rng.uniform(-2, 2, len(shape)))
    spacing = tuple(float(n / max(g - 1, 1) * rng.uniform(0.6, 1.3)) for n, g in zip(shape, nodes))
    steep = Displacement(values, origin, spacing).steepness
    return Displacement(values * (steepness / steep if steep else 1), origin, spacing)


def random_linear(rng, shape, voxel_size):
    ndim = len(shape)
    turn = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0]
    forward = turn * rng.uniform(0.7, 1.4) + rng.uniform(-0.1, 0.1, (ndim, ndim))
    return SpatialMap.physical(shape, voxel_size, forward, tuple(rng.uniform(-2, 2, ndim)))


def random_steps(seed, shape, voxel_size, steepness=0.8):
    """Linear and elastic maps, to be applied one after the other."""
    rng = np.random.default_rng(seed)
    return [
        random_linear(rng, shape, voxel_size)
        if rng.random() < 0.5
        else SpatialMap.displaced(random_displacement(rng, shape, steepness))
        for _ in range(rng.integers(1, 4))
    ]


def composed(steps):
    whole = SpatialMap.identity(steps[0].ndim)
    for step in steps:
        whole = whole.then(step)
    return whole


def grid_of(shape):
    """(N, D) all voxels of a box."""
    return np.stack(np.indices(shape), -1).reshape(-1, len(shape)).astype(float)
