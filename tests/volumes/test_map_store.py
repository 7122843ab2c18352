"""The maps of a whole volume, in memory or in files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from skoots.inference.maps import Maps

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.inference import maps as module


@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 8)])
@pytest.mark.parametrize("in_files", [False, True])
def test_maps_are_kept_by_box_in_five_bytes_or_so(
    in_files: bool, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(np.prod(shape)) * (len(shape) + 6)
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", limit - in_files)
    maps = Maps(shape, tmp_path)
    assert len(list(tmp_path.glob(".skoots-maps-*/*.npy"))) == 4 * in_files
    assert isinstance(maps.vector, np.memmap) == in_files
    assert [a.dtype.name for a in (maps.vector, maps.semantic, maps.skeleton, maps.labels)] == [
        "int8", "uint8", "uint8", "int32",
    ]  # fmt: skip

    rng = np.random.default_rng(1)
    vector = rng.uniform(-1, 1, (len(shape), *shape)).astype(np.float32)
    semantic, skeleton = rng.uniform(0, 1, (2, 1, *shape)).astype(np.float32)
    half = shape[0] // 2
    for box in (Box((0,) * len(shape), (half, *shape[1:])), Box((half, *(0,) * (len(shape) - 1)), shape)):
        window = (slice(None), *box.slices)
        maps.store(
            box, {"vector": vector[window], "semantic": semantic[window], "skeleton": skeleton[window]}
        )
    assert np.abs(maps.vector / 127 - vector).max() <= 0.5 / 127 + 1e-6
    assert np.abs(maps.semantic / 255 - semantic[0]).max() <= 0.5 / 255 + 1e-6
    assert np.abs(maps.skeleton / 255 - skeleton[0]).max() <= 0.5 / 255 + 1e-6
    assert not maps.labels.any()
    maps.close()
    assert list(tmp_path.iterdir()) == []


def test_the_ends_of_the_scales_are_exact(tmp_path: Path) -> None:
    maps = Maps((1, 3), tmp_path)
    ends = np.array([[[-1.0, 0.0, 1.0]]], np.float32)
    probability = np.array([[[0.0, 0.5, 1.0]]], np.float32)
    maps.store(
        Box.of_shape((1, 3)),
        {"vector": np.concatenate([ends, ends]), "semantic": probability, "skeleton": probability},
    )
    assert maps.vector[1].tolist() == [[-127, 0, 127]]
    assert maps.semantic.tolist() == maps.skeleton.tolist() == [[0, 128, 255]]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot claim space beforehand")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 1)
    with pytest.raises(VolumeError, match=r"No space left on device.*write the output to a larger disk"):
        Maps((4, 5, 6), tmp_path)
    assert list(tmp_path.iterdir()) == []
