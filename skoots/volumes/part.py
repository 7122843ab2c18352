"""A box of a volume as a volume of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes.base import Volume
from skoots.volumes.layout import Layout
from skoots.volumes.segments import SegmentCache


class PartVolume(Volume):
    """What lies in a box of a volume; nothing is read before it is asked for.

    Args:
        volume: the whole.
        box: of it.

    Raises:
        VolumeError: the box has other axes than the volume, reaches outside it, or is empty.
    """

    def __init__(self, volume: Volume, box: Box) -> None:
        if box.ndim != volume.spatial_dims:
            raise VolumeError(
                f"{volume.path}: box {box.start} to {box.stop} has {box.ndim} axes and the volume "
                f"{volume.spatial_dims}."
            )
        if box.is_empty or not Box.of_shape(volume.shape).contains(box):
            raise VolumeError(
                f"{volume.path}: box {box.start} to {box.stop} reaches outside the volume of shape "
                f"{volume.shape}."
            )
        lead = () if volume.channels is None else (volume.channels,)
        spatial = tuple(range(len(lead), len(lead) + box.ndim))
        layout = Layout((*lead, *box.shape), spatial, 0 if lead else None)
        super().__init__(volume.path, layout, volume.dtype, volume.voxel_size, volume.unit)
        self._volume, self._box = volume, box

    def cached_in(self, cache: SegmentCache) -> Volume:
        return PartVolume(self._volume.cached_in(cache), self._box)

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        part = index[-self.spatial_dims :]
        box = Box(tuple(s.start for s in part), tuple(s.stop for s in part))
        return self._volume.read(box.shift(self._box.start))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._volume, self._box)
