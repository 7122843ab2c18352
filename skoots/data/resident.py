"""Volumes that stay on the device (``store: gpu``): windows are read there, and workers only draw."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
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
        """What a worker would have read, on the device that trains cut out of what is kept there.

        Raises:
            VolumeError: the volume does not fit there.
        """
        if torch.device(device).type == "cpu":  # where the volume is anyway
            volume = _VOLUMES[self.resident]
            return RawSample.read(volume, self.box, self.spatial_map, self.changes, self.origin)
        return self.cut(device)

    def cut(self, device: torch.device | str) -> RawSample:
        """The same out of what is kept on a device."""
        volume = _VOLUMES[self.resident]
        reach = volume.reach(self.box, self.spatial_map)
        kept = _on(_numbered(device), volume)
        each_channel = (slice(None), *reach.slices)
        image = kept.image[each_channel]
        if volume.image.dtype == np.uint16:
            image = _widened(image)
        tensors = image, kept.labels[reach.slices], kept.valid[reach.slices]
        return RawSample.of(volume, self.box, reach, tensors, self.spatial_map, self.changes, self.origin)

    def pin_memory(self) -> ResidentSample:
        """Nothing of it is moved."""
        return self


def _numbered(device: torch.device | str) -> torch.device:
    """A device with its number: ``cuda`` is one of several."""
    return torch.empty(0, device=device).device


def _widened(image: Tensor) -> Tensor:
    """Numbers of 16 bits without sign, which few devices compute with, out of those with one that have the
    same bits."""
    return (image.int() & 0xFFFF).float()


def _on(device: torch.device, volume: LabelledVolume) -> _Kept:
    key = volume.resident, device
    if key not in _KEPT:
        part = volume.read(Box.of_shape(volume.shape))
        image = part.image.view(np.int16) if part.image.dtype == np.uint16 else part.image
        tensors = [as_tensor(array) for array in (image, part.labels, part.valid)]
        try:
            _KEPT[key] = _Kept(*(tensor.to(device) for tensor in tensors))
        except torch.OutOfMemoryError as error:
            size = sum(tensor.nbytes for tensor in tensors) / 2**30
            raise VolumeError(
                f"{volume.name}: its {size:.1f} GiB do not fit on {device}; give its source store: memory."
            ) from error
    return _KEPT[key]
