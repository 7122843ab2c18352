"""A batch that is still to be made: what was read and drawn for it, made where it is moved to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from skoots.data.augment.base import Change
from skoots.data.augment.on_device import resample_on_device
from skoots.data.augment.spatial_map import SpatialMap
from skoots.data.labelled_volume import LabelledVolume
from skoots.geometry import Box
from skoots.samples import Batch
from skoots.skeletons.offsets_on_device import nearest_offsets_on_device

TORCH_HAS = (np.bool_, np.uint8, np.int16, np.int32, np.int64, np.float32)


def as_tensor(array: np.ndarray) -> Tensor:
    """An array as a tensor; types that few devices compute with become float32, as resampling makes them."""
    return torch.from_numpy(array if array.dtype in TORCH_HAS else array.astype(np.float32))


@dataclass(frozen=True)
class RawSample:
    """What was read and drawn for one training window.

    Args:
        image: (C, *R) of ``LabelledVolume.read``, the part of the volume that the map reaches.
        labels: (*R) ids of the volume, 0 = background or unknown.
        valid: (*R) bool, whether the truth is known.
        shift: (C,) of the intensity normalisation; 0 if the image is scaled already.
        scale: (C,) of the intensity normalisation; 1 if the image is scaled already.
        ids: (N,) int64 objects in the part, ascending.
        points: (P, D) float32 their skeleton points in the window, moved by the map.
        inscribed: (N,) float32 their inscribed radii, finest voxels.
        starts: N + 1 numbers: where the points of each object begin.
        compress: of the intensity normalisation.
        shape: D voxels of the window.
        start: D coordinates of the part's first voxel, counted from the window's start.
        spatial_map: from window to part.
        changes: of grey values, in this order.
        voxel_size: D edge lengths of a voxel.
        origin: where it came from.
    """

    image: Tensor
    labels: Tensor
    valid: Tensor
    shift: Tensor
    scale: Tensor
    ids: Tensor
    points: Tensor
    inscribed: Tensor
    starts: tuple[int, ...]
    compress: bool
    shape: tuple[int, ...]
    start: tuple[int, ...]
    spatial_map: SpatialMap
    changes: tuple[Change, ...]
    voxel_size: tuple[float, ...]
    origin: str

    @classmethod
    def read(
        cls,
        volume: LabelledVolume,
        box: Box,
        spatial_map: SpatialMap,
        changes: Sequence[Change],
        origin: str,
    ) -> RawSample:
        """Read what a window needs and leave the rest to a device.

        Args:
            volume: to read from.
            box: the window.
            spatial_map: from the window to what it shows.
            changes: of grey values.
            origin: for messages.
        """
        reach = volume.reach(box, spatial_map)
        part = volume.read(reach)
        tensors = as_tensor(part.image), as_tensor(part.labels), as_tensor(part.valid)
        return cls.of(volume, box, reach, tensors, spatial_map, changes, origin)

    @classmethod
    def of(
        cls,
        volume: LabelledVolume,
        box: Box,
        reach: Box,
        tensors: tuple[Tensor, Tensor, Tensor],
        spatial_map: SpatialMap,
        changes: Sequence[Change],
        origin: str,
    ) -> RawSample:
        """With the whole skeletons of the objects in a part that was read.

        Args:
            volume: that was read from.
            box: the window.
            reach: the part of the volume that was read.
            tensors: image, labels and validity of that part, on any device.
            spatial_map: from the window to what it shows.
            changes: of grey values.
            origin: for messages.
        """
        image, labels, valid = tensors
        present = labels.unique().cpu().numpy()
        skeletons = volume.moved_skeletons(present[present > 0], spatial_map, box)

        def there(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(image.device)

        shift, scale = (np.asarray(v, np.float32) for v in (volume.intensity.shift, volume.intensity.scale))
        if volume.scaled_when_read:
            shift, scale = np.zeros_like(shift), np.ones_like(scale)

        return cls(
            image=image,
            labels=labels,
            valid=valid,
            shift=there(shift),
            scale=there(scale),
            ids=there(skeletons.ids),
            points=there(skeletons.points),
            inscribed=there(skeletons.inscribed),
            starts=tuple(skeletons.starts.tolist()),
            compress=volume.intensity.compress,
            shape=box.shape,
            start=reach.relative_to(box).start,
            spatial_map=spatial_map,
            changes=tuple(changes),
            voxel_size=volume.voxel_size,
            origin=origin,
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RawSample:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> RawSample:
        """The same in page-locked memory."""
        return self._each(Tensor.pin_memory)

    def make(self) -> Batch:
        """A batch of this one window, made where its tensors lie."""
        image, ids, valid = resample_on_device(
            self.image, self.labels, self.valid, self.spatial_map, self.shape, self.start
        )
        labels, rows = self._compact(ids)
        offset = nearest_offsets_on_device(rows, self.starts, self.points, self.voxel_size)
        radius = torch.cat([self.inscribed.new_zeros(1), self.inscribed])
        return Batch(
            images=self._grey(image)[None],
            labels=labels[None],
            offset=offset[None],
            inscribed=radius[rows][None],
            valid=valid[None],
            voxel_size=self.voxel_size,
            origins=(self.origin,),
        )

    def _compact(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Labels 1..n of the objects in the window, and which skeleton each voxel has (counted from 1, 0 for
        none)."""
        present, inverse = torch.unique(ids, return_inverse=True)
        number = torch.cumsum(present > 0, 0) * (present > 0)
        if not len(self.ids):
            return number[inverse], torch.zeros_like(inverse)
        row = torch.searchsorted(self.ids, present.long()).clamp(max=len(self.ids) - 1)
        traced = self.ids[row] == present
        return number[inverse], torch.where(traced, row + 1, 0)[inverse]

    def _grey(self, image: Tensor) -> Tensor:
        each = (-1, *(1,) * (image.ndim - 1))
        image = (image - self.shift.view(each)) / self.scale.view(each)
        if self.compress:
            image = image.arcsinh()
        for change in self.changes:
            image = change(image)
        return image

    def _each(self, move: Callable[[Tensor], Tensor]) -> RawSample:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: move(v) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


