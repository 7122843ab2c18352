"""Target of the vector head."""

from __future__ import annotations

from torch import Tensor

from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.samples import Batch


@TARGET_GENERATORS.register
class OffsetTarget(TargetGenerator):
    """``offset``: (B, D, *S) voxels to the nearest own skeleton point; ``foreground``: where it counts."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        return {"offset": batch.offset, "foreground": batch.foreground}
