"""Volumes that stay on the device (``store: gpu``): windows are read there, and workers only draw."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from skoots.data.augment.base import Change
from skoots.data.augment.spatial_map import SpatialMap
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.raw_batch import RawSample, as_tensor
from skoots.errors import VolumeError
from skoots.geometry import Box

# Samples come out of worker processes, which share no memory of the device, so that they name their volume.
_VOLUMES: weakref.WeakValueDictionary[str, LabelledVolume] = weakref.WeakValueDictionary()
_KEPT: dict[tuple[str, torch.device], _Kept] = {}


class _Kept(NamedTuple):
    image: Tensor
    labels: Tensor
    valid: Tensor


def keep_resident(volume: LabelledVolume) -> None:
    """Make a volume known to the process whose batches move to a device; it is moved with the first one."""
    _VOLUMES[volume.resident] = volume
    weakref.finalize(volume, _forget, volume.resident)


def _forget(name: str) -> None:
    for key in [key for key in _KEPT if key[0] == name]:
        del _KEPT[key]


@dataclass(frozen=True)
class ResidentSample:
    """What was drawn for a training window of a resident volume.

    Args:
        resident: names the volume.
        box: the window.
        spatial_map: from the window to what it shows.
        changes: of grey values, in this order.
        origin: where it came from.
    """

    resident: str
    box: Box
    spatial_map: SpatialMap
    changes: Sequence[Change]
    origin: str

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RawSample:
        """What a worker would have read, cut out on the device.

        Raises:
            VolumeError: the volume does not fit there.
        """
        volume = _VOLUMES[self.resident]
        reach = volume.reach(self.box, self.spatial_map)
        kept = _on(torch.device(device), volume)
        each_channel = (slice(None), *reach.slices)
        tensors = kept.image[each_channel], kept.labels[reach.slices], kept.valid[reach.slices]
        return RawSample.of(volume, self.box, reach, tensors, self.spatial_map, self.changes, self.origin)

    def pin_memory(self) -> ResidentSample:
        """Nothing of it is moved."""
        return self


def _on(device: torch.device, volume: LabelledVolume) -> _Kept:
    key = volume.resident, device
    if key not in _KEPT:
        part = volume.read(Box.of_shape(volume.shape))
        arrays = part.image, part.labels, part.valid
        try:
            _KEPT[key] = _Kept(*(as_tensor(array).to(device) for array in arrays))
        except torch.OutOfMemoryError as error:
            size = sum(array.nbytes for array in arrays) / 2**30
            raise VolumeError(
                f"{volume.name}: its {size:.1f} GiB do not fit on {device}; give its source store: memory."
            ) from error
    return _KEPT[key]
