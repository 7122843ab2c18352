"""Targets against slow readings of their definitions, and the law of the round trip for each pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from float_maps import decode
from scipy import ndimage
from scipy.spatial import cKDTree
from touching_objects import CASES, LAWFUL, apart, prepared

from skoots.geometry import relative_spacing
from skoots.models.targets.affinity import AffinityTarget
from skoots.models.targets.base import TARGET_GENERATORS
from skoots.models.targets.boundary import BoundaryTarget
from skoots.models.targets.object_core import CoreMaskTarget, CoreOffsetTarget
from skoots.models.targets.relative_depth import RelativeDepthTarget
from skoots.samples import Batch, Sample


def batch_of(make, shape, voxel_size, seed):
    """A batch of one volume, whose objects touch but not by their bare skeletons; None if none is left."""
    labels, _, offset, _ = prepared(make, shape, voxel_size, seed)
    labels = apart(labels, offset)
    if not labels.any():
        return None
    again = prepared(lambda *_: labels, shape, voxel_size, seed)
    labels, _, offset, inscribed = again
    image = np.zeros((1, *shape), np.float32)
    return Batch.collate([Sample(image, labels, offset, inscribed, labels >= 0, tuple(voxel_size))])


PAIRS = [
    (skeleton, vector)
    for skeleton in ("CoreMaskTarget", "RelativeDepthTarget")
    for vector in ("OffsetTarget", "CoreOffsetTarget")
]


@pytest.mark.parametrize("make, shape, voxel_size", CASES)
@pytest.mark.parametrize("skeleton, vector", PAIRS)
def test_the_law_of_the_round_trip_holds_for_each_pair_of_targets(make, shape, voxel_size, skeleton, vector):
    batch = batch_of(make, shape, voxel_size, seed=4)
    if batch is None:
        pytest.skip("every object touches another by its bare skeleton")
    labels = batch.labels[0].numpy()
    offset = TARGET_GENERATORS.build({"type": vector})(batch)["offset"][0].numpy()
    scale = np.maximum(np.abs(offset).reshape(labels.ndim, -1).max(1), 1).astype(np.float32)
    maps = {
        "vector": offset / scale.reshape(-1, *(1,) * labels.ndim),
        "semantic": batch.foreground[0].numpy(),
        "skeleton": TARGET_GENERATORS.build({"type": skeleton})(batch)["skeleton"][0].numpy(),
    }
    for decoder in LAWFUL:
        decoded = decode(maps, scale, voxel_size, decoder)
        pairs = np.unique(np.stack([labels.ravel(), decoded.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(labels)) == len(np.unique(decoded)), decoder


@pytest.mark.parametrize("make, shape, voxel_size", CASES)
def test_cores_are_the_deeper_half_in_one_piece_and_do_not_touch(make, shape, voxel_size):
    batch = batch_of(make, shape, voxel_size, seed=5)
    if batch is None:
        pytest.skip("every object touches another by its bare skeleton")
    labels = batch.labels[0].numpy()
    core = CoreMaskTarget()(batch)["skeleton"][0, 0].numpy() == 1
    depth = RelativeDepthTarget()(batch)["skeleton"][0, 0].numpy()
    assert np.array_equal(depth >= 0.5, core) and (depth[labels == 0] == 0).all()
    full = np.ones((3,) * labels.ndim)
    assert ndimage.label(core, full)[1] == len(np.unique(labels[labels > 0]))


@pytest.mark.parametrize("make, shape, voxel_size", CASES)
def test_vectors_to_the_core_lead_to_its_nearest_voxel(make, shape, voxel_size):
    batch = batch_of(make, shape, voxel_size, seed=6)
    if batch is None:
        pytest.skip("every object touches another by its bare skeleton")
    spacing = np.array(relative_spacing(voxel_size))
    labels = batch.labels[0].numpy()
    core = CoreMaskTarget()(batch)["skeleton"][0, 0].numpy() == 1
    targets = CoreOffsetTarget()(batch)
    offset = targets["offset"][0].numpy()
    assert (offset[:, labels == 0] == 0).all() and torch.equal(targets["foreground"], batch.foreground)
    for number in np.unique(labels[labels > 0]):
        own = np.argwhere(labels == number)
        nearest = cKDTree(np.argwhere(core & (labels == number)) * spacing).query(own * spacing)[0]
        way = offset[(slice(None), *own.T)].T
        np.testing.assert_allclose(np.linalg.norm(way * spacing, axis=1), nearest, rtol=1e-5, atol=1e-5)
        there = (own + way).round().astype(int)
        assert core[tuple(there.T)].all() and (labels[tuple(there.T)] == number).all()


def test_an_object_without_a_core_in_sight_keeps_the_way_to_its_skeleton():
    labels = torch.ones(1, 4, 20, dtype=torch.int64)
    labels[:, 0] = 0
    offset = torch.zeros(1, 2, 4, 20)
    offset[:, 0] = 40 - torch.arange(4.0).view(1, 4, 1)
    zeros = torch.zeros(1, 4, 20)
    batch = Batch(zeros[None], labels, offset, zeros, labels >= 0, (1.0, 1.0), ("",))
    assert not CoreMaskTarget()(batch)["skeleton"].any()
    way = CoreOffsetTarget()(batch)["offset"]
    assert torch.equal(way, offset) and way is not offset


# Auxiliary heads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 11), (5, 6, 7)])
def test_the_boundary_lies_on_both_sides_of_every_wall(shape):
    labels = np.random.default_rng(0).integers(0, 3, (2, *shape))
    found = BoundaryTarget()(plain_batch(labels))["boundary"]
    for image, each in enumerate(labels):
        for where in map(tuple, np.argwhere(each >= 0)):
            beside = [
                each[other]
                for axis in range(len(shape))
                for other in (
                    (*where[:axis], where[axis] - 1, *where[axis + 1 :]),
                    (*where[:axis], where[axis] + 1, *where[axis + 1 :]),
                )
                if 0 <= other[axis] < shape[axis]
            ]
            assert found[(image, 0, *where)] == any(n != each[where] for n in beside)


@pytest.mark.parametrize("shape", [(9, 11), (5, 6, 7)])
def test_affinities_compare_with_the_voxel_before(shape):
    labels = np.random.default_rng(1).integers(0, 3, (2, *shape))
    distances = (1, 3)
    found = AffinityTarget(distances)(plain_batch(labels))["affinity"]
    assert found.shape == (2, 2 * len(shape), *shape)
    channels = [(distance, axis) for distance in distances for axis in range(len(shape))]
    for channel, (distance, axis) in enumerate(channels):
        for image, each in enumerate(labels):
            for where in map(tuple, np.argwhere(each >= 0)):
                other = (*where[:axis], where[axis] - distance, *where[axis + 1 :])
                before = each[other] if other[axis] >= 0 else each[where]
                assert found[(image, channel, *where)] == (each[where] > 0 and before == each[where])


def test_an_affinity_longer_than_the_crop_is_that_of_the_voxel_itself():
    labels = np.array([[[0, 1], [2, 2]]])
    found = AffinityTarget((5,))(plain_batch(labels))["affinity"]
    assert found[0].tolist() == [[[0, 1], [1, 1]]] * 2


def plain_batch(labels):
    labels = torch.from_numpy(labels)
    nothing = torch.zeros(labels.shape)
    dims = labels.ndim - 1
    offset = torch.zeros(len(labels), dims, *labels.shape[1:])
    return Batch(
        nothing.unsqueeze(1), labels, offset, nothing, labels >= 0, (1.0,) * dims, ("",) * len(labels)
    )
