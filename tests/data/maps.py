"""Random maps and label volumes for the tests of augmentation."""

from __future__ import annotations

import numpy as np

from skoots.data.augment import Window
from skoots.data.augment.spatial_map import Displacement, SpatialMap
from skoots.geometry import relative_spacing
from skoots.skeletons import Skeletons


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


def balls(shape, voxel_size, rng, count=12, radius=3.0):
    """Balls, physically round, around points off the voxels' centres that are also their skeletons."""
    size = np.array(relative_spacing(voxel_size))
    centres = rng.uniform(0, 1, (count, len(shape))) * (np.array(shape) - 1)
    apart = [
        i
        for i, c in enumerate(centres)
        if all((((c - d) * size) ** 2).sum() > (2 * radius + 2) ** 2 for d in centres[:i])
    ]
    centres = centres[apart]
    voxels = grid_of(shape).reshape(*shape, 1, -1)
    distance = np.sqrt((((voxels - centres) * size) ** 2).sum(-1))
    labels = np.where(distance.min(-1) <= radius, distance.argmin(-1) + 1, 0).astype(np.int32)
    skeletons = Skeletons.pack({i + 1: c[None] for i, c in enumerate(centres)}, len(shape))
    image = np.exp(-(distance.min(-1) ** 2) / 8).astype(np.float32)[None]
    return Window(image, labels, np.ones(shape, bool), skeletons, voxel_size)


def error_of_points(window, radius=3.0, by_section=False):
    """Largest distance, voxels per axis, of a skeleton point from the middle of its warped ball (where voxels
    are long, and a ball is a section or two, from its nearest voxel); of balls that lie wholly inside the
    window, and how many these are. Where sections slip, a point is where its own section of the ball is."""
    shape, worst, seen = np.array(window.labels.shape), 0.0, 0
    size = np.array(relative_spacing(window.voxel_size))
    reach = 2 * radius / size + 1
    for object_id, points in window.skeletons.as_dict().items():
        if (points[0] > reach).all() and (points[0] < shape - 1 - reach).all():
            voxels = np.argwhere(window.labels == object_id)
            if by_section:
                voxels = voxels[voxels[:, 0] == round(float(points[0][0]))]
            middle = np.abs(voxels.mean(0) - points[0]).max()
            nearest = np.abs(voxels - points[0]).max(1).min()
            worst, seen = max(worst, middle if size.max() < 1.5 else nearest), seen + 1
    return worst, seen
