"""Volumes as Dask arrays."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from skoots.errors import SkootsError
from skoots.volumes import as_dask, open_volume, write_volume


def test_without_dask_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(tmp_path / "a.npy", np.zeros((4, 5, 6), np.uint8))
    monkeypatch.setitem(sys.modules, "dask.array", None)
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(SkootsError, match=r"pip install 'skoots\[dask\]'"):
        as_dask(open_volume(tmp_path / "a.npy"))


@pytest.mark.parametrize("channels", [None, 2])
def test_chunks_are_the_voxels_of_their_place(tmp_path: Path, channels: int | None) -> None:
    pytest.importorskip("dask.array")
    shape = (9, 20, 30) if channels is None else (channels, 9, 20, 30)
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    write_volume(tmp_path / "a.zarr", array, channels=channels)
    lazy = as_dask(open_volume(tmp_path / "a.zarr"), chunks=(4, 8, 16))
    assert lazy.dtype == np.uint16 and lazy.shape == shape and lazy.numblocks[-3:] == (3, 3, 2)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), array)
    part = lazy[..., 3:7, 5:19, 2:29].compute(scheduler="synchronous")
    np.testing.assert_array_equal(part, array[..., 3:7, 5:19, 2:29])
