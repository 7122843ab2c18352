"""Data sets in HDF5 files, named ``file.h5:/dataset``. The h5py package is an extra."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skoots.errors import VolumeError
from skoots.registry import near_misses
from skoots.volumes.base import Volume, place_of_file
from skoots.volumes.cache import ChunkCache
from skoots.volumes.damage import damage_names
from skoots.volumes.layout import Layout, layout_of, named_axes
from skoots.volumes.segments import SegmentCache
from skoots.volumes.units import plain_unit

_NAME = re.compile(r"^(?P<file>.*\.(?:h5|hdf5|hdf))(?::(?P<dataset>.*))?$", re.IGNORECASE | re.DOTALL)
_CHUNK_OVERHEAD = 2**16
_DAMAGED = "is damaged"
# attributes that hold edge lengths in z y x: ours, ilastik's and PlantSeg's, CREMI's
_SIZE_ATTRIBUTES = ("voxel_size", "element_size_um", "resolution", "spacing")


def split_name(path: str) -> tuple[str, str | None] | None:
    """File and data set of ``file.h5:/dataset``, or None if the path is not of this kind."""
    match = _NAME.match(path)
    if match is None:
        return None
    dataset = (match["dataset"] or "").strip("/")
    return match["file"], dataset or None


def import_h5py(path: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise VolumeError(f"{path} is an HDF5 file, which needs h5py: pip install 'skoots[hdf5]'.") from error
    return h5py


class HDF5Volume(Volume):
    """A data set of an HDF5 file, which is open only while it is read: processes and threads may share it.

    Args:
        path: ``file.h5:/dataset``, or ``file.h5`` if it has one data set.
        axes: its axes, where the dimension labels are wrong or missing.
        voxel_size: edge lengths that win over those of the file.

    Raises:
        VolumeError: h5py is missing, or the file is damaged, or which data set is meant is not clear.
    """

    def __init__(self, path: str, axes: str | None = None, voxel_size: Sequence[float] | None = None) -> None:
        self._h5py = import_h5py(path)
        file, dataset = split_name(path) or (path, None)
        if Path(file).stat().st_size == 0:
            raise VolumeError(f"{file} is empty (0 bytes); write or copy it again.")
        self._file = file
        with opened(self._h5py, self._file) as root:
            self._dataset = _find_dataset(self._h5py, file, root, dataset)
            with damage_names(path, _DAMAGED):
                array = root[self._dataset]
                shape, dtype, stored = array.shape, array.dtype, array.chunks
                names = [dimension.label for dimension in array.dims]
                attributes = _attributes(self._h5py, array)
        layout = layout_of(path, shape, named_axes(names, shape), axes)
        lengths, unit = _voxel_size(attributes, layout)
        self._chunks = None if stored is None else tuple(stored[a] for a in layout.spatial)
        super().__init__(path, layout, dtype, lengths, unit, axes, voxel_size)

    def cached_in(self, cache: SegmentCache) -> Volume:
        return ChunkCache(self, cache, self._chunks)

    def _place(self) -> tuple[Any, ...] | None:
        with opened(self._h5py, self._file) as root, damage_names(self.path, _DAMAGED):
            array = root[self._dataset]  # behind a link, perhaps into another file
            file = place_of_file(array.file.filename)
            return None if file is None else (*file, self._h5py.h5o.get_info(array.id).addr)

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        with opened(self._h5py, self._file) as root, damage_names(self.path, _DAMAGED):
            array = root[self._dataset]
            read = np.empty([part.stop - part.start for part in index], array.dtype)
            if array.chunks is not None:
                self._check_chunks(array, index)
            array.read_direct(read, index)
            return read

    def _check_chunks(self, array: Any, index: tuple[slice, ...]) -> None:
        """The library decodes a chunk to its end, however long that is; one that is too long is not begun."""
        most = 2 * math.prod(array.chunks) * array.dtype.itemsize + _CHUNK_OVERHEAD
        corners = (range(part.start // n * n, part.stop, n) for part, n in zip(index, array.chunks))
        for corner in itertools.product(*corners):
            size = array.id.get_chunk_info_by_coord(corner).size
            if size > most:
                raise VolumeError(
                    f"{self.path} is damaged: its chunk at {corner} has {size} bytes for {array.chunks} "
                    "voxels. Write or copy it again."
                )


@contextmanager
def opened(h5py: Any, file: str) -> Iterator[Any]:
    """An HDF5 file, open for reading.

    Raises:
        VolumeError: it is damaged, or another program writes to it.
    """
    with damage_names(file, "is truncated or no HDF5 file"):
        try:
            root = h5py.File(file, "r")
        except BlockingIOError as error:
            raise VolumeError(
                f"{file} is open in another program that writes to it. Close it there first."
            ) from error
    try:
        yield root
    finally:
        with damage_names(file, _DAMAGED):
            root.close()


def dataset_names(file: str) -> list[str]:
    """Names of all data sets of a file that can be images or labels.

    Raises:
        VolumeError: h5py is missing, or the file is damaged.
    """
    h5py = import_h5py(file)
    with opened(h5py, file) as root:
        return _images(h5py, file, root)


def _images(h5py: Any, file: str, root: Any) -> list[str]:
    found: list[str] = []

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "biuf":
            found.append(name)

    with damage_names(file, _DAMAGED):
        root.visititems(collect)
    return found


def _find_dataset(h5py: Any, file: str, root: Any, dataset: str | None) -> str:
    found = _images(h5py, file, root)
    listing = ", ".join(f"/{name}" for name in found) or "none that is an image"
    if dataset is None:
        if len(found) == 1:
            return found[0]
        raise VolumeError(
            f"{file} has {len(found)} data sets ({listing}); name one, as in {file}:/{(found or ['raw'])[0]}."
        )
    with damage_names(file, _DAMAGED):
        if isinstance(root.get(dataset), h5py.Dataset):
            return dataset
    close = near_misses(dataset, found)
    hint = f"Did you mean /{close[0]}?" if close else f"It has: {listing}."
    raise VolumeError(f"{file} has no data set /{dataset}. {hint}")


def _attributes(h5py: Any, array: Any) -> dict[str, Any]:
    """Those of a data set; where they state no voxel size, also those of its group, if all it holds is of one
    shape: of a pyramid they would be the finest level's."""
    own = dict(array.attrs)
    alike = {item.shape for item in array.parent.values() if isinstance(item, h5py.Dataset) and item.ndim > 1}
    if own.keys() & set(_SIZE_ATTRIBUTES) or alike != {array.shape}:
        return own
    return {**array.parent.attrs, **own}


