"""Losses that are a mean over voxels."""

from __future__ import annotations

import torch
from torch import Tensor

from skoots.models.criteria.base import CRITERIA, Criterion, of_whole_batch
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
        weight = counts
        if self.positive_weight != 1:
            weight = counts * (1 + (self._factor(target, counts) - 1) * target)
        # torch's own function refuses a NaN (on CUDA it kills the process) and autocast; the loss must report
        # it instead.
        output = output.clamp(EPSILON, 1 - EPSILON)
        likelihood = torch.lerp((1 - output).log(), output.log(), target)
        likelihoods, weights = of_whole_batch((likelihood * weight).sum(), weight.sum())
        return -likelihoods / weights.clamp(min=1)

    def _factor(self, target: Tensor, counts: Tensor) -> Tensor | float:
        """What the voxels whose target is 1 are multiplied by."""
        if self.positive_weight != "balanced":
            return float(self.positive_weight)
        positive, counted = of_whole_batch((target * counts).sum(), counts.sum())
        return ((counted - positive) / positive.clamp(min=1)).clamp(1, 100)
