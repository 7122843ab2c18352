"""A volume: an image or a label array on disk with a voxel size."""

from __future__ import annotations

import math
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.refusals import MEMORY, reading, writing
from skoots.volumes.layout import Layout
from skoots.volumes.segments import SegmentCache


class Volume(ABC):
    """An image or label array on disk, read lazily by Box, channels first whatever the order on disk.

    A volume can be pickled: the copy opens the file anew. So every worker process may have its own.

    Args:
        path: the file, as the user named it.
        layout: where its axes lie.
        dtype: type of its voxels; bool is read as uint8, and all are read in native byte order.
        voxel_size: D edge lengths of a voxel that the file states, or None.
        unit: unit of the voxel size, or None.
        given_axes: axes that the user stated.
        given_voxel_size: D edge lengths that the user stated; they win.

    Raises:
        VolumeError: voxels that are no numbers, or a stated voxel size that does not fit.
    """

    def __init__(
        self,
        path: str,
        layout: Layout,
        dtype: np.dtype,
        voxel_size: Sequence[float] | None = None,
        unit: str | None = None,
        given_axes: str | None = None,
        given_voxel_size: Sequence[float] | None = None,
    ) -> None:
        self.path = path
        self.layout = layout
        self.dtype = _number_type(path, dtype)
        if math.prod(layout.stored_shape) * self.dtype.itemsize > sys.maxsize:
            raise VolumeError(
                f"{path} is damaged: no file holds the voxels of shape {layout.stored_shape}. Write it again."
            )
        if given_voxel_size is not None:
            voxel_size, unit = _stated_voxel_size(path, given_voxel_size, len(layout.shape)), None
        self.voxel_size = plausible_voxel_size(voxel_size, len(layout.shape))
        self.unit = unit
        self._given = (given_axes, given_voxel_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape: (Z, Y, X) or (Y, X)."""
        return self.layout.shape

    @property
    def spatial_dims(self) -> int:
        return len(self.shape)

    @property
    def channels(self) -> int | None:
        """Number of channels, or None where the file has no channel axis."""
        return self.layout.channels

    @property
    def axes(self) -> str:
        """Axes of what ``read`` returns: ``yx``, ``zyx``, ``cyx`` or ``czyx``."""
        return self.layout.axes

    def read(self, box: Box) -> np.ndarray:
        """Read a box, and no more of the file than it needs.

        Args:
            box: D-dimensional, inside the volume.

        Returns:
            (*S) or, with a channel axis, (C, *S); native byte order, contiguous, the caller's to change.

        Raises:
            VolumeError: the box reaches outside, or the file turns out to be damaged.
        """
        self._check_box(box)
        if box.is_empty:
            return np.zeros(self._array_shape(box), self.dtype)
        try:
            with reading(self.path, VolumeError):
                stored = self._read(self.layout.index(box))
            return np.ascontiguousarray(self.layout.channels_first(stored), dtype=self.dtype)
        except MemoryError as error:
            size = math.prod(self._array_shape(box)) * self.dtype.itemsize / 2**30
            raise VolumeError(
                f"{self.path}: memory ran out while {size:.3g} GiB were read, the box from {box.start} to "
                f"{box.stop}. {MEMORY} If the volume should not be so large, it is damaged."
            ) from error

    def read_all(self) -> np.ndarray:
        """The whole volume in memory: (*S) or (C, *S)."""
        return self.read(Box.of_shape(self.shape))

    def cached_in(self, cache: SegmentCache) -> Volume:
        """The same volume, which keeps there what it decodes; one that decodes nothing is returned as it
        is."""
        return self

    def is_same_array(self, other: Volume) -> bool:
        """Whether two volumes are one array on disk, whatever its names: links, levels, data sets."""
        place = self._place()
        return place is not None and place == other._place()

    def _place(self) -> tuple[Any, ...] | None:
        """What no two arrays on disk have in common; None for one that is none of its own."""
        return None

    @abstractmethod
    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        """A part of the stored array, one slice a stored axis, in memory of its own."""

    def _array_shape(self, box: Box) -> tuple[int, ...]:
        return box.shape if self.channels is None else (self.channels, *box.shape)

    def _check_box(self, box: Box) -> None:
        if box.ndim != self.spatial_dims:
            raise VolumeError(
                f"{self.path}: a box of {box.ndim} dimensions does not fit a volume of {self.spatial_dims}."
            )
        if not Box.of_shape(self.shape).contains(box):
            raise VolumeError(
                f"{self.path}: the box from {box.start} to {box.stop} reaches outside the volume of shape "
                f"{self.shape}."
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, *self._given)

    def __repr__(self) -> str:
        what = f"{self.axes} {self.shape}, {self.dtype}, voxel_size={self.voxel_size}"
        return f"{type(self).__name__}({self.path!r}, {what})"


class WritableVolume(Volume):
    """A volume that is being written under a temporary name; ``close`` gives it its own.

    As a context manager it closes at the end, and leaves nothing behind if the block fails. What was written
    can be read back before it is closed. It belongs to one process.
    """

    def write(self, box: Box, array: np.ndarray) -> None:
        """Write a box.

        Args:
            box: D-dimensional, inside the volume.
            array: (*S) or (C, *S), of the box's shape.

        Raises:
            VolumeError: the box reaches outside, the values do not fit the type, or the disk is full.
        """
        self._check_box(box)
        if array.shape != self._array_shape(box):
            raise VolumeError(
                f"{self.path}: an array of shape {array.shape} does not fit the box {self._array_shape(box)}."
            )
        if not box.is_empty:
            values = self._cast(array)
            with writing(self.path, VolumeError):
                self._write(self.layout.index(box), values)

    def _cast(self, array: np.ndarray) -> np.ndarray:
        if (
            not np.can_cast(array.dtype, self.dtype, "safe")
            and self.dtype.kind in "iu"
            and array.dtype.kind in "iu"
        ):
            limits = np.iinfo(self.dtype)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise VolumeError(
                    f"{self.path}: values from {array.min()} to {array.max()} do not fit into {self.dtype}."
                )
            return array.astype(self.dtype)
        if not np.can_cast(array.dtype, self.dtype, "same_kind"):
            raise VolumeError(f"{self.path}: {array.dtype} cannot be written into a volume of {self.dtype}.")
        return array.astype(self.dtype, copy=False)

    @abstractmethod
    def _write(self, index: tuple[slice, ...], array: np.ndarray) -> None:
        """Write a part of the stored array."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file and give it its name; a second call does nothing."""

    @abstractmethod
    def discard(self) -> None:
        """Throw away what was written; nothing under the final name is touched."""

    def __enter__(self) -> WritableVolume:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            with writing(self.path, VolumeError):
                self.close()
        except BaseException:  # a full disk may show no sooner
            self.discard()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"{self.path} is being written and belongs to one process; close it, then open it elsewhere"
        )


def place_of_file(path: str | Path) -> tuple[int, int] | None:
    """What tells a file or folder from all others, whatever its names; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def plausible_voxel_size(values: Sequence[float] | None, ndim: int) -> tuple[float, ...] | None:
    """The last ``ndim`` lengths; None where some are missing, not positive or not finite."""
    if values is None or len(values) < ndim:
        return None
    lengths = tuple(float(v) for v in values)[-ndim:]
    return lengths if all(math.isfinite(v) and v > 0 for v in lengths) else None


def _stated_voxel_size(path: str, values: Sequence[float], ndim: int) -> tuple[float, ...]:
    order = " ".join("zyx"[-ndim:])
    if len(values) != ndim:
        raise VolumeError(
            f"{path}: the voxel size {list(values)} has {len(values)} numbers for {ndim} axes ({order})."
        )
    lengths = plausible_voxel_size(values, ndim)
    if lengths is None:
        raise VolumeError(f"{path}: the voxel size {list(values)} must be positive numbers ({order}).")
    return lengths


def _number_type(path: str, dtype: np.dtype) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise VolumeError(f"{path} holds {dtype}; voxels must be integers or floats of 8 to 64 bit.")
    return dtype.newbyteorder("=")