def _voxel_size(attributes: dict[str, Any], layout: Layout) -> tuple[list[float] | None, str | None]:
    for name in _SIZE_ATTRIBUTES:
        values = np.ravel(attributes.get(name, ()))
        if len(values) >= len(layout.shape) and values.dtype.kind in "iuf":
            unit = (
                "um"
                if name == "element_size_um"
                else plain_unit(_text(attributes.get("unit", attributes.get("units"))))
            )
            return [float(value) for value in values[-len(layout.shape) :]], unit
    return None, None


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def dataset_exists(name: str) -> bool:
    """Whether the data set of ``file.h5:/dataset`` is there; without a data set, whether the file is."""
    file, dataset = split_name(name) or (name, None)
    h5py = import_h5py(name)  # asked first, so that a missing h5py is said before the work
    if not Path(file).exists():
        return False
    if dataset is None:
        return True
    with opened(h5py, file) as root:
        return holds(h5py, root, file, dataset)


def holds(h5py: Any, root: Any, file: str, dataset: str) -> bool:
    """Whether a data set is there.

    Raises:
        VolumeError: a group has its name, or a data set that of a group which it is to lie in.
    """
    parts = dataset.split("/")
    for depth in range(1, len(parts) + 1):
        name = "/".join(parts[:depth])
        with damage_names(file, _DAMAGED):
            found = root.get(name)
        if found is None:
            return False
        if isinstance(found, h5py.Dataset) != (depth == len(parts)):
            kind = "data set" if isinstance(found, h5py.Dataset) else "group"
            raise VolumeError(
                f"{file} has a {kind} /{name}, so /{dataset} cannot be written there. Choose another name."
            )
    return True
