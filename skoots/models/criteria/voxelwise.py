"""Losses that are a mean over voxels."""

from __future__ import annotations

import torch
from torch import Tensor

from skoots.models.criteria.base import CRITERIA, Criterion
from skoots.samples import as_numbers

EPSILON = 1e-6  # probabilities nearer to 0 or 1 count as this near, so that the logarithm stays finite


@CRITERIA.register
class BCE(Criterion):
    """Binary cross entropy of probabilities, averaged over the voxels that count.

    Args:
        positive_weight: factor of the voxels whose target is 1, or ``balanced``: as much weight in all as the
            others, by a factor between 1 and 100.
    """

    def __init__(self, positive_weight: float | str = 1.0) -> None:
        super().__init__()
        if isinstance(positive_weight, str) and positive_weight != "balanced":
            raise ValueError("positive_weight is a number or 'balanced'")
        self.positive_weight = positive_weight

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        output, target = output.float(), target.float()
        counts = (
            torch.ones_like(target) if valid is None else as_numbers(valid, target.dtype).expand_as(target)
        )
        if self.positive_weight == "balanced":
            positive = (target * counts).sum()
            factor = ((counts.sum() - positive) / positive.clamp(min=1)).clamp(1, 100)
        else:
            factor = target.new_tensor(float(self.positive_weight))
        weight = counts * (1 + (factor - 1) * target)
        # torch's own function refuses a NaN (on CUDA it kills the process) and autocast; the loss must report
        # it instead.
        output = output.clamp(EPSILON, 1 - EPSILON)
        loss = -(target * output.log() + (1 - target) * (1 - output).log())
        return (loss * weight).sum() / weight.sum().clamp(min=1)
