"""A file that was damaged is read or refused in one sentence: no other error, no crash, no hang, no bombs."""

from __future__ import annotations

import bz2
import gzip
import json
import random
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile

from skoots.errors import VolumeError
from skoots.volumes import open_volume, write_volume

PICTURE = np.random.default_rng(0).integers(1, 60000, (4, 48, 40)).astype(np.uint16)
AXES = {"axes": "ZYX"}
TRIALS = 40

# Reads file after file, each in a fork with little memory and time; the parent never runs tensorstore.
READER = """
import os, resource, signal, sys, traceback
import h5py, imagecodecs, numpy, pydantic, tensorstore, tifffile
from skoots.errors import SkootsError
from skoots.volumes import open_volume
import skoots.volumes.hdf5, skoots.volumes.memory, skoots.volumes.ngff
import skoots.volumes.tiff, skoots.volumes.zarr
imagecodecs.zlib_decode, imagecodecs.lzw_decode, imagecodecs.zstd_decode

for line in sys.stdin:
    path = line.rstrip("\\n")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1), os.dup2(write, 2)
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(20)
        status = 1
        try:
            open_volume(path).read_all()
            status = 0
        except SkootsError as error:
            status = 2 if path.split(":")[0].rpartition("/")[2] in str(error) else 3
            print(error)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    os.close(write)
    with os.fdopen(read, errors="replace") as output:
        said = output.read().strip().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, said[-1] if said else "", flush=True)
"""


class Reader:
    """A process that says how reading a file ends."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, path: Path | str) -> tuple[int, str]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(path, file=self.process.stdin, flush=True)
        status, _, said = self.process.stdout.readline().rstrip("\n").partition(" ")
        return int(status), said


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader()
    with reader.process:
        yield reader
        reader.process.stdin.close()


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    stored = {
        "raw": {},
        "zlib": {"compression": "zlib", "rowsperstrip": 16},
        "lzw": {"compression": "lzw", "tile": (16, 16)},
        "big": {"compression": "zstd", "bigtiff": True, "predictor": True},
        "imagej": {"imagej": True},
        "ome": {"ome": True, "compression": "packbits", "byteorder": ">"},
    }
    for name, options in stored.items():
        tifffile.imwrite(folder / f"{name}.tif", PICTURE, metadata=AXES, photometric="minisblack", **options)
    with tifffile.TiffWriter(folder / "pyramid.tif", ome=True) as writer:
        writer.write(PICTURE, subifds=1, tile=(16, 16), metadata=AXES, photometric="minisblack")
        writer.write(PICTURE[:, ::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    np.save(folder / "array.npy", PICTURE)
    chunked = {"chunks": (2, 24, 20), "compression": "gzip"}
    for name, version in (("old.h5", "earliest"), ("new.h5", "latest")):
        with h5py.File(folder / name, "w", libver=version) as file:
            file.create_dataset("group/raw", data=PICTURE, fletcher32=version == "latest", **chunked)
            file["group/raw"].attrs["voxel_size"] = [3.0, 1.0, 1.0]
    return folder


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut off, or a bit flipped or a number made huge or zero, mostly where headers are."""
    kind = rng.random()
    if kind < 0.1:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    at = (
        rng.randrange(min(len(data), 400))
        if kind < 0.7
        else rng.randrange(max(0, len(data) - 3000), len(data))
    )
    if kind < 0.55 or at + 4 > len(data):
        changed[at] ^= 1 << rng.randrange(8)
    else:
        changed[at : at + 4] = rng.choice([0, 1, 2**26, 2**31 - 1, 2**31, 2**32 - 1]).to_bytes(4, "little")
    return bytes(changed)


@pytest.mark.parametrize(
    "name",
    [
        *("raw.tif", "zlib.tif", "lzw.tif", "big.tif", "imagej.tif", "ome.tif", "pyramid.tif"),
        *("array.npy", "old.h5", "new.h5"),
    ],
)
def test_damaged_files(sources, tmp_path, reader, name):
    rng, data, target = random.Random(name), (sources / name).read_bytes(), tmp_path / name
    target.write_bytes(data)
    assert reader(target) == (0, "")
    statuses = []
    for trial in range(TRIALS):
        target.write_bytes(damaged(data, rng))
        status, said = reader(target)
        assert status in (0, 2), f"trial {trial}: {status}, {said}"
        statuses.append(status)
    assert 2 in statuses


VALUES = [
    None,
    -1,
    10**30,
    10**400,
    float("inf"),
    "x",
    [],
    {},
    [5],
    [-1] * 3,
    [0] * 3,
    [10**12] * 3,
    {"a": 1},
]


def places(value, at=()):
    yield at
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from places(value[key], (*at, key))


@pytest.mark.parametrize(
    ("version", "file"), [(2, ".zattrs"), (2, "0/.zarray"), (3, "zarr.json"), (3, "0/zarr.json")]
)
def test_damaged_zarr_metadata(tmp_path, reader, version, file):
    path = tmp_path / "a.zarr"
    write_volume(path, PICTURE, (3, 1, 1), "um", chunks=(2, 24, 20), zarr_format=version)
    assert reader(path) == (0, "")
    document = json.loads((path / file).read_text())
    trials = [(at, value) for at in places(document) for value in VALUES]
    shapes = [trial for trial in trials if trial[0][-1:] in (("shape",), ("chunks",), ("chunk_shape",))]
    for at, value in random.Random(version).sample(trials, 60) + shapes:
        changed = inner = json.loads(json.dumps(document))
        for key in at[:-1]:
            inner = inner[key]
        if at:
            inner[at[-1]] = value
        (path / file).write_text(json.dumps(changed if at else value))
        for target in (path, path / "0"):
            status, said = reader(target)
            assert status in (0, 2), f"{at} = {str(value)[:40]}: {status}, {said}"


