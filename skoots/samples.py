"""Sample and Batch: the nouns that data makes and models read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_numbers(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as 0 and 1.

    Args:
        mask: bool, any shape; numbers are weights already and stay as they are.
        dtype: floating.
    """
    # The same byte, but torch converts integers several times faster on a CPU.
    return (mask.view(torch.uint8) if mask.dtype == torch.bool else mask).to(dtype)


@dataclass
class Sample:
    """One training window, after augmentation.

    Args:
        image: (C, *S) float32, normalised.
        labels: (*S) int32 instance ids, renumbered 1..n inside the window, 0 = background.
        offset: (D, *S) float32, voxels from each voxel to the nearest skeleton point of its own object, 0
            outside.
        inscribed: (*S) float32, inscribed radius of the voxel's own object in units of the finest voxel axis,
            0 outside.
        valid: (*S) bool, False where labels are unknown (``ignore_label``, padding); losses and metrics skip
            it.
        voxel_size: D edge lengths of a voxel, any unit.
        origin: where it came from, for messages: file and box.
    """

    image: np.ndarray
    labels: np.ndarray
    offset: np.ndarray
    inscribed: np.ndarray
    valid: np.ndarray
    voxel_size: tuple[float, ...]
    origin: str = ""


@dataclass
class Batch:
    """Several samples of one shape, stacked, as tensors.

    Args:
        images: (B, C, *S) float32.
        labels: (B, *S) int64.
        offset: (B, D, *S) float32 voxels.
        inscribed: (B, *S) float32, finest voxels.
        valid: (B, *S) bool.
        voxel_size: D edge lengths of a voxel.
        origins: B strings.
    """

    images: Tensor
    labels: Tensor
    offset: Tensor
    inscribed: Tensor
    valid: Tensor
    voxel_size: tuple[float, ...]
    origins: tuple[str, ...]

    @classmethod
    def collate(cls, samples: Sequence[Sample]) -> Batch:
        """Stack samples; the data loader's ``collate_fn``."""

        def stack(arrays: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(arrays))

        return cls(
            images=stack([s.image for s in samples]),
            labels=stack([s.labels for s in samples]).long(),
            offset=stack([s.offset for s in samples]),
            inscribed=stack([s.inscribed for s in samples]),
            valid=stack([s.valid for s in samples]),
            voxel_size=samples[0].voxel_size,
            origins=tuple(s.origin for s in samples),
        )

    @staticmethod
    def bytes_of(samples: int, channels: int, shape: Sequence[int]) -> int:
        """Memory that a batch takes.

        Args:
            samples: B.
            channels: C.
            shape: D voxels of a window.
        """
        image, labels, offset, inscribed, valid = 4 * channels, 8, 4 * len(shape), 4, 1
        return samples * math.prod(shape) * (image + labels + offset + inscribed + valid)

    @property
    def foreground(self) -> Tensor:
        """(B, 1, *S) float32: 1 inside any object."""
        return as_numbers((self.labels > 0).unsqueeze(1), self.images.dtype)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the name of their field."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved: dict[str, Any] = {
            n: t.to(device, non_blocking=non_blocking) for n, t in self.tensors().items()
        }
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; the loader calls this."""
        pinned: dict[str, Any] = {name: tensor.pin_memory() for name, tensor in self.tensors().items()}
        return replace(self, **pinned)
