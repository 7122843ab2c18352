"""The skeleton mask against a slow reading of its definition, and the law of the round trip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from float_maps import decode
from scipy import ndimage
from scipy.spatial import cKDTree
from touching_objects import CASES, LAWFUL, apart, blobs, cells, prepared, speckle, touching_pairs

from skoots.geometry import relative_spacing
from skoots.instances import follow_vectors, label_components
from skoots.instances.decoders.landing import LandingDecoder
from skoots.instances.decoders.persistence import PersistenceDecoder
from skoots.instances.decoders.watershed import WatershedDecoder
from skoots.metrics import contingency, match
from skoots.skeletons import nearest_offsets, skeleton_mask, skeletonize, touching_skeletons
from skoots.skeletons.mask import _mask_on_device, _neighbourhood_max


def mask_of(labels, offset, inscribed, voxel_size, radius="auto"):
    tensors = [torch.from_numpy(a)[None] for a in (labels, offset, inscribed)]
    return skeleton_mask(*tensors, voxel_size, radius)[0].numpy()


def bare_of(labels, skeletons):
    bare = np.zeros(labels.shape, bool)
    bare[tuple(skeletons.points.astype(int).T)] = True
    return bare


def slow_mask(labels, skeletons, inscribed, voxel_size, radius):
    """The definition, voxel by voxel: near the own skeleton, no other mask around; bare points stay."""
    spacing = np.array(relative_spacing(voxel_size))
    near = np.zeros(labels.shape, bool)
    for object_id, points in skeletons.as_dict().items():
        where = np.argwhere(labels == object_id)
        distance = cKDTree(points * spacing).query(where * spacing)[0]
        own = inscribed[tuple(where[0])]
        reach = max(1.5, own / 2) if radius == "auto" else radius
        near[tuple(where[distance <= reach + 1e-6].T)] = True
    bare = bare_of(labels, skeletons)
    near |= bare
    kept = np.zeros(labels.shape, bool)
    for where in map(tuple, np.argwhere(near)):
        around = tuple(slice(max(0, w - 1), w + 2) for w in where)
        others = near[around] & (labels[around] != labels[where]) & (labels[around] > 0)
        kept[where] = bare[where] or not others.any()
    # What the gap cuts off from the skeleton would be a second object to the decoder.
    result = np.zeros(labels.shape, bool)
    for object_id in skeletons.ids:
        pieces, _ = ndimage.label(kept & (labels == object_id), np.ones((3,) * labels.ndim))
        seeded = np.unique(pieces[bare & (labels == object_id)])
        result |= np.isin(pieces, seeded[seeded > 0])
    return result


@pytest.mark.parametrize("radius", ["auto", 1.0, 2.5])
@pytest.mark.parametrize("make, shape, voxel_size", CASES)
def test_the_mask_is_what_its_definition_says(make, shape, voxel_size, radius):
    labels, skeletons, offset, inscribed = prepared(make, shape, voxel_size, seed=7)
    mask = mask_of(labels, offset, inscribed, voxel_size, radius)
    assert mask.dtype == bool
    assert np.array_equal(mask, slow_mask(labels, skeletons, inscribed, voxel_size, radius))


@pytest.mark.parametrize("make, shape, voxel_size", CASES)
def test_masks_keep_apart_and_in_one_piece(make, shape, voxel_size):
    labels, skeletons, offset, inscribed = prepared(make, shape, voxel_size, seed=8)
    mask, bare = mask_of(labels, offset, inscribed, voxel_size), bare_of(labels, skeletons)
    assert not (mask & (labels == 0)).any() and (mask | ~bare).all()
    close = touching_pairs(labels, bare)
    assert touching_pairs(labels, mask) == close
    assert touching_skeletons(torch.from_numpy(labels), torch.from_numpy(offset)) == len(close)
    for object_id in skeletons.ids:
        assert ndimage.label(mask & (labels == object_id), np.ones((3,) * labels.ndim))[1] == 1


def test_speckle_has_touching_skeletons():
    labels, _, offset, _ = prepared(speckle, (12, 12), (1, 1), seed=0)
    assert touching_skeletons(torch.from_numpy(labels), torch.from_numpy(offset)) > 10


def test_auto_radius_follows_the_object():
    labels = np.zeros((41, 90), np.int32)
    rows, columns = np.indices(labels.shape)
    labels[(rows - 20) ** 2 + (columns - 20) ** 2 <= 16**2] = 1
    labels[18:23, 45:88] = 2
    skeletons = skeletonize(labels)
    offset = nearest_offsets(labels, skeletons)
    inscribed = np.where(labels == 1, skeletons.inscribed[0], skeletons.inscribed[1]).astype(np.float32)
    mask = mask_of(labels, offset, inscribed, (1, 1))
    # The disc of inscribed radius 17 has a mask of radius 8, the bar of inscribed radius 3 one of radius 1.5.
    assert np.abs((mask & (labels == 1)).sum() / (np.pi * 8.25**2) - 1) < 0.15
    assert (mask & (labels == 2))[:, 60].sum() == 3


def test_batches_do_not_mix():
    first = prepared(cells, (20, 24), (1, 1), seed=1)
    second = prepared(blobs, (20, 24), (1, 1), seed=2)
    both = [
        torch.from_numpy(np.stack([a, b])) for a, b in zip((first[0], *first[2:]), (second[0], *second[2:]))
    ]
    together = skeleton_mask(*both, (1, 1)).numpy()
    assert np.array_equal(together[0], mask_of(first[0], *first[2:], (1, 1)))
    assert np.array_equal(together[1], mask_of(second[0], *second[2:], (1, 1)))


def test_in_a_crop_an_object_whose_skeleton_lies_outside_keeps_its_mask():
    labels = np.zeros((20, 40), np.int32)
    labels[5:16, 5:36] = 1
    skeletons = skeletonize(labels)
    offset, inscribed = nearest_offsets(labels, skeletons), np.full(labels.shape, 12, np.float32)
    whole = mask_of(labels, offset, inscribed, (1, 1))
    crop = slice(0, 8), slice(0, 40)  # the curve runs along row 10
    assert (
        np.array_equal(mask_of(labels[crop], offset[:, :8], inscribed[crop], (1, 1)), whole[crop])
        and whole[crop].any()
    )


def exact_maps(make, shape, voxel_size, seed, algorithm="thinning"):
    """Labels whose bare skeletons do not touch, their maps (by the radius of the mask) and scale; None if all
    objects touch by their skeletons."""
    labels = make(shape, 14, np.random.default_rng(seed), voxel_size)
    labels = apart(labels, nearest_offsets(labels, skeletonize(labels, voxel_size, algorithm), voxel_size))
    if not labels.any():
        return None
    skeletons = skeletonize(labels, voxel_size, algorithm)
    offset = nearest_offsets(labels, skeletons, voxel_size)
    radius = np.zeros(labels.max() + 1, np.float32)
    radius[skeletons.ids] = skeletons.inscribed
    assert touching_skeletons(torch.from_numpy(labels), torch.from_numpy(offset)) == 0
    scale = np.maximum(np.abs(offset).reshape(labels.ndim, -1).max(1), 1).astype(np.float32)
    vector = offset / scale.reshape(-1, *(1,) * labels.ndim)

    def maps_of(rule):
        mask = mask_of(labels, offset, radius[labels], voxel_size, rule)
        return {"vector": vector, "semantic": (labels > 0)[None], "skeleton": mask[None]}

    return labels, maps_of, scale


@pytest.mark.parametrize("algorithm", ["thinning", "kimimaro"])
@pytest.mark.parametrize("make, shape, voxel_size", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_law_of_the_round_trip(make, shape, voxel_size, seed, algorithm):
    """Decoding exact targets gives the labels back, wherever bare skeletons do not touch."""
    if algorithm == "kimimaro":
        pytest.importorskip("kimimaro")
    exact = exact_maps(make, shape, voxel_size, seed, algorithm)
    if exact is None:
        pytest.skip("every object touches another by its bare skeleton")
    labels, maps_of, scale = exact
    for rule in ("auto", 1.0, 4.0):
        maps = maps_of(rule)
        for decoder in LAWFUL:
            decoded = decode(maps, scale, voxel_size, decoder)
            assert match(contingency(labels, decoded), 0.9).f1 == 1.0, decoder
            # Stronger still: not one voxel is wrong.
            pairs = np.unique(np.stack([labels.ravel(), decoded.ravel()]), axis=1)
            assert pairs.shape[1] == len(np.unique(labels)) == len(np.unique(decoded)), decoder


def bars(*widths):
    """Bars one above the other, touching, and their exact maps."""
    labels = np.zeros((sum(widths) + 2, 30), np.int32)
    row = 1
    for label, width in enumerate(widths, 1):
        labels[row : row + width, 1:29] = label
        row += width
    skeletons = skeletonize(labels)
    offset = nearest_offsets(labels, skeletons)
    inscribed = np.concatenate([[0], skeletons.inscribed]).astype(np.float32)[labels]
    mask = mask_of(labels, offset, inscribed, (1, 1))
    return labels, {"vector": offset / 15, "semantic": (labels > 0)[None], "skeleton": mask[None]}


def test_what_smoothed_votes_do_to_the_law():
    """Smoothing costs the law: seeds of thin objects fall under the threshold, or those of neighbours flow
    together over the border."""
    for widths in ((2,), (3, 3)):
        labels, maps = bars(*widths)
        exact = decode(maps, (15, 15), decoder=LandingDecoder(smoothing=0, votes=0.5))
        assert np.array_equal(exact, labels)
        assert np.array_equal(decode(maps, (15, 15)), labels)
    thin, touching = bars(2)[1], bars(3, 3)[1]
    assert decode(thin, (15, 15), decoder=LandingDecoder(smoothing=1, votes=2)).max() == 0
    assert decode(touching, (15, 15), decoder=LandingDecoder(smoothing=1, votes=0.3)).max() == 1
    # The depth of the pass between them still tells the neighbours apart.
    persistent = PersistenceDecoder(smoothing=1, votes=0.3, neck=0.8, skeleton_weight=1)
    assert decode(touching, (15, 15), decoder=persistent).max() == 2


def test_the_watershed_of_a_foreground_keeps_the_law_only_without_contacts():
    labels = np.zeros((40, 40), np.int32)
    grid = np.indices(labels.shape)
    for label, (y, x, radius) in enumerate([(9, 9, 7), (28, 12, 8), (18, 30, 5)], 1):
        labels[(grid[0] - y) ** 2 + (grid[1] - x) ** 2 < radius**2] = label
    found = decode({"semantic": (labels > 0)[None]}, None, decoder=WatershedDecoder())
    assert match(contingency(labels, found), 0.99).f1 == 1.0
    _, maps = bars(6, 6)
    assert decode(maps, None, decoder=WatershedDecoder()).max() == 1  # the border has left no trace


def test_where_skeletons_touch_the_pairs_are_counted_and_merge():
    labels = np.zeros((5, 12), np.int32)
    labels[1, 1:11], labels[2, 1:11], labels[4, 1:11] = 1, 2, 3
    offset = nearest_offsets(labels, skeletonize(labels))
    assert touching_skeletons(torch.from_numpy(labels), torch.from_numpy(offset)) == 1
    mask = mask_of(labels, offset, (labels > 0).astype(np.float32), (1, 1))
    merged = follow_vectors(offset, labels > 0, label_components(mask), (1, 1))
    assert len(np.unique(merged[labels > 0])) == 2


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 1, 4, 1), (2, 6, 5), (1, 1, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_the_largest_neighbour_is_that_of_torchs_pooling(shape, dtype):
    values = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8).round(decimals=1)
    values = values > 0.6 if dtype == torch.bool else values
    pool = F.max_pool3d if len(shape) == 4 else F.max_pool2d
    before = values.clone()
    assert torch.equal(_neighbourhood_max(values), pool(values.float(), 3, 1, 1).to(dtype))
    assert torch.equal(values, before)


@pytest.mark.parametrize("radius", ["auto", 2.5])
@pytest.mark.parametrize("make, shape, voxel_size", CASES)
def test_tensors_on_a_device_give_the_same_mask(make, shape, voxel_size, radius, monkeypatch):
    labels, _, offset, inscribed = prepared(make, shape, voxel_size, seed=9)
    # Points of a resampled skeleton lie between voxels, and a crop cuts objects off from theirs.
    moved = offset + np.random.default_rng(0).uniform(-0.4, 0.4, offset.shape).astype(np.float32)
    cases = [
        (labels, offset, inscribed),
        (labels, moved, inscribed),
        (labels[..., :-4, 3:], moved[..., :-4, 3:], inscribed[..., :-4, 3:]),
    ]
    compiled = [mask_of(*map(np.ascontiguousarray, case), voxel_size, radius) for case in cases]
    monkeypatch.setattr("skoots.skeletons.mask.mask_on_cpu", _mask_on_device)
    for case, mask in zip(cases, compiled):
        assert np.array_equal(mask, mask_of(*case, voxel_size, radius)) and mask.any()
