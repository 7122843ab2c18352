"""Target of the skeleton head that is decided by what a network sees around a voxel, and regressed."""

from __future__ import annotations

import torch
from torch import Tensor

from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.samples import Batch
from skoots.skeletons.depth import relative_depth
from skoots.skeletons.mask import core_mask

CORE = 0.5
BELOW_CORE = 0.49


@TARGET_GENERATORS.register
class RelativeDepthTarget(TargetGenerator):
    """``skeleton``: the depth inside the object as a share of that at its skeleton, 1 there and near 0 at
    the wall.

    Above .5 lies the core, see ``CoreMaskTarget``: deep voxels that touch another object's core, or that are
    cut off from their own skeleton, stay just below.
    """

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        relative = relative_depth(batch.labels, batch.offset, batch.voxel_size)
        core = core_mask(batch.labels, batch.offset, relative, batch.voxel_size, CORE)
        target = torch.where(core, relative.clamp(min=CORE), relative.clamp(max=BELOW_CORE))
        return {"skeleton": target.unsqueeze(1).to(batch.images.dtype)}
