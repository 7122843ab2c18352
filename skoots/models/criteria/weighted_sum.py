"""Several criteria as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skoots.models.criteria.base import Criterion


class WeightedSum(Criterion):
    """Sum of criteria, each times its weight; what a list under ``criterion:`` means.

    Args:
        criteria: the terms.
        weights: one factor a term.
    """

    def __init__(self, criteria: Sequence[Criterion], weights: Sequence[float]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(criteria)
        self.weights = list(weights)

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        losses = [w * term(output, target, valid) for w, term in zip(self.weights, self.terms)]
        return torch.stack(losses).sum()
