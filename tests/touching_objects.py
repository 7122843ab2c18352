"""Labelled volumes whose objects touch, for the tests of masks, depths, targets and decoders."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

from skoots.geometry import relative_spacing
from skoots.instances import SkeletonDecoder
from skoots.instances.decoders.landing import LandingDecoder
from skoots.instances.decoders.persistence import PersistenceDecoder
from skoots.skeletons import nearest_offsets, skeletonize
from skoots.synthetic import make_volume


def cells(shape, count, rng, voxel_size):
    seeds = rng.uniform(0, np.array(shape), (count, len(shape)))
    grid = np.stack(np.indices(shape), -1)[..., None, :]
    labels = 1 + (((grid - seeds) * voxel_size) ** 2).sum(-1).argmin(-1)
    return np.where(rng.random(count + 1)[labels] < 0.2, 0, labels).astype(np.int32)


def blobs(shape, count, rng, voxel_size):
    """Thresholded smooth noise, cut up by smooth sheets: ragged objects, some in several pieces."""
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.5 / np.array(relative_spacing(voxel_size)))
    part = ndimage.gaussian_filter(rng.normal(size=shape), 3)
    labels = ndimage.label(smooth > 0)[0] * 2 - (part > 0)
    return np.where(smooth > 0, labels, 0).astype(np.int32)


def tubes(shape, count, rng, voxel_size):
    return make_volume(shape, int(rng.integers(1000)), radius=(1.2, 3.5))[1]


def speckle(shape, count, rng, voxel_size):
    """The worst there is: every voxel another object, or a few voxels."""
    return rng.integers(0, 60, shape).astype(np.int32)


CASES = [
    (make, shape, voxel_size)
    for make in (cells, blobs, tubes)
    for shape, voxel_size in (
        [((14, 18, 18), (1, 1, 1)), ((8, 22, 22), (3, 1, 1)), ((30, 34), (1, 1)), ((20, 40), (2.4, 1))]
    )
] + [(speckle, (6, 7, 7), (1, 1, 1)), (speckle, (12, 12), (1, 2))]


def prepared(make, shape, voxel_size, seed):
    labels = make(shape, 14, np.random.default_rng(seed), voxel_size)
    skeletons = skeletonize(labels, voxel_size)
    offset = nearest_offsets(labels, skeletons, voxel_size)
    radius = np.zeros(labels.max() + 1, np.float32)
    radius[skeletons.ids] = skeletons.inscribed
    return labels, skeletons, offset, radius[labels]


def touching_pairs(labels, mask):
    """Pairs of ids with neighbouring voxels in a mask, by looking at each voxel and each neighbour."""
    pairs = set()
    for where in np.argwhere(mask):
        for step in itertools.product((-1, 0, 1), repeat=labels.ndim):
            other = tuple(where + step)
            if all(0 <= o < n for o, n in zip(other, labels.shape)) and mask[other]:
                pairs.add(tuple(sorted((int(labels[tuple(where)]), int(labels[other])))))
    return {(a, b) for a, b in pairs if a != b}


def apart(labels, offset):
    """The labels without the objects whose bare skeletons touch another's, which the law exempts."""
    bare = (labels > 0) & (np.abs(offset) <= 0.5).all(0)
    close = {object_id for pair in touching_pairs(labels, bare) for object_id in pair}
    return np.where(np.isin(labels, list(close)), 0, labels)


# Seeds from votes are exactly the bare skeletons where every vote counts and none is spread.
LAWFUL = [
    SkeletonDecoder(),
    LandingDecoder(smoothing=0, votes=0.5),
    *(
        PersistenceDecoder(smoothing=0, votes=0.5, neck=0, skeleton_weight=weight)
        for weight in (0.0, 0.5, 1.0)
    ),
]