# --- files that would become much longer than they say ---

LONG = bytes(512 * 2**20)
CHUNK = (4, 16, 16)


def zarr_of(path: Path, version: int, codec: str, chunk: bytes) -> Path:
    settings = {"zlib": {"level": 1}, "gzip": {"level": 1}, "bz2": {"level": 1}, "zstd": {"level": 1}}
    blosc = {"cname": "zstd", "clevel": 3, "shuffle": 1}
    path.mkdir()
    if version == 2:
        document = {"zarr_format": 2, "shape": CHUNK, "chunks": CHUNK, "dtype": "<u2", "filters": None}
        document |= {"compressor": {"id": codec, **settings.get(codec, blosc)}, "fill_value": 0, "order": "C"}
        (path / ".zarray").write_text(json.dumps(document))
        (path / "0.0.0").write_bytes(chunk)
        return path
    if codec == "blosc":
        blosc |= {"shuffle": "shuffle", "typesize": 2, "blocksize": 0}
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": CHUNK,
        "data_type": "uint16",
        "fill_value": 0,
    }
    document["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": CHUNK}}
    document["chunk_key_encoding"] = {"name": "default", "configuration": {"separator": "/"}}
    document["codecs"] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": codec, "configuration": settings.get(codec, blosc)},
    ]
    (path / "zarr.json").write_text(json.dumps(document))
    (path / "c/0/0").mkdir(parents=True)
    (path / "c/0/0/0").write_bytes(chunk)
    return path


ENCODERS = {
    "zlib": lambda data: zlib.compress(data, 1),
    "gzip": lambda data: gzip.compress(data, 1),
    "bz2": lambda data: bz2.compress(data, 1),
    "zstd": imagecodecs.zstd_encode,
    "blosc": lambda data: imagecodecs.blosc_encode(data, typesize=2),
}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("codec", ["gzip", "zstd", "blosc"])
def test_chunks_of_a_zarr_that_unpack_without_end(tmp_path, version, codec, peak_memory):
    right = np.arange(1024, dtype=np.uint16).reshape(CHUNK)
    path = zarr_of(tmp_path / "right.zarr", version, codec, ENCODERS[codec](right.tobytes()))
    np.testing.assert_array_equal(open_volume(path).read_all(), right)
    path = zarr_of(tmp_path / "long.zarr", version, codec, ENCODERS[codec](LONG))
    with peak_memory(64), pytest.raises(VolumeError, match=r"long\.zarr"):
        open_volume(path).read_all()


def test_chunks_of_an_hdf5_file_that_unpack_without_end(tmp_path, peak_memory):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        array = file.create_dataset("raw", CHUNK, "u2", chunks=CHUNK, compression="gzip")
        array.id.write_direct_chunk((0, 0, 0), zlib.compress(LONG, 1))
    with peak_memory(64), pytest.raises(VolumeError, match=r"a\.h5 is damaged: its chunk at \(0, 0, 0\) has"):
        open_volume(tmp_path / "a.h5").read_all()


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_strips_of_a_tiff_that_unpack_without_end(tmp_path, codec, peak_memory):
    encoded, path = ENCODERS[codec](LONG), tmp_path / "a.tif"
    pieces = iter([encoded] * 4)
    compression = {"zlib": 8, "zstd": 50000}[codec]
    options = {
        "shape": PICTURE.shape,
        "dtype": PICTURE.dtype,
        "photometric": "minisblack",
        "rowsperstrip": 48,
    }
    tifffile.imwrite(path, pieces, compression=compression, **options)
    with peak_memory(64), pytest.raises(VolumeError, match=r"a\.tif: section 1 cannot be decoded"):
        open_volume(path).read_all()


def test_a_tile_that_is_far_larger_than_its_bytes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PICTURE[0], compression="zlib", tile=(48, 48), metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        for code in (322, 323):
            tag = tif.pages[0].tags[code]
            data[tag.offset + 2 : tag.offset + 12] = b"\x04\0\x01\0\0\0" + (2**20).to_bytes(4, "little")
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(VolumeError, match=r"a\.tif: page 1 is damaged: \d+ bytes cannot hold a piece of"):
        open_volume(tmp_path / "a.tif")


# --- numbers that no file can hold ---


def test_more_voxels_than_there_is_memory(tmp_path, reader):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (10**4, 10**4, 10**4), "u2", chunks=(64, 64, 64))
    status, said = reader(tmp_path / "a.h5")
    assert status == 2 and "memory ran out while" in said and "it is damaged" in said
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("raw", (10**7, 10**7, 10**7), "u2", chunks=(64, 64, 64))
    with pytest.raises(VolumeError, match=r"b\.h5 is damaged: no file holds the voxels of shape"):
        open_volume(tmp_path / "b.h5")


def test_a_numpy_file_with_more_or_less_than_its_array(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, PICTURE)
    whole = path.read_bytes()
    path.write_bytes(whole + whole)
    with pytest.raises(VolumeError, match=r"a\.npy is damaged: \d+ bytes follow its array"):
        open_volume(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(VolumeError, match=r"a\.npy is truncated or no NumPy file"):
        open_volume(path)


def test_a_numpy_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "a.npz", PICTURE)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(VolumeError, match=r"a\.npy is truncated or no NumPy file"):
        open_volume(tmp_path / "a.npy")
