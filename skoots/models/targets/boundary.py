"""Target of the boundary head."""

from __future__ import annotations

import torch
from torch import Tensor

from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.samples import Batch, as_numbers


@TARGET_GENERATORS.register
class BoundaryTarget(TargetGenerator):
    """``boundary``: 1 on both sides of every face between two objects, or an object and the background."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        labels = batch.labels
        boundary = torch.zeros_like(labels, dtype=torch.bool)
        for axis in range(1, labels.ndim):
            count = labels.shape[axis] - 1
            differ = labels.narrow(axis, 0, count) != labels.narrow(axis, 1, count)
            boundary.narrow(axis, 0, count).logical_or_(differ)
            boundary.narrow(axis, 1, count).logical_or_(differ)
        return {"boundary": as_numbers(boundary.unsqueeze(1), batch.images.dtype)}
