"""Volumes as Dask arrays (the extra ``dask``): computed chunk by chunk, also on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skoots.errors import SkootsError
from skoots.geometry import Box
from skoots.volumes.base import Volume


def as_dask(volume: Volume, chunks: Sequence[int] | None = None) -> Any:
    """A volume as a lazy ``dask.array.Array``; only the chunks that are computed are read.

    Args:
        volume: from ``open_volume``.
        chunks: voxels of a chunk per spatial axis; None lets Dask choose.

    Returns:
        (*S), or (C, *S) where the volume has a channel axis.

    Raises:
        SkootsError: Dask is not installed.
    """
    try:
        import dask.array as da
    except ImportError as error:
        raise SkootsError("Dask arrays need the package: pip install 'skoots[dask]'.") from error
    lead = () if volume.channels is None else (volume.channels,)
    return da.from_array(
        _Sliced(volume), chunks="auto" if chunks is None else (*lead, *chunks), meta=np.empty(0, volume.dtype)
    )


class _Sliced:
    """A volume that is read by slices, as Dask asks for it."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.channels = () if volume.channels is None else (volume.channels,)
        self.shape = (*self.channels, *volume.shape)
        self.ndim = len(self.shape)
        self.dtype = volume.dtype

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        bounds = [part.indices(n) for part, n in zip(index, self.shape)]
        spatial = bounds[len(self.channels) :]
        array = self.volume.read(Box(tuple(b[0] for b in spatial), tuple(b[1] for b in spatial)))
        return array[slice(*bounds[0])] if self.channels else array