class Unmade(Protocol):
    """A sample that is still to be made."""

    @property
    def origin(self) -> str:
        """Where it came from, for messages."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RawSample:
        """All that it is made of, on a device."""

    def pin_memory(self) -> Unmade:
        """The same in page-locked memory."""


@dataclass(frozen=True)
class RawBatch:
    """Several raw samples; ``to`` makes them a ``Batch``.

    Args:
        samples: of one window shape.
    """

    samples: tuple[Unmade, ...]

    @classmethod
    def collate(cls, samples: Sequence[Unmade]) -> RawBatch:
        """The data loader's ``collate_fn``."""
        return cls(tuple(samples))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Resample, disturb and make targets on a device; equal to what the CPU would have made."""
        # All copies are on their way before the first window is made.
        there = [sample.to(device, non_blocking) for sample in self.samples]
        made = [sample.make() for sample in there]
        names = [f.name for f in fields(Batch) if isinstance(getattr(made[0], f.name), Tensor)]
        stacked: dict[str, Any] = {
            name: torch.cat([getattr(batch, name) for batch in made]) for name in names
        }
        return replace(made[0], **stacked, origins=self.origins)

    def pin_memory(self) -> RawBatch:
        """The same batch in page-locked memory; the loader calls this."""
        return RawBatch(tuple(sample.pin_memory() for sample in self.samples))

    @property
    def origins(self) -> tuple[str, ...]:
        return tuple(sample.origin for sample in self.samples)

    @property
    def images(self) -> Tensor:
        """(B, C, *S) float32 made on the CPU, for whoever looks at them without moving the batch."""
        return self.to("cpu").images
