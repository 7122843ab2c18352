"""Folders of files larger than memory: HDF5 and Zarr in training folders, and what is read of them."""

from __future__ import annotations

import builtins
import pickle
import re
import tracemalloc

import numpy as np
import pytest

from skoots.data import label_index, percentiles, survey
from skoots.data.dataset import CropDataset
from skoots.data.pairs import find_images, find_pairs
from skoots.data.sampling import Sampling
from skoots.data.sources import Folder, Reading
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.skeletons import skeletonize
from skoots.synthetic import make_volume
from skoots.volumes import write_volume
from skoots.volumes.zarr import ZarrVolume


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data():
    image, labels = make_volume((16, 40, 40), 1, radius=(2, 3))
    return (image * 200).astype(np.uint8), labels.astype(np.uint16)


def hdf5(path, **sets):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in sets.items():
            file.create_dataset(name.replace("__", "/"), data=array, chunks=(8, 16, 16), compression="gzip")


class TestHDF5:
    @pytest.mark.parametrize(
        "image_set, label_set",
        [("image", "labels"), ("raw", "label"), ("volumes__raw", "volumes__labels__neuron_ids")],
    )
    def test_one_file_with_both(self, tmp_path, data, image_set, label_set):
        image, labels = data
        hdf5(tmp_path / "a.h5", **{image_set: image, label_set: labels, "weights": image})
        (pair,) = find_pairs(tmp_path)
        assert str(pair.image) == f"{tmp_path}/a.h5:/{image_set.replace('__', '/')}"
        assert pair.skeletons == tmp_path / "a.skeletons.trch"
        for store in ("memory", "disk"):
            (volume,) = Folder(str(tmp_path), store=store).open(Reading())
            assert np.array_equal(volume.image.read_all(), image)
            assert np.array_equal(volume.labels.read_all(), labels)
            assert np.array_equal(volume.skeletons.points, skeletonize(labels).points)
        assert pair.skeletons.is_file()

    def test_two_files_and_beside_other_formats(self, tmp_path, data):
        image, labels = data
        hdf5(tmp_path / "a.hdf5", anything=image)
        hdf5(tmp_path / "a.labels.h5", whatever=labels)
        write_volume(tmp_path / "b.tif", image)
        hdf5(tmp_path / "b.label.h5", other=image, label=labels)
        volumes = Folder(str(tmp_path), store="disk").open(Reading())
        assert [v.name for v in volumes] == ["a", "b"]
        for volume in volumes:
            assert np.array_equal(volume.image.read_all(), image)
            assert np.array_equal(volume.labels.read_all(), labels)

    def test_background(self, tmp_path, data):
        hdf5(tmp_path / "a.h5", raw=data[0])
        assert find_images(tmp_path) == {"a": tmp_path / "a.h5:/raw"}
        hdf5(tmp_path / "b.h5", raw=data[0], labels=data[1])
        with pytest.raises(VolumeError, match=r"b\.h5:/labels are labels"):
            find_images(tmp_path)

    def test_what_is_wrong(self, tmp_path, data, monkeypatch):
        image, labels = data
        hdf5(tmp_path / "a.h5", raw=image)
        with pytest.raises(
            VolumeError, match=r"no labels; training needs for instance a.labels.tif beside a.h5"
        ):
            find_pairs(tmp_path)
        hdf5(tmp_path / "a.h5", one=image, two=image, labels=labels)
        with pytest.raises(VolumeError, match=r"a.h5 has 3 data sets \(/labels, /one, /two\); name one"):
            Folder(str(tmp_path)).open(Reading())
        (tmp_path / "a.h5").write_bytes(b"no such thing")
        with pytest.raises(VolumeError, match=r"a\.h5 is truncated or no HDF5 file"):
            find_pairs(tmp_path)
        real = builtins.__import__
        monkeypatch.setattr(
            builtins,
            "__import__",
            lambda n, *a, **k: (_ for _ in ()).throw(ImportError()) if n == "h5py" else real(n, *a, **k),
        )
        with pytest.raises(VolumeError, match=re.escape("needs h5py: pip install 'skoots[hdf5]'")):
            find_pairs(tmp_path)


