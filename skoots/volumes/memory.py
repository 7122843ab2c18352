"""NumPy files (``.npy``), memory-mapped. They hold no voxel size: state it when they are opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skoots.errors import VolumeError
from skoots.unfinished import Unfinished
from skoots.volumes.base import Volume, WritableVolume, place_of_file
from skoots.volumes.damage import damage_names
from skoots.volumes.layout import Layout, guess_axes, layout_of
from skoots.volumes.output import reserve


class NumpyVolume(Volume):
    """An array in a ``.npy`` file.

    Args:
        path: the file.
        axes: its axes, where they are not ``yx``, ``zyx`` or, with the channels on the shorter end,
            ``czyx`` or ``zyxc``.
        voxel_size: edge lengths of a voxel.

    Raises:
        VolumeError: the file is empty, truncated or holds no numbers.
    """

    def __init__(self, path: str, axes: str | None = None, voxel_size: Sequence[float] | None = None) -> None:
        if Path(path).stat().st_size == 0:
            raise VolumeError(f"{path} is empty (0 bytes); write or copy it again.")
        with damage_names(path, "is truncated or no NumPy file", "Write it again with numpy.save."):
            self._array: np.memmap = np.lib.format.open_memmap(path, mode="r")
        rest = Path(path).stat().st_size - self._array.offset - self._array.nbytes
        if rest != 0:
            raise VolumeError(
                f"{path} is damaged: {rest} bytes follow its array of shape {self._array.shape}. Write it "
                "again with numpy.save."
            )
        layout = layout_of(path, self._array.shape, guess_axes(self._array.shape), axes)
        super().__init__(path, layout, self._array.dtype, None, None, axes, voxel_size)

    def _place(self) -> tuple[int, ...] | None:
        return place_of_file(self.path)

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.array(self._array[index])


class NumpyOutput(WritableVolume):
    """A ``.npy`` file written by box.

    Args:
        target: the file to become.
        layout: axes, channels first.
        dtype: type of the voxels.
    """

    def __init__(self, target: Unfinished, layout: Layout, dtype: np.dtype) -> None:
        super().__init__(str(target.path), layout, dtype)
        self._target = target
        self._array: np.memmap | None = np.lib.format.open_memmap(
            str(target.temporary), mode="w+", dtype=self.dtype, shape=layout.stored_shape
        )
        reserve(target.temporary)

    @property
    def _open_array(self) -> np.memmap:
        if self._array is None:
            raise ValueError(f"{self.path} has been closed")
        return self._array

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.array(self._open_array[index])

    def _write(self, index: tuple[slice, ...], array: np.ndarray) -> None:
        self._open_array[index] = array

    def close(self) -> None:
        if self._array is not None:
            self._array.flush()
            self._array = None
            self._target.commit()

    def discard(self) -> None:
        self._array = None
        self._target.remove()
