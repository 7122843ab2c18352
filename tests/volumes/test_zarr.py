"""Zarr v2 and v3, plain and OME-Zarr; zarr-python is the independent witness."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import create_volume, open_volume, write_volume


def store(path, array, zarr_format=2, chunks=None, attributes=None, **metadata):
    """A plain array, written by tensorstore; ``attributes`` as zarr-python and xarray keep them."""
    chunks = list(chunks or array.shape)
    shape = list(array.shape)
    if zarr_format == 2:
        spec = {"shape": shape, "chunks": chunks, "dtype": array.dtype.str, **metadata}
    else:
        grid = {"name": "regular", "configuration": {"chunk_shape": chunks}}
        spec = {"shape": shape, "data_type": array.dtype.name, "chunk_grid": grid, **metadata}
        if attributes:
            spec["attributes"] = attributes
    driver = "zarr" if zarr_format == 2 else "zarr3"
    kvstore = {"driver": "file", "path": f"{path}/"}
    tensorstore.open({"driver": driver, "kvstore": kvstore, "metadata": spec}, create=True).result()[...] = (
        array
    )
    if zarr_format == 2 and attributes:
        (path / ".zattrs").write_text(json.dumps(attributes))


def ome_group(path, multiscale, zarr_format=2):
    path.mkdir(exist_ok=True)
    if zarr_format == 2:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps({"multiscales": [multiscale]}))
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
        (path / "zarr.json").write_text(
            json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes})
        )


def multiscale(axes, scale, units=None, levels=("0",), **extra):
    described = [{"name": a, **({"unit": units[a]} if units and a in units else {})} for a in axes]
    datasets = [
        {"path": level, "coordinateTransformations": [{"type": "scale", "scale": [s * 2**n for s in scale]}]}
        for n, level in enumerate(levels)
    ]
    return {"version": "0.4", "axes": described, "datasets": datasets, **extra}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(5, 6, 7), (6, 7)])
def test_plain_arrays(tmp_path, encode, check_reads, dtype, zarr_format, shape):
    path, array = tmp_path / "a.zarr", encode(shape, dtype)
    store(path, array, zarr_format, chunks=[3] * len(shape))
    check_reads(open_volume(path), array)


def test_big_endian_and_column_major(tmp_path, encode, check_reads):
    path, array = tmp_path / "a.zarr", encode((5, 6, 7)).astype(">u2")
    store(path, array, chunks=[2, 3, 4], order="F")
    check_reads(open_volume(path), array.astype("u2"))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("axes", ["czyx", "zyxc", "tczyx", "cyx", "xyz"])
def test_axes_by_name(tmp_path, encode, check_reads, zarr_format, axes):
    lengths = {"t": 1, "c": 2, "z": 4, "y": 5, "x": 6}
    array = encode([lengths[a] for a in axes])
    path = tmp_path / "a.zarr"
    if zarr_format == 2:
        store(path, array, attributes={"_ARRAY_DIMENSIONS": ["channel" if a == "c" else a for a in axes]})
    else:
        store(path, array, 3, dimension_names=list(axes))
    wanted = [a for a in "czyx" if a in axes]
    expected = array.transpose([axes.index(a) for a in wanted] + [n for n, a in enumerate(axes) if a == "t"])
    check_reads(open_volume(path), expected.reshape([lengths[a] for a in wanted]))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_zarr_takes_level_0_and_its_scale(tmp_path, encode, check_reads, zarr_format):
    path, array = tmp_path / "a.ome.zarr", encode((2, 4, 6, 8))
    units = {"z": "micrometer", "y": "nanometer", "x": "nanometer"}
    described = multiscale("czyx", [1, 0.05, 9, 8], units, levels=("full", "half"))
    described["coordinateTransformations"] = [{"type": "scale", "scale": [1, 2, 1, 1]}]
    ome_group(path, described, zarr_format)
    store(path / "full", array, zarr_format, chunks=[1, 2, 3, 4])
    store(path / "half", array[:, ::2, ::2, ::2], zarr_format)
    volume = open_volume(path)
    assert volume.axes == "czyx"
    assert volume.voxel_size == pytest.approx((100, 9, 8))
    assert volume.unit == "nm"
    check_reads(volume, array)
    half = open_volume(path / "half")  # its group states what it does not
    assert (half.axes, half.voxel_size, half.unit) == ("czyx", pytest.approx((200, 18, 16)), "nm")
    check_reads(half, array[:, ::2, ::2, ::2])
    assert open_volume(path / "half", voxel_size=(3, 2, 1)).voxel_size == (3, 2, 1)


def test_groups_of_old_and_of_bioformats2raw(tmp_path, encode, check_reads):
    array = encode((1, 2, 3, 4, 5))
    old = tmp_path / "old.zarr"
    ome_group(old, {"version": "0.1", "datasets": [{"path": "0"}]})  # no axes: tczyx
    store(old / "0", array)
    check_reads(open_volume(old), array[0])

    wrapped = tmp_path / "wrapped.zarr"
    wrapped.mkdir()
    (wrapped / ".zgroup").write_text('{"zarr_format": 2}')
    (wrapped / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    ome_group(wrapped / "0", multiscale("tczyx", [1, 1, 3, 2, 2]))
    store(wrapped / "0" / "0", array)
    assert open_volume(wrapped).voxel_size == (3, 2, 2)
    check_reads(open_volume(wrapped), array[0])
    assert open_volume(wrapped / "0" / "0").voxel_size == (3, 2, 2)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_level_that_lies_deeper_and_is_named_from_within(tmp_path, encode, zarr_format, monkeypatch):
    path = tmp_path / "a.zarr"
    described = multiscale("zyx", [4, 1, 1], dict.fromkeys("zyx", "micrometer"), levels=("s/0", "s/1"))
    ome_group(path, described, zarr_format)
    for level in ("0", "1"):
        store(path / "s" / level, encode((3, 4, 5)), zarr_format)
    assert open_volume(f"{path}/s/1/").voxel_size == (8, 2, 2)
    monkeypatch.chdir(path / "s")
    assert open_volume("1").voxel_size == (8, 2, 2)
    assert open_volume("../s/0").voxel_size == (4, 1, 1)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_voxel_size_of_a_group_is_that_of_its_arrays(tmp_path, encode, zarr_format):
    for name, others in (("same", (4, 5, 6)), ("pyramid", (2, 3, 3))):
        group = tmp_path / f"{name}.zarr"
        store(group / "raw", encode((4, 5, 6)), zarr_format)
        store(group / "other", encode(others), zarr_format)
        attributes = {"resolution": [40, 4, 4], "unit": "nm"}
        if zarr_format == 2:
            (group / ".zgroup").write_text('{"zarr_format": 2}')
            (group / ".zattrs").write_text(json.dumps(attributes))
        else:
            node = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            (group / "zarr.json").write_text(json.dumps(node))
    volume = open_volume(tmp_path / "same.zarr/other")
    assert (volume.voxel_size, volume.unit) == ((40, 4, 4), "nm")
    assert open_volume(tmp_path / "pyramid.zarr/other").voxel_size is None


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_voxel_size_of_plain_arrays(tmp_path, encode, zarr_format):
    path = tmp_path / "a.zarr"
    store(path, encode((3, 4, 5)), zarr_format, attributes={"resolution": [40, 4, 4], "units": "nm"})
    volume = open_volume(path)
    assert (volume.voxel_size, volume.unit) == ((40, 4, 4), "nm")


def test_inner_arrays_and_near_misses(tmp_path, encode, check_reads):
    root = tmp_path / "store.zarr"
    root.mkdir()
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    store(root / "raw", encode((3, 4, 5)))
    check_reads(open_volume(root), encode((3, 4, 5)))
    store(root / "labels", encode((3, 4, 5), "int64"))
    check_reads(open_volume(root / "labels"), encode((3, 4, 5), "int64"))
    with pytest.raises(
        VolumeError, match=r"store\.zarr holds 2 arrays \(labels, raw\); name one, as in .*store\.zarr/labels"
    ):
        open_volume(root)
    with pytest.raises(VolumeError, match=r"store\.zarr/label does not exist; did you mean labels\?"):
        open_volume(root / "label")


def test_a_folder_need_not_be_called_zarr(tmp_path, encode, check_reads):
    store(tmp_path / "volume", encode((3, 4, 5)))
    check_reads(open_volume(tmp_path / "volume"), encode((3, 4, 5)))


def test_only_the_chunks_of_a_box_are_read(tmp_path, encode):
    path, array = tmp_path / "a.zarr", encode((8, 8, 8))
    with create_volume(path, array.shape, array.dtype, chunks=(4, 4, 4)) as volume:
        volume.write(Box.of_shape(array.shape), array)
    chunks = sorted((path / "0").glob("*/*/*"))
    assert len(chunks) == 8
    for chunk in chunks[:-1]:  # all but the last are now noise: reading one of them fails
        chunk.write_bytes(b"no blosc")
    volume = open_volume(path)
    box = Box((4, 5, 6), (8, 8, 8))
    np.testing.assert_array_equal(volume.read(box), array[box.slices])
    with pytest.raises(VolumeError, match=r"a\.zarr is damaged: .* would become \d+ bytes"):
        volume.read(Box((3, 5, 6), (8, 8, 8)))


def test_opening_starts_no_tensorstore(tmp_path, encode):
    """So that a parent which only looks at volumes may fork its workers."""
    path = tmp_path / "a.zarr"
    write_volume(path, encode((3, 4, 5)))
    code = f"""if True:
        import sys
        from skoots.volumes import open_volume
        assert open_volume({str(path)!r}).shape == (3, 4, 5)
        assert not {{"tensorstore", "tifffile", "h5py"}} & set(sys.modules)
        """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pickles(tmp_path, encode, check_reads):
    path, array = tmp_path / "a.zarr", encode((3, 4, 5))
    write_volume(path, array)
    volume = open_volume(path)
    volume.read_all()
    check_reads(pickle.loads(pickle.dumps(volume)), array)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("channels", [None, 2])
def test_what_is_written_is_ngff(tmp_path, encode, zarr_format, channels):
    path = tmp_path / "cells.zarr"
    shape = (5, 6, 7)
    array = encode(shape if channels is None else (channels, *shape), "int32")
    write_volume(
        path,
        array,
        voxel_size=(0.5, 0.25, 0.25),
        unit="um",
        channels=channels,
        zarr_format=zarr_format,
        chunks=(4, 4, 4),
    )
    if zarr_format == 2:
        image = json.loads((path / ".zattrs").read_text())["multiscales"][0]
        assert image["version"] == "0.4"
        assert json.loads((path / "0" / ".zarray").read_text())["chunks"] == [1] * (array.ndim - 3) + [
            4,
            4,
            4,
        ]
    else:
        ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
        assert ome["version"] == "0.5"
        image = ome["multiscales"][0]
    assert [axis["name"] for axis in image["axes"]] == list("czyx"[-array.ndim :])
    assert image["axes"][-1] == {"name": "x", "type": "space", "unit": "micrometer"}
    scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0] * (array.ndim - 3) + [0.5, 0.25, 0.25]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", ["uint8", "int32", "uint64", "float16", "float32"])
def test_zarr_python_agrees(tmp_path, encode, check_reads, zarr_format, kind):
    zarr = pytest.importorskip("zarr", minversion="3")
    array = encode((4, 5, 6), kind)
    ours, theirs = tmp_path / "ours.zarr", tmp_path / "theirs.zarr"
    write_volume(ours, array, zarr_format=zarr_format, chunks=(2, 3, 4))
    np.testing.assert_array_equal(zarr.open_group(str(ours), mode="r")["0"][:], array)
    written = zarr.create_array(
        str(theirs), shape=array.shape, chunks=(3, 3, 3), dtype=kind, zarr_format=zarr_format
    )
    written[:] = array
    check_reads(open_volume(theirs), array)


def test_shards_of_zarr_python(tmp_path, encode, check_reads):
    zarr = pytest.importorskip("zarr", minversion="3")
    array, path = encode((8, 8, 8)), tmp_path / "a.zarr"
    written = zarr.create_array(
        str(path), shape=array.shape, chunks=(2, 2, 2), shards=(4, 4, 4), dtype=array.dtype
    )
    written[:] = array
    check_reads(open_volume(path), array)


def test_faults(tmp_path, encode):
    empty = tmp_path / "empty.zarr"
    empty.mkdir()
    with pytest.raises(VolumeError, match=r"empty\.zarr is not a Zarr array or group"):
        open_volume(empty)
    (empty / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(VolumeError, match=r"empty\.zarr is a Zarr group without an array"):
        open_volume(empty)
    (empty / ".zattrs").write_text('{"multisc')
    with pytest.raises(VolumeError, match=r"\.zattrs is damaged"):
        open_volume(empty)
    lost = tmp_path / "lost.zarr"
    ome_group(lost, multiscale("zyx", [1, 1, 1]))
    with pytest.raises(VolumeError, match=r"lost\.zarr is incomplete: its OME-Zarr level '0' is missing"):
        open_volume(lost)
    times = tmp_path / "times.zarr"
    ome_group(times, multiscale("tzyx", [1, 1, 1, 1]))
    store(times / "0", encode((2, 3, 4, 5)))
    with pytest.raises(VolumeError, match=r"times\.zarr holds 2 time points"):
        open_volume(times)
    strange = tmp_path / "strange.zarr"
    store(strange, np.zeros((3, 4), np.complex64))
    with pytest.raises(VolumeError, match=r"strange\.zarr holds complex64"):
        open_volume(strange)


def test_a_signal_while_it_is_begun_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tensorstore has begun goes on beside, and would make the folder again."""
    begin, begun = tensorstore.open, []

    class Interrupted:
        def result(self) -> None:
            raise KeyboardInterrupt

    def interrupted(*arguments: object, **options: object) -> Interrupted:
        begun.append(begin(*arguments, **options))
        return Interrupted()

    monkeypatch.setattr(tensorstore, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create_volume(tmp_path / "a.zarr", (8, 8, 8), np.int32)
    begun[0].exception()  # waits for its end
    assert not list(tmp_path.iterdir())
