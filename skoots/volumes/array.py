"""A volume that is an array in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skoots.volumes.base import Volume
from skoots.volumes.layout import layout_of


class ArrayVolume(Volume):
    """An array, read like a file.

    Args:
        name: what messages call it, e.g. the file that it was read from.
        array: (*S), or (C, *S) if ``channels_first``.
        voxel_size: D edge lengths of a voxel, or None.
        unit: unit of the voxel size.
        channels_first: the first axis is channels.
    """

    def __init__(
        self,
        name: str,
        array: np.ndarray,
        voxel_size: Sequence[float] | None = None,
        unit: str | None = None,
        channels_first: bool = False,
    ) -> None:
        axes = "zyx"[-(array.ndim - channels_first) :]
        layout = layout_of(name, array.shape, ("c" if channels_first else "") + axes)
        super().__init__(name, layout, array.dtype, voxel_size, unit)
        self._array = array
        self._channels_first = channels_first

    @classmethod
    def of(cls, volume: Volume) -> ArrayVolume:
        """Another volume, read into memory."""
        return cls(
            volume.path, volume.read_all(), volume.voxel_size, volume.unit, volume.channels is not None
        )

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return self._array[index].copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self._array, self.voxel_size, self.unit, self._channels_first)
