"""Volumes through a memory of chunks: the same voxels, decoded once, and never more bytes than said."""

from __future__ import annotations

import os
import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import open_volume, write_volume
from skoots.volumes.array import ArrayVolume
from skoots.volumes.cache import ChunkCache, chunk_shape
from skoots.volumes.segments import SEGMENTS, SegmentCache


def random_box(rng, shape):
    corners = np.sort(rng.integers(0, np.add(shape, 1), (2, len(shape))), axis=0)
    return Box(tuple(corners[0]), tuple(corners[1]))


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=2, max_size=3),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 5000),
    st.integers(0, 10**6),
)
@settings(max_examples=80, deadline=None)
def test_boxes_are_those_of_the_volume(axes, channels, limit, seed):
    shape, stored = zip(*axes)
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 99, ((channels,) if channels else ()) + shape, np.uint8)
    volume = ArrayVolume("a", array, (1.0,) * len(shape), channels_first=bool(channels))
    cached = ChunkCache(volume, SegmentCache(limit), stored)
    cached.chunk = stored  # chunks as small as these are taken together
    assert (cached.shape, cached.channels, cached.axes) == (volume.shape, volume.channels, volume.axes)
    assert (cached.dtype, cached.voxel_size, cached.path) == (volume.dtype, volume.voxel_size, volume.path)
    for _ in range(6):
        box = random_box(rng, shape)
        assert np.array_equal(cached.read(box), volume.read(box))
        assert cached.cache.size <= limit
    assert np.array_equal(cached.read_all(), array)


@pytest.mark.parametrize(
    "shape, stored, chunk",
    [
        ((500, 500, 500), (64, 64, 64), (64, 64, 64)),
        ((500, 500, 500), (1, 500, 500), (1, 500, 500)),
        ((500, 500, 500), (8, 8, 8), (32, 32, 32)),
        ((20, 500, 500), (4, 16, 16), (32, 32, 32)),
        ((5, 6, 7), (2, 2, 2), (8, 8, 8)),
        ((500, 500, 500), None, (64, 64, 64)),
        ((40, 900), None, (40, 1024)),
        ((9000, 9000), (64, 64), (256, 128)),
    ],
)
def test_chunks_are_whole_ones_of_the_file_and_not_tiny(shape, stored, chunk):
    assert chunk_shape(shape, stored) == chunk


def save(path, array, chunks):
    """A chunked, compressed volume."""
    if path.endswith(".tif"):
        tifffile.imwrite(path, array, compression="zlib", tile=(16, 32), photometric="minisblack")
    else:
        write_volume(path, array, chunks=chunks)
    return path


@pytest.fixture(params=["a.zarr", "a.h5", "a.tif"])
def stored(request, tmp_path):
    if request.param == "a.h5":
        pytest.importorskip("h5py")
    array = np.random.default_rng(0).integers(0, 255, (24, 96, 96), np.uint8)
    return save(str(tmp_path / request.param), array, (8, 32, 32)), array


def test_every_kind_of_file_that_is_decoded_is_cached(stored):
    path, array = stored
    cache = SegmentCache()
    volume = open_volume(path).cached_in(cache)
    box = Box((3, 30, 30), (9, 70, 64))
    assert np.array_equal(volume.read(box), array[box.slices])
    decoded = cache.misses
    assert decoded > 0 and cache.hits == 0 and cache.size > 0
    assert np.array_equal(volume.read(box), array[box.slices])
    assert cache.misses == decoded == cache.hits


def test_chunks_are_those_of_the_file(tmp_path):
    for name, stored in (("a.zarr", (16, 48, 64)), ("b.zarr", (16, 48, 64)), ("a.h5", (16, 48, 64))):
        if name == "a.h5":
            pytest.importorskip("h5py")
        zarr_format = 3 if name == "b.zarr" else 2
        array = np.zeros((2, 40, 96, 96), np.uint8)
        write_volume(tmp_path / name, array, channels=2, chunks=stored, zarr_format=zarr_format)
        volume = open_volume(tmp_path / name).cached_in(SegmentCache())
        assert isinstance(volume, ChunkCache) and volume.chunk == stored


