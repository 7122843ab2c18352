"""Targets that take the core of an object, its deeper half, for the skeleton."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from skoots.geometry import relative_spacing
from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.ranges import Ratio
from skoots.samples import Batch, as_numbers
from skoots.skeletons.depth import relative_depth
from skoots.skeletons.mask import core_mask


@TARGET_GENERATORS.register
class CoreMaskTarget(TargetGenerator):
    """``skeleton``: 1 where the depth inside the object is at least ``depth`` times that at its skeleton.

    Args:
        depth: relative depth of the core's surface.
    """

    def __init__(self, depth: Ratio = 0.5) -> None:
        self.depth = depth

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        return {"skeleton": as_numbers(_core(batch, self.depth).unsqueeze(1), batch.images.dtype)}


@TARGET_GENERATORS.register
class CoreOffsetTarget(TargetGenerator):
    """``offset``: (B, D, *S) voxels to the nearest voxel of the own core; ``foreground``: where it counts.

    Where a crop holds nothing of an object's core, the way leads to the skeleton point.

    Args:
        depth: relative depth of the core's surface.
    """

    def __init__(self, depth: Ratio = 0.5) -> None:
        self.depth = depth

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        core = _core(batch, self.depth).cpu().numpy()
        labels, offset = batch.labels.cpu().numpy(), batch.offset.cpu().numpy().copy()
        for image in range(len(labels)):
            _lead_to_core(labels[image], core[image], offset[image], relative_spacing(batch.voxel_size))
        return {
            "offset": torch.from_numpy(offset).to(batch.offset.device),
            "foreground": batch.foreground,
        }


def _core(batch: Batch, depth: float) -> Tensor:
    relative = relative_depth(batch.labels, batch.offset, batch.voxel_size)
    return core_mask(batch.labels, batch.offset, relative, batch.voxel_size, depth)


def _lead_to_core(
    labels: np.ndarray, core: np.ndarray, offset: np.ndarray, spacing: tuple[float, ...]
) -> None:
    """Overwrite (D, *S) offsets of one image, each object in its bounding box."""
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        own = labels[box] == number
        aim = own & core[box]
        if not aim.any():
            continue
        nearest = ndimage.distance_transform_edt(
            ~aim, sampling=spacing, return_distances=False, return_indices=True
        )
        way = nearest - np.indices(own.shape)
        window = (slice(None), *box)
        offset[window] = np.where(own, way, offset[window])
