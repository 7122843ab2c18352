"""Data sets of HDF5 files that are written by box."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skoots.errors import VolumeError
from skoots.unfinished import Unfinished
from skoots.volumes.base import WritableVolume
from skoots.volumes.hdf5 import holds, import_h5py, opened, split_name
from skoots.volumes.hdf5_stream import HDF5Stream
from skoots.volumes.layout import Layout
from skoots.volumes.units import convert

PATIENCE_SECONDS = 3600.0
log = logging.getLogger("skoots")


class HDF5Output(WritableVolume):
    """A data set written by box, in a new file or beside what an existing one holds.

    It is written into a file of its own. When it is closed it is merged, under a lock, with what the file of
    the final name holds by then: so any number of processes may write data sets of one file at once. If the
    work is cut short, the file is as it was.

    Args:
        name: ``file.h5:/dataset``; without a data set it is ``/volume``.
        layout: axes, channels first.
        dtype: type of the voxels.
        voxel_size: edge lengths, or None.
        unit: their unit, or None.
        chunks: shape of a chunk in stored axes, or None for h5py's choice.
        overwrite: whether it may replace a data set that is there.
    """

    def __init__(
        self,
        name: str,
        layout: Layout,
        dtype: np.dtype,
        voxel_size: Sequence[float] | None,
        unit: str | None,
        chunks: tuple[int, ...] | None,
        overwrite: bool,
    ) -> None:
        super().__init__(name, layout, dtype, voxel_size, unit)
        file, dataset = split_name(name) or (name, None)
        self._h5py, self._inner, self._overwrite = import_h5py(name), dataset or "volume", overwrite
        self._target = Unfinished(Path(file), overwrite=True, kind=VolumeError)
        self._root: Any = None
        self._stream: HDF5Stream | None = None
        try:
            self._stream = HDF5Stream(self._target.temporary)
            self._root = self._h5py.File(self._stream, "w")
            self._array = self._root.create_dataset(
                self._inner,
                shape=layout.stored_shape,
                dtype=self.dtype,
                chunks=chunks or True,
                compression="gzip",
            )
            for dimension, axis in zip(self._array.dims, layout.axes):
                dimension.label = axis
            self._array.attrs.update(_size_attributes(self.voxel_size, unit))
            self._stream.check()
        except BaseException:
            self.discard()
            raise

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self._array[index])

    def _write(self, index: tuple[slice, ...], array: np.ndarray) -> None:
        self._array[index] = array
        if self._stream is not None:
            self._stream.check()

    def close(self) -> None:
        if self._root is not None and self._stream is not None:
            self._root.close()
            self._root = None
            self._stream.check()
            self._stream.close()
            try:
                with _turn(self._target.path):
                    if self._target.path.exists():
                        self._merge()
                    self._target.commit()
            except VolumeError as error:
                raise VolumeError(
                    f"{error} What was to be written there is in {self._target.set_aside()}."
                ) from error

    def _merge(self) -> None:
        """Put what the file holds by now beside what was written."""
        file, merged = self._target.path, self._target.folder / "merged"
        # as long as it is open, no other program can begin to write to it
        with opened(self._h5py, str(file)) as root:
            if holds(self._h5py, root, str(file), self._inner) and not self._overwrite:
                raise VolumeError(f"{self.path} has appeared meanwhile.")
            shutil.copyfile(file, merged)
        stream = HDF5Stream(merged)
        try:
            with (
                self._h5py.File(stream, "r+") as root,
                self._h5py.File(self._target.temporary, "r") as written,
            ):
                if self._inner in root:
                    del root[self._inner]
                written.copy(written[self._inner], root, name=self._inner)
            stream.check()
        finally:
            stream.close()
        merged.replace(self._target.temporary)

    def discard(self) -> None:
        if self._root is not None:
            self._root.close()
            self._root = None
        if self._stream is not None:
            self._stream.close()
        self._target.remove()


@contextmanager
def _turn(file: Path) -> Iterator[None]:
    """Wait until no other process merges into a file; the system frees the lock of one that was killed."""
    from filelock import FileLock, Timeout

    lock = FileLock(file.with_name(f".{file.name}.lock"))
    try:
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        raise VolumeError(
            f"Another process has been writing into {file} for {PATIENCE_SECONDS / 60:g} minutes."
        ) from None
    except NotImplementedError as error:
        log.warning("%s cannot be locked (%s); see to it that only one process writes into it.", file, error)
    try:
        yield
    finally:
        if os.name == "posix":  # elsewhere an open file cannot be removed, and filelock does it
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _size_attributes(voxel_size: Sequence[float] | None, unit: str | None) -> dict[str, Any]:
    if voxel_size is None:
        return {}
    attributes: dict[str, Any] = {"voxel_size": list(voxel_size)} | ({} if unit is None else {"unit": unit})
    micrometres = [convert(length, unit, "um") for length in voxel_size]
    if None not in micrometres and unit is not None:
        attributes["element_size_um"] = micrometres
    return attributes