def test_the_chunks_inside_a_shard(tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3")
    array = np.random.default_rng(0).integers(0, 9, (64, 64, 64)).astype(np.uint8)
    zarr.create_array(str(tmp_path / "a.zarr"), data=array, chunks=(32, 32, 32), shards=(64, 64, 64))
    volume = open_volume(tmp_path / "a.zarr").cached_in(SegmentCache())
    assert volume.chunk == (32, 32, 32) and np.array_equal(volume.read_all(), array)


def test_what_is_mapped_or_in_memory_needs_no_cache(tmp_path):
    array = np.zeros((4, 5, 6), np.uint8)
    write_volume(tmp_path / "a.npy", array)
    for volume in (open_volume(tmp_path / "a.npy"), ArrayVolume("a", array)):
        assert volume.cached_in(SegmentCache()) is volume


def test_memory_stays_within_the_limit(tmp_path):
    """A volume of 27 MB read all over through 2 MB."""
    array = np.random.default_rng(0).integers(0, 255, (96, 512, 512), np.uint8)
    write_volume(tmp_path / "a.zarr", array, chunks=(32, 64, 64))
    cache = SegmentCache(2 * 2**20)
    volume = open_volume(tmp_path / "a.zarr").cached_in(cache)
    volume.read(Box((0, 0, 0), (1, 1, 1)))
    rng = np.random.default_rng(1)
    tracemalloc.start()
    try:
        for _ in range(150):
            start = rng.integers(0, np.subtract(volume.shape, (24, 64, 64)) + 1)
            box = Box.at(tuple(start), (24, 64, 64))
            assert np.array_equal(volume.read(box), array[box.slices])
            assert cache.size <= cache.limit
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert cache.misses > 200  # far more was read than is kept
    assert peak < 2 * 2**20 + 2**20  # the crop, and a chunk on its way


def test_the_least_recently_used_goes_first():
    reads = []

    class Spy(ArrayVolume):
        def read(self, box):
            reads.append(box.start[1] // 32)
            return super().read(box)

    cached = ChunkCache(Spy("a", np.zeros((32, 96, 32), np.uint8)), SegmentCache(2 * 32**3), (32, 32, 32))
    for row in (0, 1, 0, 2, 0, 1, 2):
        cached.read(Box((0, row * 32, 0), (32, row * 32 + 32, 32)))
    assert reads == [0, 1, 2, 1, 2]
    assert (cached.cache.hits, cached.cache.misses) == (2, 5)


def test_volumes_share_one_memory_and_not_their_chunks():
    cache = SegmentCache()
    one, two = (ChunkCache(ArrayVolume("a", np.full((5, 5), value)), cache) for value in (1, 2))
    box = Box.of_shape((5, 5))
    assert one.read(box).max() == 1 and two.read(box).min() == 2 and one.read(box).max() == 1
    one.read(box)[:] = 7  # what is read belongs to the reader
    assert one.read(box).max() == 1


def test_threads_may_read_at_once(stored):
    path, array = stored
    volume = open_volume(path).cached_in(SegmentCache(60_000))

    def check(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            box = random_box(rng, array.shape)
            assert np.array_equal(volume.read(box), array[box.slices])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, range(8)))


def test_a_pickled_copy_begins_empty_and_shares_as_before(stored):
    path, array = stored
    cache = SegmentCache(12345)
    pair = [open_volume(path).cached_in(cache) for _ in range(2)]
    pair[0].read_all()
    a, b = pickle.loads(pickle.dumps(pair))
    copy = a.cache if isinstance(a, ChunkCache) else a._cache
    other = b.cache if isinstance(b, ChunkCache) else b._cache
    assert copy is other and copy is not cache and (copy.limit, copy.size) == (12345, 0)
    assert np.array_equal(a.read_all(), array) and np.array_equal(b.read_all(), array)
    assert pickle.loads(pickle.dumps(SEGMENTS)) is SEGMENTS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="systems that fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_a_thread_holds_the_lock(tmp_path):
    pytest.importorskip("h5py")
    array = np.arange(6 * 7 * 8, dtype=np.uint16).reshape(6, 7, 8)
    write_volume(tmp_path / "a.h5", array)
    volume = open_volume(tmp_path / "a.h5").cached_in(SegmentCache())
    volume.read_all()
    held, done = threading.Event(), threading.Event()

    def hold():
        with volume.cache._lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(volume.read_all(), array) and volume.cache.misses == 1 else 1)
    try:
        assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join()


def test_boxes_outside_are_refused_by_name():
    cached = ChunkCache(ArrayVolume("there.zarr", np.zeros((5, 5))), SegmentCache())
    with pytest.raises(VolumeError, match=r"there\.zarr: the box from .* reaches outside"):
        cached.read(Box((0, 0), (6, 5)))
