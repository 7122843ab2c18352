"""Every decoder on maps whose labels are known, and its settings."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from float_maps import decode
from scipy import ndimage

from skoots.errors import PluginError
from skoots.geometry import Box, tile_volume
from skoots.instances import DECODERS, Decoder, Maps, SkeletonDecoder, label_components
from skoots.instances.classical import distance_watershed
from skoots.instances.decoders.landing import LandingDecoder
from skoots.instances.decoders.persistence import PersistenceDecoder
from skoots.instances.decoders.watershed import WatershedDecoder
from skoots.ranges import Share

BUILT_IN = ("LandingDecoder", "PersistenceDecoder", "SkeletonDecoder", "WatershedDecoder")


def two_objects(depth=None):
    """Two bars side by side, touching along a face; vectors lead to their middle rows. In 3D, plates."""
    vector = np.zeros((2, 6, 10), np.float32)
    vector[0] = np.array([1, 0, -1, 1, 0, -1])[:, None] / 2
    skeleton = np.zeros((6, 10), np.float32)
    skeleton[[1, 4], 1:9] = 0.8
    maps = {"vector": vector, "semantic": np.full((1, 6, 10), 0.9, np.float32), "skeleton": skeleton[None]}
    if depth is None:
        return maps
    deep = {name: np.repeat(values[:, None], depth, axis=1) for name, values in maps.items()}
    return deep | {"vector": np.concatenate([np.zeros((1, depth, 6, 10), np.float32), deep["vector"]])}


# The published one ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [None, 1, 4])
@pytest.mark.parametrize(
    "decoder",
    [
        SkeletonDecoder(),
        LandingDecoder(smoothing=0.0),
        LandingDecoder(votes=1.0, smoothing=0.5),
        PersistenceDecoder(smoothing=0.0),
        PersistenceDecoder(votes=0.3, smoothing=0.4),
    ],
)
def test_touching_objects_come_apart(decoder, depth):
    dims = 2 if depth is None else 3
    labels = decode(two_objects(depth), (2,) * dims, decoder=decoder)
    assert labels.dtype == np.int32
    assert (labels[..., :3, :] == 1).all() and (labels[..., 3:, :] == 2).all()


def test_thresholds():
    maps = two_objects()
    maps["semantic"][:, :3] = 0.6

    def labels(**settings):
        return decode(maps, (2, 2), decoder=SkeletonDecoder(**settings))

    assert not labels(semantic_threshold=0.7)[:3].any()
    assert not labels(skeleton_threshold=0.8).any()
    assert labels(skeleton_threshold=0.79).max() == 2


def test_noise_skeletons_and_small_instances_are_dropped():
    maps = two_objects()
    maps["skeleton"][0, 3, 9] = 0  # a gap at the corner, then a speck of its own
    maps["skeleton"][0, 4, 8:] = [0, 0.9]
    assert decode(maps, (2, 2)).max() == 3
    assert decode(maps, (2, 2), decoder=SkeletonDecoder(min_skeleton=2)).max() == 2
    labels = decode(maps, (2, 2), decoder=SkeletonDecoder(min_size=4))
    assert np.unique(labels).tolist() == [0, 1, 2] and (labels == 0).sum() == 3


def test_skeletons_outside_the_foreground_do_not_count():
    maps = two_objects()
    maps["semantic"][:, :3] = 0
    labels = decode(maps, (2, 2))
    assert not labels[:3].any() and (labels[3:] == 1).all()


# Votes ------------------------------------------------------------------------------------------------------


def test_votes_need_no_skeleton_map():
    maps = two_objects()
    expected = decode(maps, (2, 2), decoder=LandingDecoder(smoothing=0.0))
    del maps["skeleton"]
    assert np.array_equal(decode(maps, (2, 2), decoder=LandingDecoder(smoothing=0.0)), expected)
    assert decode(maps, (2, 2), decoder=LandingDecoder(smoothing=0.0, votes=3.0)).max() == 0  # of 3 each
    assert decode(maps, (2, 2), decoder=LandingDecoder(smoothing=0.0, min_seed=11)).max() == 0  # of 10 voxels


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (2.5, 1.0, 1.0), (1.0, 1.0)])
def test_votes_are_smoothed_in_physical_units_and_cut_at_the_foreground(voxel_size):
    dims, rng = len(voxel_size), np.random.default_rng(0)
    shape = (7, 9, 8)[-dims:]
    maps = {
        "vector": np.zeros((dims, *shape), np.float32),
        "semantic": (rng.random((1, *shape)) < 0.7).astype(np.float32),
    }
    decoder = LandingDecoder(smoothing=1.5)
    read = Maps.of(maps, decoder.reads, voxel_size, (1.0,) * dims)
    found = decoder.smoothed_votes(read)
    expected = np.zeros(shape)
    for where in map(tuple, np.argwhere(maps["semantic"][0])):  # every voxel stays where it is
        one = np.zeros(shape)
        one[where] = 1
        widths = [1.5 / edge for edge in voxel_size]
        expected += ndimage.gaussian_filter(one, widths, mode="constant", truncate=3)
    np.testing.assert_allclose(found, np.where(maps["semantic"][0], expected, 0), atol=1e-5)


def test_evidence_is_the_product_of_all_maps():
    """A neck in any one of the maps parts two hills, and a gap in one of them is bridged by the others."""
    size = (1, 1, 41)
    place = np.arange(41, dtype=np.float32)
    hill = np.exp(-(((place - 10) / 6) ** 2)) + np.exp(-(((place - 30) / 6) ** 2))
    steady = np.full(41, 0.9, np.float32)

    def count(semantic=steady, skeleton=steady, **settings):
        maps = {
            "vector": np.zeros((2, *size[1:]), np.float32),
            "semantic": semantic.reshape(size),
            "skeleton": skeleton.reshape(size),
        }
        decoder = PersistenceDecoder(smoothing=0.0, votes=0.01, **settings)
        return int(decode(maps, (1, 1), decoder=decoder).max())

    assert count() == 1
    assert count(semantic=0.55 + 0.4 * hill, neck=0.7) == 2
    assert count(semantic=0.55 + 0.4 * hill, neck=0.4) == 1
    assert count(skeleton=0.1 + 0.8 * hill, neck=0.5, skeleton_weight=1.0) == 2
    assert count(skeleton=0.1 + 0.8 * hill, neck=0.5, skeleton_weight=0.0) == 1
    broken = np.where(np.abs(place - 20) < 2, 0, steady)
    assert count(skeleton=broken, neck=0.5, skeleton_weight=0.4) == 1
    maps = {"semantic": steady.reshape(size), "skeleton": broken.reshape(size)}
    maps["vector"] = np.zeros((2, 1, 41))
    assert decode(maps, (1, 1), decoder=SkeletonDecoder(reach=0)).max() == 2


# Watershed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 44), (12, 20, 24)])
def test_watershed_is_that_of_the_foreground(shape):
    rng = np.random.default_rng(3)
    semantic = ndimage.gaussian_filter(rng.random(shape), 2)[None]
    semantic = (semantic - semantic.min()) / np.ptp(semantic)
    voxel_size = (2.0, 1.0, 1.0)[-len(shape) :]
    decoder = WatershedDecoder(semantic_threshold=0.45, neck=0.8, smoothing=0.5)
    level = np.rint(semantic[0].astype(np.float32) * 255) / 255 > 0.45
    expected = distance_watershed(level, voxel_size, 0.8, 0.5)
    labels = decode({"semantic": semantic}, None, voxel_size, decoder)
    assert np.array_equal(labels, expected) and labels.max() > 3
    large = decode({"semantic": semantic}, None, voxel_size, replace(decoder, min_size=40))
    sizes = np.bincount(expected.ravel())
    assert 0 < large.max() < labels.max()
    kept = [0, *(label for label in range(1, len(sizes)) if sizes[label] >= 40)]
    assert np.array_equal(large, np.searchsorted(kept, np.where(np.isin(expected, kept), expected, 0)))


@pytest.mark.parametrize("dims", [2, 3])
def test_watershed_of_learnt_maps_parts_what_the_foreground_cannot(dims):
    shape = (9, 16, 24)[-dims:]
    labels = np.ones(shape, int)
    labels[..., 10:] = 2  # a flat face
    border = (np.abs(np.arange(24) - 9.5) < 1).astype(np.float32) + np.zeros(shape, np.float32)
    depth = np.minimum(np.abs(np.arange(24) - 9.5), 8) / 8 + np.zeros(shape)
    maps = {"semantic": np.ones((1, *shape)), "rim": border[None], "depth": depth[None]}
    assert decode(maps, None, decoder=WatershedDecoder()).max() == 1
    by_rim, by_depth = {"boundary_map": "rim"}, {"depth_map": "depth"}
    for settings in (by_rim, by_depth, {**by_rim, **by_depth}):
        decoder = WatershedDecoder(smoothing=0.5, **settings)
        assert set(decoder.reads) == {"semantic", *settings.values()}
        assert np.array_equal(decode(maps, None, decoder=decoder), labels), settings
        bridged = {**maps, "rim": 0.2 * border[None], "depth": 0.5 + depth[None] / 2}
        assert decode(bridged, None, decoder=replace(decoder, neck=0.3)).max() == 1, settings
        assert decoder.lacks({"semantic": 1}, dims, None) == [
            settings[name] for name in ("depth_map", "boundary_map") if name in settings
        ]


# All of them ------------------------------------------------------------------------------------------------


def random_maps(dims, seed, shape=None):
    """Smooth random maps with objects of all shapes."""
    rng = np.random.default_rng(seed)
    shape = shape or {2: (23, 31), 3: (11, 16, 14)}[dims]
    smooth = ndimage.gaussian_filter(rng.normal(size=(dims + 2, *shape)), (0, *(1.2,) * dims))
    smooth /= smooth.std()
    vector = np.clip(smooth[:dims] / 2, -1, 1)
    probability = 1 / (1 + np.exp(-2 * smooth[dims:]))
    return {"vector": vector, "semantic": probability[:1], "skeleton": probability[1:]}


def some_decoders():
    return [
        SkeletonDecoder(min_size=3),
        LandingDecoder(smoothing=0.7, votes=0.8),
        PersistenceDecoder(smoothing=0.7, votes=0.3, min_size=2),
        WatershedDecoder(neck=0.8),
    ]


@pytest.mark.parametrize("decoder", some_decoders(), ids=lambda decoder: type(decoder).__name__)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_of_any_place_and_size_are_parts_of_the_whole(decoder, dims, seed):
    maps = random_maps(dims, seed)
    voxel_size, scale = (2.0, 1.0, 1.0)[-dims:], (1.3, 2.7, 3.1)[-dims:]
    read = Maps.of(maps, decoder.reads, voxel_size, scale)
    seeds = decoder.seeds(read)
    whole = decoder.assign(read, seeds)
    labels = decoder.decode(read)
    assert labels.max() > 2 and labels.dtype == np.int32
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))
    rng = np.random.default_rng(seed)
    boxes = [tile.write for tile in tile_volume(labels.shape, (5, 7, 6)[-dims:])]
    for _ in range(20):
        start = rng.integers(0, labels.shape)
        boxes.append(Box(start, rng.integers(start + 1, np.array(labels.shape) + 1)))
    for box in boxes:
        part = decoder.assign(read, seeds, box)
        assert np.array_equal(part, whole[box.slices]), box
    box = boxes[-1]
    assert np.array_equal(decoder.decode(read, box), labels[box.slices])


@pytest.mark.parametrize("decoder", some_decoders()[:3], ids=lambda decoder: type(decoder).__name__)
def test_a_box_reads_nothing_beyond_its_longest_walk(decoder):
    maps = random_maps(2, 4, shape=(90, 12))
    read = Maps.of(maps, decoder.reads, (1.0, 1.0), (1.5, 1.5))
    seeds = decoder.seeds(read)
    box = Box((40, 3), (47, 9))
    expected = decoder.assign(read, seeds, box)
    near = box.grow(decoder.longest_walk(read)).intersect(Box.of_shape((90, 12)))
    assert near.shape[0] < 70 and expected.any()
    rng = np.random.default_rng(0)
    for array in (*read.arrays.values(), seeds[None]):
        beyond = np.ones(array.shape, bool)
        beyond[(slice(None), *near.slices)] = False
        array[beyond] = rng.integers(0, 100, int(beyond.sum()))
    assert np.array_equal(decoder.assign(read, seeds, box), expected)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, -np.inf])
def test_nothing_everything_and_no_numbers_at_all(name, dims, value):
    decoder = DECODERS.get(name)(min_size=2)
    for shape in [(4,) * dims, (1,) * dims, (0,) * dims, (0, *(3,) * (dims - 1))]:
        maps = {key: np.full((count, *shape), value) for key, count in (("vector", dims), ("semantic", 1))}
        labels = decode({**maps, "skeleton": maps["semantic"]}, (3.0,) * dims, decoder=decoder)
        assert labels.shape == shape and labels.dtype == np.int32
        assert labels.max(initial=0) == (value == 1 and labels.size >= 2)


@pytest.mark.parametrize("name", BUILT_IN)
def test_levels_decide_at_thresholds_that_are_levels(name):
    """A probability counts as the level that it is kept as, and only more than the threshold is above it."""
    kind = DECODERS.get(name)
    for level, more in itertools.product((0, 1, 51, 127, 128, 254, 255), (0, 1e-9)):
        decoder = kind(semantic_threshold=min(1.0, level / 255 + more))
        probability = np.arange(256, dtype=np.float32).reshape(1, 1, 256) / 255
        read = Maps.of(
            {"vector": np.zeros((2, 1, 256)), "semantic": probability, "skeleton": probability},
            decoder.reads,
            (1.0, 1.0),
            (1.0, 1.0),
        )
        assert decoder.foreground(read).tolist() == [[n > level for n in range(256)]]
        assert not np.any((decoder.decode(read) > 0) & ~decoder.foreground(read))


@pytest.mark.parametrize(
    ("name", "setting", "sentence"),
    [
        ("SkeletonDecoder", {"skeleton_threshold": 1.5}, "skeleton_threshold is 1.5: .*less than"),
        ("SkeletonDecoder", {"semantic_threshold": -0.1}, "semantic_threshold is -0.1: .*greater than"),
        ("SkeletonDecoder", {"semantic_threshold": float("nan")}, "semantic_threshold is nan"),
        ("SkeletonDecoder", {"steps": -1}, "steps is -1: .*greater than or equal to 0"),
        ("SkeletonDecoder", {"reach": -1.0}, "reach is -1.0: .*greater than or equal to 0"),
        ("SkeletonDecoder", {"reach": float("inf")}, "reach is inf: .*less than"),
        ("SkeletonDecoder", {"min_skeleton": 1.5}, "min_skeleton is 1.5: .*integer"),
        ("LandingDecoder", {"votes": 0.0}, "votes is 0.0: .*greater than 0"),
        ("LandingDecoder", {"smoothing": "1"}, "smoothing is '1': .*number"),
        ("PersistenceDecoder", {"neck": 1.01}, "neck is 1.01"),
        ("PersistenceDecoder", {"steps": True}, "steps is True"),  # a field of a class in another file
        ("WatershedDecoder", {"neck": 0.0}, "neck is 0.0: .*greater than 0"),
    ],
)  # fmt: skip
def test_settings_without_sense_are_refused(name, setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        DECODERS.get(name)(**setting)


def test_what_a_network_lacks_is_named():
    decoder = PersistenceDecoder()
    assert decoder.lacks({"vector": 3, "semantic": 1, "skeleton": 1, "more": 9}, 3, (5, 5, 5)) == []
    assert decoder.lacks({"semantic": 1}, 3, (5, 5, 5)) == ["vector", "skeleton"]
    assert decoder.lacks({"vector": 3, "semantic": 1, "skeleton": 2}, 2, (5, 5)) == [
        "vector of 2 channels",
        "skeleton of 1 channel",
    ]
    assert decoder.lacks({"vector": 2, "semantic": 1, "skeleton": 1}, 2, None) == ["the scale of vector"]
    assert WatershedDecoder().lacks({"semantic": 1}, 3, None) == []
    with pytest.raises(ValueError, match="scale"):
        decode(two_objects(), None, decoder=decoder)


def test_built_in_decoders_are_registered():
    assert set(BUILT_IN) <= set(DECODERS.names())
    with pytest.raises(PluginError, match="Did you mean SkeletonDecoder"):
        DECODERS.get("SkeletonDekoder")


def test_a_decoder_of_few_lines():
    """Seeds are all that a decoder must find; its settings are checked like those of the others."""

    @dataclass(frozen=True)
    class Components(Decoder):
        least: Share = 0.25

        def seeds(self, maps):
            return label_components(maps.above("semantic", self.least))

    semantic = np.array([[[0.3, 0.1, 0.9, 0.9]]])
    assert decode({"semantic": semantic}, None, decoder=Components()).tolist() == [[1, 0, 2, 2]]
    assert decode({"semantic": semantic}, None, decoder=Components(min_size=2)).tolist() == [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match="least is 2"):
        Components(least=2)
