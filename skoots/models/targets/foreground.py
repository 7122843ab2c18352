"""Target of the semantic head."""

from __future__ import annotations

from torch import Tensor

from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.samples import Batch


@TARGET_GENERATORS.register
class ForegroundTarget(TargetGenerator):
    """``semantic``: 1 inside any object."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        return {"semantic": batch.foreground}
