"""Dispatch, the contract of reading and writing that all formats share, and outputs."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import check_output, create_volume, open_volume, write_volume
from skoots.volumes import output as output_module

OUTPUTS = ["a.tif", "a.zarr", "a3.zarr", "a.h5:/inner/labels", "a.npy"]


def arguments(name):
    if ".h5" in name:
        pytest.importorskip("h5py")
    return {"zarr_format": 3} if name.startswith("a3") else {}


@pytest.fixture(params=OUTPUTS)
def name(request):
    arguments(request.param)
    return request.param


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7), (1, 5, 7)])
def test_round_trip_of_every_type(tmp_path, encode, check_reads, name, dtype, shape):
    path, array = f"{tmp_path}/{name}", encode(shape, dtype)
    write_volume(path, array, **arguments(name))
    check_reads(open_volume(path), array)


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (1, 4, 5, 6), (2, 5, 6)])
def test_round_trip_of_channels(tmp_path, encode, check_reads, name, shape):
    path, array = f"{tmp_path}/{name}", encode(shape)
    write_volume(path, array, channels=shape[0], **arguments(name))
    # a NumPy file names no axes: three are z y x
    axes = "cyx" if name == "a.npy" and len(shape) == 3 else None
    volume = open_volume(path, axes=axes)
    assert volume.axes == "czyx"[:1] + "zyx"[-(len(shape) - 1) :]
    check_reads(volume, array)


@pytest.mark.parametrize(
    ("size", "unit"), [((50.0, 9.2, 9.1), "nm"), ((0.2837, 0.1268, 0.1), "um"), ((4.0, 2.0, 1.5), None)]
)
@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7)])
@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_round_trip_of_voxel_size(tmp_path, encode, name, size, unit, shape, kind):
    path, size = f"{tmp_path}/{name}", size[-len(shape) :]
    write_volume(path, encode(shape, kind), voxel_size=size, unit=unit, **arguments(name))
    volume = open_volume(path)
    if name == "a.npy":
        assert volume.voxel_size is None
    else:
        assert volume.voxel_size == pytest.approx(size, rel=1e-12)
        assert volume.unit == unit


def test_unknown_voxel_size_stays_unknown(tmp_path, encode, name):
    write_volume(f"{tmp_path}/{name}", encode((3, 5, 7)), **arguments(name))
    assert open_volume(f"{tmp_path}/{name}").voxel_size is None


@pytest.mark.parametrize("channels", [None, 2])
def test_writing_by_box(tmp_path, name, channels):
    """Tiles that do not follow the chunks, in any order, some of them written twice."""
    shape = (5, 9, 11)
    full = (channels or 1, *shape)
    array = np.arange(np.prod(full), dtype=np.int32).reshape(full)
    array = array if channels else array[0]
    path = f"{tmp_path}/{name}"
    boxes = [
        Box.at((z, y, x), (2, 4, 4)).intersect(Box.of_shape(shape))
        for z in (4, 2, 0)
        for y in (0, 4, 8)
        for x in (8, 4, 0)
    ]
    with create_volume(
        path, shape, np.int32, channels=channels, chunks=(3, 5, 5), **arguments(name)
    ) as volume:
        volume.write(boxes[3], np.full_like(array[(..., *boxes[3].slices)], -1))
        for box in boxes:
            volume.write(box, array[(..., *box.slices)])
        assert not os.path.exists(path)
        np.testing.assert_array_equal(volume.read(boxes[5]), array[(..., *boxes[5].slices)])
        with pytest.raises(TypeError, match="belongs to one process"):
            pickle.dumps(volume)
    volume.close()  # a second time: nothing
    np.testing.assert_array_equal(open_volume(path).read_all(), array)
    assert not [entry for entry in os.listdir(tmp_path) if entry.startswith(".")]


def test_what_is_not_written_is_zero(tmp_path, name):
    path = f"{tmp_path}/{name}"
    with create_volume(path, (4, 5, 6), np.uint16, **arguments(name)) as volume:
        volume.write(Box((1, 1, 1), (2, 2, 2)), np.full((1, 1, 1), 9, np.uint16))
    array = open_volume(path).read_all()
    assert array.sum() == 9 and array[1, 1, 1] == 9


def test_nothing_is_left_of_a_failed_write(tmp_path, encode, name):
    with (
        pytest.raises(KeyboardInterrupt),
        create_volume(f"{tmp_path}/{name}", (4, 5, 6), np.uint16, **arguments(name)) as volume,
    ):
        volume.write(Box.of_shape((4, 5, 6)), encode((4, 5, 6)))
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_never_overwritten_unless_asked(tmp_path, encode, name):
    path, first = f"{tmp_path}/{name}", encode((4, 5, 6))
    write_volume(path, first, **arguments(name))
    for attempt in (
        lambda: check_output(path),
        lambda: write_volume(path, first + 1),
        lambda: create_volume(path, (4,) * 3, "u1"),
    ):
        with pytest.raises(VolumeError, match=r"exists; pass --overwrite or choose another path\."):
            attempt()
    with (
        pytest.raises(KeyboardInterrupt),
        create_volume(path, (4, 5, 6), np.uint16, overwrite=True) as volume,
    ):
        volume.write(Box.of_shape((4, 5, 6)), first + 1)
        raise KeyboardInterrupt
    np.testing.assert_array_equal(open_volume(path).read_all(), first)
    check_output(path, overwrite=True)
    write_volume(path, first + 1, overwrite=True, **arguments(name))
    np.testing.assert_array_equal(open_volume(path).read_all(), first + 1)
    assert not [entry for entry in os.listdir(tmp_path) if entry.startswith(".")]


def test_an_output_that_appears_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "a.npy"
    volume = create_volume(path, (4, 5, 6), np.uint16)
    np.save(path, np.ones((2, 2)))
    with pytest.raises(
        VolumeError, match=r"a\.npy has appeared meanwhile; what was to be written there is in .*a-\w+\.npy\."
    ):
        volume.close()
    assert np.load(path).shape == (2, 2)
    volume.discard()
    (kept,) = (entry for entry in tmp_path.iterdir() if entry != path)  # where no later command removes it
    assert np.load(kept).shape == (4, 5, 6)


def test_written_values_must_fit(tmp_path, name):
    box = Box.of_shape((2, 2, 2))
    with create_volume(f"{tmp_path}/{name}", (2, 2, 2), np.int32, **arguments(name)) as volume:
        volume.write(box, np.full((2, 2, 2), 2**31 - 1, np.int64))
        with pytest.raises(VolumeError, match=r"values from 2147483648 to 2147483648 do not fit into int32"):
            volume.write(box, np.full((2, 2, 2), 2**31, np.int64))
        with pytest.raises(VolumeError, match="float32 cannot be written into a volume of int32"):
            volume.write(box, np.zeros((2, 2, 2), np.float32))
        with pytest.raises(VolumeError, match=r"shape \(2, 2\) does not fit the box \(2, 2, 2\)"):
            volume.write(box, np.zeros((2, 2), np.int32))
        with pytest.raises(VolumeError, match="reaches outside"):
            volume.write(Box((0, 0, 0), (2, 2, 3)), np.zeros((2, 2, 3), np.int32))


def test_boxes_outside_and_empty(tmp_path, encode, name):
    path = f"{tmp_path}/{name}"
    write_volume(path, encode((4, 5, 6)), **arguments(name))
    volume = open_volume(path)
    for box in (Box((0, 0, 0), (4, 5, 7)), Box((-1, 0, 0), (4, 5, 6))):
        with pytest.raises(
            VolumeError,
            match=r"the box from \(.*\) to \(.*\) reaches outside the volume of shape \(4, 5, 6\)",
        ):
            volume.read(box)
    with pytest.raises(VolumeError, match="a box of 2 dimensions"):
        volume.read(Box((0, 0), (1, 1)))
    assert volume.read(Box((1, 2, 3), (1, 4, 5))).shape == (0, 2, 2)


# --- what is wrong with a path ---


def test_missing_files_name_near_misses(tmp_path):
    (tmp_path / "mito_train.tif").write_bytes(b"")
    with pytest.raises(VolumeError, match=r"mito_trian\.tif does not exist; did you mean mito_train\.tif\?"):
        open_volume(tmp_path / "mito_trian.tif")
    with pytest.raises(VolumeError, match=r"zzz\.npy does not exist; check the path"):
        open_volume(tmp_path / "zzz.npy")
    with pytest.raises(VolumeError, match=r"nor does its folder .*nowhere"):
        open_volume(tmp_path / "nowhere" / "a.tif")
    with pytest.raises(VolumeError, match=r"a\.h5 does not exist"):
        open_volume(f"{tmp_path}/a.h5:/raw")


@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_empty_files(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(VolumeError, match=rf"{name} is empty \(0 bytes\)"):
        open_volume(tmp_path / name)


def test_unsupported_kinds_list_the_supported(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(
        VolumeError, match=r"a\.png is of a kind that skoots does not read; it reads TIFF .*\.zarr.*\.npy"
    ):
        open_volume(tmp_path / "a.png")
    with pytest.raises(VolumeError, match=r"a\.jpg names no format that skoots writes; it writes TIFF"):
        check_output(tmp_path / "a.jpg")


def test_folders_and_files_in_each_others_place(tmp_path):
    (tmp_path / "a.tif").mkdir()
    (tmp_path / "a.zarr").write_bytes(b"x")
    with pytest.raises(VolumeError, match=r"a\.tif is a folder, where its name says a file"):
        open_volume(tmp_path / "a.tif")
    with pytest.raises(VolumeError, match=r"a\.zarr is a file, where its name says a Zarr folder"):
        open_volume(tmp_path / "a.zarr")


def test_folders_that_are_no_stores_are_not_overwritten(tmp_path):
    for name in ("a.zarr", "b.tif"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("the only copy")
        with pytest.raises(VolumeError, match="is a folder that is no Zarr store and is not overwritten"):
            check_output(tmp_path / name, overwrite=True)


def test_unwritable_folders_are_said_before_the_work(tmp_path, monkeypatch):
    check_output(tmp_path / "new" / "folder" / "a.zarr")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(VolumeError, match=r"cannot be written: .*file is not a folder"):
        check_output(tmp_path / "file" / "a.zarr")

    def read_only(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(output_module.tempfile, "TemporaryFile", read_only)
    with pytest.raises(
        VolumeError,
        match=r"a\.tif cannot be written: the folder .* is not writable \(Read-only file system\)",
    ):
        check_output(tmp_path / "a.tif")


def test_folders_are_made(tmp_path, encode, name):
    path = f"{tmp_path}/new/folder/{name}"
    write_volume(path, encode((3, 4, 5)), **arguments(name))
    assert open_volume(path).shape == (3, 4, 5)


def test_shapes_of_other_dimensions(tmp_path):
    with pytest.raises(VolumeError, match=r"2 or 3 spatial dimensions, not 1"):
        create_volume(tmp_path / "a.npy", (4,), "u1")


# --- NumPy ---


@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_files_in_any_order(tmp_path, encode, check_reads, order):
    path, array = tmp_path / "a.npy", encode((4, 5, 6, 2))
    np.save(path, np.asarray(array, ">u2", order=order))
    check_reads(open_volume(path), np.moveaxis(array, -1, 0))


def test_bool_masks_are_read_as_bytes(tmp_path, check_reads):
    mask = np.arange(60).reshape(3, 4, 5) % 3 == 0
    np.save(tmp_path / "a.npy", mask)
    check_reads(open_volume(tmp_path / "a.npy"), mask.astype(np.uint8))


def test_damaged_numpy_files(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((30, 30)))
    os.truncate(path, 1000)
    with pytest.raises(VolumeError, match=r"a\.npy is truncated or no NumPy file"):
        open_volume(path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(VolumeError, match=r"a\.npy is truncated or no NumPy file"):
        open_volume(path)
    np.save(path, np.zeros(5))
    with pytest.raises(VolumeError, match=r"a\.npy has shape \(5,\)"):
        open_volume(path)
    np.save(path, np.zeros((0, 5)))
    with pytest.raises(VolumeError, match=r"a\.npy holds no voxels"):
        open_volume(path)


def test_importing_the_room_is_light():
    heavy = {"tensorstore", "tifffile", "h5py", "torch"}
    code = f"import sys, skoots.volumes; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot claim space beforehand")
@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_a_full_disk_is_said_before_the_work(tmp_path, monkeypatch, name):
    claimed = []

    def full(descriptor, start, length):
        claimed.append((start, length))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # Written through a memory map, a full disk would kill the process: the space must be claimed first.
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(VolumeError, match=rf"{name} cannot be written: No space left on device\. Make room"):
        create_volume(tmp_path / name, (20, 100, 100), np.int32)
    assert claimed[0][0] == 0 and claimed[0][1] >= 20 * 100 * 100 * 4
    assert list(tmp_path.iterdir()) == []


FULL_ZARR = """
import resource, sys
import numpy as np
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import create_volume
array = np.random.default_rng(0).integers(0, 2**31 - 1, (20, 200, 200), np.int32)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with create_volume(sys.argv[1], array.shape, np.int32) as volume:
        volume.write(Box.of_shape(array.shape), array)
except VolumeError as error:
    print(error)
"""


def test_a_zarr_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_ZARR, str(tmp_path / "a.zarr")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a.zarr cannot be written: File too large" in done.stdout and "Make room" in done.stdout
    assert list(tmp_path.iterdir()) == []
