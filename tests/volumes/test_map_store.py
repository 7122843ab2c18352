"""The maps of a whole volume, in memory or in files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.instances import PROBABILITY, VECTOR, Maps
from skoots.volumes import map_store as module
from skoots.volumes.map_store import MapStore

READ = {"vector": VECTOR, "semantic": PROBABILITY, "skeleton": PROBABILITY}


@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 8)])
@pytest.mark.parametrize("in_files", [False, True])
def test_maps_are_kept_by_box_in_five_bytes_or_so(
    in_files: bool, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(np.prod(shape)) * (len(shape) + 6)
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", limit - in_files)
    size = (2.0,) * len(shape)
    store = MapStore(READ, shape, size, (3.0,) * len(shape), tmp_path)
    maps = store.maps
    assert len(list(tmp_path.glob(".maps.*/*.npy"))) == 4 * in_files
    assert isinstance(maps.arrays["vector"], np.memmap) == in_files
    assert (maps.shape, maps.voxel_size, maps.scale) == (shape, size, (3.0,) * len(shape))
    assert [a.dtype.name for a in (*maps.arrays.values(), store.labels)] == [
        "int8", "uint8", "uint8", "int32",
    ]  # fmt: skip

    rng = np.random.default_rng(1)
    vector = rng.uniform(-1, 1, (len(shape), *shape)).astype(np.float32)
    semantic, skeleton = rng.uniform(0, 1, (2, 1, *shape)).astype(np.float32)
    half = shape[0] // 2
    for box in (Box((0,) * len(shape), (half, *shape[1:])), Box((half, *(0,) * (len(shape) - 1)), shape)):
        window = (slice(None), *box.slices)
        store.store(
            box, {"vector": vector[window], "semantic": semantic[window], "skeleton": skeleton[window]}
        )
    kept = maps.arrays
    assert np.abs(kept["vector"] / 127 - vector).max() <= 0.5 / 127 + 1e-6
    assert np.abs(kept["semantic"] / 255 - semantic).max() <= 0.5 / 255 + 1e-6
    assert np.abs(kept["skeleton"] / 255 - skeleton).max() <= 0.5 / 255 + 1e-6
    whole = Maps.of({"vector": vector, "semantic": semantic, "skeleton": skeleton}, READ, size, (3.0,))
    assert all(np.array_equal(kept[name], whole.arrays[name]) for name in READ)
    assert not store.labels.any()
    del kept, maps
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_the_ends_of_the_scales_are_exact(tmp_path: Path) -> None:
    store = MapStore(READ, (1, 5), (1.0, 1.0), (1.0, 1.0), tmp_path)
    ends = np.array([[[-1.0, 0.0, 1.0, np.nan, 3.0]]], np.float32)
    probability = np.array([[[0.0, 0.5, 1.0, np.nan, 3.0]]], np.float32)
    store.store(
        Box.of_shape((1, 5)),
        {"vector": np.concatenate([ends, -ends]), "semantic": probability, "skeleton": probability},
    )
    kept = store.maps.arrays
    assert kept["vector"].tolist() == [[[-127, 0, 127, 0, 127]], [[127, 0, -127, 0, -127]]]
    assert kept["semantic"].tolist() == kept["skeleton"].tolist() == [[[0, 128, 255, 0, 255]]]


def test_only_what_a_decoder_reads_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 4 * 5 * 5 - 1)
    store = MapStore({"semantic": PROBABILITY}, (4, 5), (1.0, 1.0), None, tmp_path)
    assert {path.name for path in tmp_path.glob(".maps.*/*.npy")} == {"semantic.npy", "labels.npy"}
    store.store(Box.of_shape((4, 5)), {name: np.ones((1, 4, 5)) for name in ("semantic", "skeleton")})
    assert (store.maps.above("semantic", 0.99)).all() and store.maps.scale is None
    store.close()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot claim space beforehand")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 1)
    with pytest.raises(VolumeError, match=r"No space left on device.*Write the output to a larger disk"):
        MapStore(READ, (4, 5, 6), (1.0,) * 3, (1.0,) * 3, tmp_path)
    assert list(tmp_path.iterdir()) == []
