"""HDF5 data sets, named file.h5:/dataset."""

from __future__ import annotations

import os
import pickle
import subprocess
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
    with pytest.raises(VolumeError, match=r"a\.h5 is truncated or no HDF5 file"):
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


# --- several writers of one file ---


def begun(path, name, encode, **options):
    volume = create_volume(f"{path}:/{name}", (4, 5, 6), np.uint16, voxel_size=(2, 1, 1), **options)
    volume.write(Box.of_shape((4, 5, 6)), encode((4, 5, 6)))
    return volume


@pytest.mark.parametrize("there", [False, True])
def test_data_sets_that_are_written_at_once_are_all_there(tmp_path, encode, there):
    path = tmp_path / "o.h5"
    if there:
        with h5py.File(path, "w") as file:
            file["keep"] = np.arange(24).reshape(2, 3, 4)
    writers = [begun(path, name, encode) for name in ("a", "b", "group/c")]
    for writer in reversed(writers):
        writer.close()
    for name in ("a", "b", "group/c"):
        volume = open_volume(f"{path}:/{name}")
        np.testing.assert_array_equal(volume.read_all(), encode((4, 5, 6)))
        assert volume.voxel_size == (2, 1, 1)
    with h5py.File(path) as file:
        assert ("keep" in file) == there
    assert [entry.name for entry in tmp_path.iterdir()] == ["o.h5"]


def test_one_data_set_that_two_write_is_kept_twice(tmp_path, encode):
    path = tmp_path / "o.h5"
    first, second = begun(path, "a", encode), begun(path, "a", encode)
    first.close()
    with pytest.raises(VolumeError, match=r"o\.h5:/a has appeared meanwhile\. What was .* is in .*o-\w+\.h5"):
        second.close()
    (kept,) = tmp_path.glob("o-*.h5")
    for file in (path, kept):
        np.testing.assert_array_equal(open_volume(f"{file}:/a").read_all(), encode((4, 5, 6)))
    begun(path, "a", encode, overwrite=True).close()


WRITER = """
import sys
from pathlib import Path
import numpy as np
import skoots.volumes.hdf5_output as hdf5
from skoots.geometry import Box
from skoots.volumes import create_volume

path, name, stays = sys.argv[1:]
volume = create_volume(f"{path}:/{name}", (40, 50, 60), np.uint16)
volume.write(Box.of_shape((40, 50, 60)), np.full((40, 50, 60), len(name), np.uint16))
if stays == "yes":  # until it is killed, with the lock in its hands
    hdf5.HDF5Output._merge = lambda self: (print("merging", flush=True), sys.stdin.read())
else:
    print("written", flush=True), sys.stdin.read()
volume.close()
"""


def start_writer(path, name, stays="no"):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, stays],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_write_data_sets_of_one_file(tmp_path, encode):
    """Three at once, after one was killed while it held the lock."""
    path = tmp_path / "o.h5"
    with h5py.File(path, "w") as file:
        file["keep"] = np.arange(24).reshape(2, 3, 4)
    with start_writer(path, "killed", "yes") as killed:
        assert killed.stdout.readline() == "merging\n"
        killed.kill()
    names = ("a", "bb", "ccc")
    writers = [start_writer(path, name) for name in names]
    for writer in writers:
        assert writer.stdout.readline() == "written\n"
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    with h5py.File(path) as file:
        assert sorted(file) == [*names, "keep"]
        assert all((file[name][:] == len(name)).all() for name in names)
    assert [entry.name for entry in tmp_path.iterdir()] == ["o.h5"]


def test_a_writer_that_never_ends_is_waited_for_so_long(tmp_path, encode, monkeypatch):
    from filelock import FileLock

    path = tmp_path / "o.h5"
    monkeypatch.setattr("skoots.volumes.hdf5_output.PATIENCE_SECONDS", 0.1)
    volume = begun(path, "a", encode)
    with (
        FileLock(tmp_path / ".o.h5.lock"),
        pytest.raises(VolumeError, match=r"Another process .* is in .*o-"),
    ):
        volume.close()
    (kept,) = tmp_path.glob("o-*.h5")
    np.testing.assert_array_equal(open_volume(f"{kept}:/a").read_all(), encode((4, 5, 6)))


def test_another_program_that_has_the_file_open_loses_nothing(tmp_path, encode):
    path = tmp_path / "o.h5"
    volume = begun(path, "a", encode)
    code = f"import h5py, sys; file = h5py.File({str(path)!r}, 'w'); print(1, flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:
        assert other.stdout.readline()
        with pytest.raises(VolumeError, match=r"o\.h5 is open in another program .* is in .*o-\w+\.h5"):
            volume.close()
        with pytest.raises(VolumeError, match=r"o\.h5 is open in another program"):
            create_volume(f"{path}:/b", (4, 5), np.uint8)
        other.stdin.close()


@pytest.mark.parametrize("name", ["keep/a", "group"])
def test_a_name_that_cannot_be_is_said_before_the_work(tmp_path, name):
    path = tmp_path / "o.h5"
    with h5py.File(path, "w") as file:
        file["keep"], file["group/inner"] = np.zeros((3, 4)), np.zeros((3, 4))
    with pytest.raises(
        VolumeError, match=r"o\.h5 has a (data set /keep|group /group), so /.* Choose another name"
    ):
        create_volume(f"{path}:/{name}", (3, 4), np.uint8, overwrite=True)
    with h5py.File(path) as file:
        assert "inner" in file["group"]


def test_the_voxel_size_of_a_group_is_that_of_its_data_sets(tmp_path, encode):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("same/raw", "same/labels", "own/raw", "pyramid/0", "pyramid/1"):
            file[name] = encode((2, 3, 4) if name == "pyramid/1" else (4, 5, 6))
        for group in ("same", "own", "pyramid"):
            file[group].attrs["voxel_size"] = (4.0, 2.0, 1.0)
        file["own/raw"].attrs["resolution"] = (3.0, 1.0, 1.0)
    sizes = {
        name: open_volume(f"{tmp_path / 'a.h5'}:/{name}").voxel_size
        for name in ("same/raw", "same/labels", "own/raw", "pyramid/1")
    }
    assert list(sizes.values()) == [(4, 2, 1), (4, 2, 1), (3, 1, 1), None]
