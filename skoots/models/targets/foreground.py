"""Target of the semantic head."""

from __future__ import annotations

from torch import Tensor

from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.ranges import Share
from skoots.samples import Batch
from skoots.skeletons.mask import touches_another


@TARGET_GENERATORS.register
class ForegroundTarget(TargetGenerator):
    """``semantic``: 1 inside any object.

    Args:
        border_smoothing: what voxels of an object that touch another object (26 neighbours) lack to 1: there
            annotators disagree.
    """

    def __init__(self, border_smoothing: Share = 0.0) -> None:
        self.border_smoothing = border_smoothing

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        foreground = batch.foreground
        if self.border_smoothing:
            border = touches_another(batch.labels, batch.labels > 0).unsqueeze(1)
            foreground = foreground * (1 - self.border_smoothing * border)
        return {"semantic": foreground}
