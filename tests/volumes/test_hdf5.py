"""HDF5 data sets, named file.h5:/dataset."""

from __future__ import annotations

import os
import pickle
import sys

import numpy as np
import pytest

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import check_output, create_volume, open_volume, write_volume

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize("shape", [(5, 6, 7), (6, 7)])
def test_reads_by_box(tmp_path, encode, check_reads, dtype, shape):
    path, array = tmp_path / "a.h5", encode(shape, dtype)
    with h5py.File(path, "w") as file:
        file["volumes/raw"] = array.astype(array.dtype.newbyteorder(">"))
        file["table"] = np.arange(3)  # not an image
    check_reads(open_volume(f"{path}:/volumes/raw"), array)
    check_reads(open_volume(f"{path}:volumes/raw"), array)
    check_reads(open_volume(path), array)
    check_reads(pickle.loads(pickle.dumps(open_volume(path))), array)


@pytest.mark.parametrize("axes", ["czyx", "zyxc"])
def test_channels(tmp_path, encode, check_reads, axes):
    path = tmp_path / "a.hdf5"
    array = encode((2, 4, 5, 6) if axes == "czyx" else (4, 5, 6, 2))
    with h5py.File(path, "w") as file:
        file["raw"] = array
        file["named"] = array
        for dimension, axis in zip(file["named"].dims, axes):
            dimension.label = axis
    for name in ("raw", "named"):  # guessed by the shorter end, and by name
        check_reads(open_volume(f"{path}:/{name}"), np.moveaxis(array, axes.index("c"), 0))


@pytest.mark.parametrize(
    ("attributes", "size", "unit"),
    [
        ({"element_size_um": [0.5, 0.25, 0.25]}, (0.5, 0.25, 0.25), "um"),
        ({"resolution": [40.0, 4.0, 4.0], "unit": "nanometer"}, (40, 4, 4), "nm"),
        ({"voxel_size": [3, 2, 1]}, (3, 2, 1), None),
        ({"resolution": [0.0, 1.0, 1.0]}, None, None),
        ({}, None, None),
    ],
)
def test_voxel_size(tmp_path, encode, attributes, size, unit):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = encode((3, 4, 5))
        file["raw"].attrs.update(attributes)
    volume = open_volume(path)
    assert volume.voxel_size == size
    assert size is None or volume.unit == unit


def test_which_data_set(tmp_path, encode):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"], file["labels"] = encode((3, 4, 5)), encode((3, 4, 5))
    with pytest.raises(
        VolumeError, match=r"a\.h5 has 2 data sets \(/labels, /raw\); name one, as in .*a\.h5:/labels"
    ):
        open_volume(path)
    with pytest.raises(VolumeError, match=r"a\.h5 has no data set /label\. Did you mean /labels\?"):
        open_volume(f"{path}:/label")
    with pytest.raises(VolumeError, match=r"has no data set /zzz\. It has: /labels, /raw"):
        open_volume(f"{path}:/zzz")


def test_without_h5py_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"something")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        VolumeError, match=r"a\.h5:/raw is an HDF5 file, which needs h5py: pip install 'skoots\[hdf5\]'"
    ):
        open_volume(f"{tmp_path}/a.h5:/raw")
    with pytest.raises(VolumeError, match=r"b\.h5:/labels is an HDF5 file, which needs h5py"):
        check_output(f"{tmp_path}/b.h5:/labels")


def test_damaged_files(tmp_path, encode):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = encode((30, 40, 50))
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.raises(VolumeError, match=r"a\.h5 is truncated, damaged or no HDF5 file"):
        open_volume(path)
    path.write_bytes(b"")
    with pytest.raises(VolumeError, match=r"a\.h5 is empty \(0 bytes\)"):
        open_volume(f"{path}:/raw")


def test_writing_keeps_the_other_data_sets(tmp_path, encode, check_reads):
    path, raw, labels = tmp_path / "a.h5", encode((3, 4, 5)), encode((3, 4, 5), "int32")
    with h5py.File(path, "w") as file:
        file["raw"] = raw
    write_volume(f"{path}:/labels", labels, voxel_size=(3, 2, 2), unit="nm")
    check_reads(open_volume(f"{path}:/raw"), raw)
    check_reads(open_volume(f"{path}:/labels"), labels)
    with h5py.File(path) as file:
        assert file["labels"].attrs["element_size_um"] == pytest.approx([0.003, 0.002, 0.002])
    with pytest.raises(VolumeError, match=r"a\.h5:/labels exists; pass --overwrite or choose another path"):
        check_output(f"{path}:/labels")
    write_volume(f"{path}:/labels", labels + 1, overwrite=True)
    check_reads(open_volume(f"{path}:/labels"), labels + 1)
    check_reads(open_volume(f"{path}:/raw"), raw)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, encode):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = encode((3, 4, 5))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), create_volume(f"{path}:/labels", (3, 4, 5), "int32") as volume:
        volume.write(Box.of_shape((3, 4, 5)), encode((3, 4, 5), "int32"))
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]
