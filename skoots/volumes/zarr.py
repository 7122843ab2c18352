"""Zarr v2 and v3 arrays and OME-Zarr groups in folders, through tensorstore."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skoots.unfinished import Unfinished, flush_to_disk
from skoots.volumes.base import Volume, WritableVolume, place_of_file
from skoots.volumes.cache import ChunkCache
from skoots.volumes.damage import damage_names
from skoots.volumes.layout import Layout, layout_of
from skoots.volumes.segments import SegmentCache
from skoots.volumes.units import convert
from skoots.volumes.zarr_chunks import BloscLengths
from skoots.volumes.zarr_metadata import StoredArray, chunks_of, find_array, group_metadata

_DRIVERS = {2: "zarr", 3: "zarr3"}
_DEFAULT_CHUNKS = {2: 512, 3: 64}


class ZarrVolume(Volume):
    """A Zarr array, level 0 of an OME-Zarr group, or the only array of a group.

    Opening reads nothing but the JSON; tensorstore starts at the first read. It runs threads, so the fork of
    a process that has read a Zarr volume cannot read any: start workers by ``spawn`` or ``forkserver``.

    Args:
        path: the folder of the array or group.
        axes: its axes, where its metadata are wrong or missing.
        voxel_size: edge lengths that win over those of the store.

    Raises:
        VolumeError: no array, several, or damaged metadata.
    """

    def __init__(self, path: str, axes: str | None = None, voxel_size: Sequence[float] | None = None) -> None:
        found = find_array(path)
        layout = layout_of(path, found.shape, found.axes, axes)
        lengths, unit = _voxel_size(found, layout)
        self._node = found.node
        self._chunks = chunks_of(found, layout)
        self._lengths = BloscLengths(path, found)
        self._store: Any = None
        super().__init__(path, layout, found.dtype, lengths, unit, axes, voxel_size)

    def cached_in(self, cache: SegmentCache) -> Volume:
        return ChunkCache(self, cache, self._chunks)

    def _place(self) -> tuple[Any, ...] | None:
        return place_of_file(self._node.folder)

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        import tensorstore

        with damage_names(
            self.path,
            "cannot be read",
            "It is damaged or of a compression that is not supported; write it again.",
        ):
            if self._store is None:
                spec = {"driver": _DRIVERS[self._node.zarr_format], "kvstore": _kvstore(self._node.folder)}
                self._store = tensorstore.open(spec, open=True, read=True).result()
            self._lengths.check(index)
            return np.asarray(self._store[index].read().result())


def _voxel_size(found: StoredArray, layout: Layout) -> tuple[list[float] | None, str | None]:
    if found.scale is None:
        return None, None
    unit = found.units[layout.spatial[-1]]
    lengths = [convert(found.scale[axis], found.units[axis], unit) for axis in layout.spatial]
    known = [length for length in lengths if length is not None]
    return (known, unit) if len(known) == len(lengths) else (None, None)


def _kvstore(folder: Path) -> dict[str, str]:
    return {"driver": "file", "path": str(folder.absolute()) + "/"}


class ZarrOutput(WritableVolume):
    """An OME-Zarr group with one level, written by box.

    Boxes that are whole chunks are written without reading; threads may write at once.

    Args:
        target: the folder to become.
        layout: axes, channels first.
        dtype: type of the voxels.
        voxel_size: edge lengths, or None.
        unit: their unit, or None.
        chunks: shape of a chunk in stored axes, or None for 64 voxels an axis (2D: 512).
        zarr_format: 2 writes OME-NGFF 0.4, 3 writes 0.5.
    """

    def __init__(
        self,
        target: Unfinished,
        layout: Layout,
        dtype: np.dtype,
        voxel_size: Sequence[float] | None,
        unit: str | None,
        chunks: tuple[int, ...] | None,
        zarr_format: int,
    ) -> None:
        import tensorstore

        super().__init__(str(target.path), layout, dtype, voxel_size, unit)
        self._target = target
        if chunks is None:
            edge = _DEFAULT_CHUNKS[len(layout.shape)]
            chunks = (1,) * (len(layout.axes) - len(layout.shape)) + tuple(min(n, edge) for n in layout.shape)
        target.temporary.mkdir()
        for name, content in group_metadata(
            layout, target.path.stem, self.voxel_size, unit, zarr_format
        ).items():
            (target.temporary / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
            flush_to_disk(target.temporary / name)  # as tensorstore does with chunks
        metadata = (_metadata_v2 if zarr_format == 2 else _metadata_v3)(layout, self.dtype, chunks)
        spec = {
            "driver": _DRIVERS[zarr_format],
            "kvstore": _kvstore(target.temporary / "0"),
            "metadata": metadata,
        }
        self._store: Any = None
        try:
            self._store = tensorstore.open(spec, create=True, open=False).result()
        except BaseException:  # a signal, too; what is on its way then would make the folder again
            self.discard()
            raise

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self._store[index].read().result())

    def _write(self, index: tuple[slice, ...], array: np.ndarray) -> None:
        self._store[index].write(np.ascontiguousarray(array)).result()

    def close(self) -> None:
        if self._store is not None:
            self._store = None
            self._target.commit()

    def discard(self) -> None:
        self._store = None
        self._target.remove()
        # After one chunk has failed, those still on their way make the folder again: until it stays away.
        away = 0
        for _ in range(300):
            if away == 10:
                break
            shutil.rmtree(self._target.folder, ignore_errors=True)
            time.sleep(0.01)
            away = 0 if self._target.folder.exists() else away + 1


def _metadata_v2(layout: Layout, dtype: np.dtype, chunks: tuple[int, ...]) -> dict[str, Any]:
    return {
        "shape": list(layout.stored_shape),
        "chunks": list(chunks),
        "dtype": dtype.newbyteorder("<").str,
        "compressor": {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1},
        "dimension_separator": "/",
        "fill_value": 0,
        "order": "C",
    }


def _metadata_v3(layout: Layout, dtype: np.dtype, chunks: tuple[int, ...]) -> dict[str, Any]:
    blosc = {"cname": "zstd", "clevel": 3, "shuffle": "shuffle", "typesize": dtype.itemsize}
    return {
        "shape": list(layout.stored_shape),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "data_type": dtype.name,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "blosc", "configuration": blosc},
        ],
        "fill_value": 0,
        "dimension_names": list(layout.axes),
    }