SHAPE, CROP = (48, 192, 192), (8, 32, 32)


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Zarrs of 9 MB in a folder that is worked through in blocks of some kilobytes."""
    for module in (label_index, survey, percentiles):
        monkeypatch.setattr(module, "BLOCK", (16, 32, 32))
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.uint32)
    for number, start in enumerate(rng.integers(1, np.subtract(SHAPE, (10, 20, 22)), (60, 3)), start=1):
        labels[tuple(slice(a, a + n) for a, n in zip(start, (4, 4, 20)))] = number
    image = rng.integers(0, 255, SHAPE, np.uint8)
    (tmp_path / "data").mkdir()
    write_volume(tmp_path / "data" / "a.zarr", image, chunks=(16, 32, 32))
    write_volume(tmp_path / "data" / "a.labels.zarr", labels, chunks=(16, 32, 32))
    return tmp_path / "data", image, labels


class TestLargerThanMemory:
    def test_memory_is_bounded_from_opening_to_training(self, large):
        folder, image, labels = large
        warm = CropDataset([(v, 2) for v in Folder(str(folder), store="disk").open(Reading())], CROP)
        warm[1, 0]  # compiled loops and libraries are loaded
        (folder / "a.skeletons.trch").unlink()
        tracemalloc.start()
        try:
            source = Folder(str(folder), store="disk", cache_mb=1)
            (volume,) = source.open(Reading(normalize="percentile"))
            dataset = CropDataset([(volume, 100)], CROP, sampling=Sampling(0.3, boundaries=0.3))
            for i in range(40):
                dataset[1, i]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(volume.skeletons) > 30
        assert source.chunks.size <= 2**20 and source.chunks.misses > 100
        assert peak < 2.5 * 2**20 < (image.nbytes + labels.nbytes) / 3

    def test_crops_are_those_of_the_volume_in_memory(self, large):
        folder, _, _ = large
        stores = [Folder(str(folder), store=store, cache_mb=1) for store in ("memory", "disk")]
        one, two = (CropDataset([(s.open(Reading())[0], 20)], CROP) for s in stores)
        for i in range(20):
            a, b = one[1, i], two[1, i]
            assert a.origin == b.origin
            for name in ("image", "labels", "offset", "inscribed", "valid"):
                assert np.array_equal(getattr(a, name), getattr(b, name))

    def test_a_copy_in_a_worker_shares_one_memory_of_its_own(self, large):
        folder, image, _ = large
        (volume,) = Folder(str(folder), store="disk", cache_mb=3).open(Reading())
        copy = pickle.loads(pickle.dumps(volume))
        assert copy.image.cache is copy.labels.cache is not volume.image.cache
        assert copy.image.cache.limit == 3 * 2**20
        assert np.array_equal(copy.image.read_all(), image)

    def test_a_box_reads_no_more_than_itself(self, large, monkeypatch):
        folder, image, labels = large
        _read, sizes = ZarrVolume._read, []
        monkeypatch.setattr(
            ZarrVolume, "_read", lambda v, index: sizes.append(_read(v, index).size) or _read(v, index)
        )
        for store in ("memory", "disk"):
            sizes.clear()
            (volume,) = Folder(str(folder), store=store, box=[[3, 0, 7], [19, 60, 90]]).open(Reading())
            assert np.array_equal(volume.image.read_all(), image[3:19, :60, 7:90])
            assert max(sizes) == (32**3 if store == "disk" else 16 * 60 * 83)
            if store == "disk":
                window = pickle.loads(pickle.dumps(volume)).window(Box((2, 3, 4), (9, 40, 60)))
                assert np.array_equal(window.labels > 0, labels[5:12, 3:40, 11:67] > 0)
        with pytest.raises(VolumeError, match=r"box \(0, 0, 0\) to \(99, 9, 9\) reaches outside"):
            Folder(str(folder), box=[[0, 0, 0], [99, 9, 9]]).open(Reading())
