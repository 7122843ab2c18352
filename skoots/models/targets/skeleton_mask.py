"""Target of the skeleton head."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.ranges import Length
from skoots.samples import Batch, as_numbers
from skoots.skeletons.mask import skeleton_mask


@TARGET_GENERATORS.register
class SkeletonMaskTarget(TargetGenerator):
    """``skeleton``: 1 within ``radius`` of the own skeleton, with gaps between different objects.

    Args:
        radius: in units of the finest voxel axis; ``auto`` follows each object (half its inscribed radius).
    """

    def __init__(self, radius: Length | Literal["auto"] = "auto") -> None:
        self.radius = radius

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        mask = skeleton_mask(batch.labels, batch.offset, batch.inscribed, batch.voxel_size, self.radius)
        return {"skeleton": as_numbers(mask.unsqueeze(1), batch.images.dtype)}
