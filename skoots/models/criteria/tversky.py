"""Overlap losses: Tversky and its special case Dice.

A target without any positive voxel has no overlap to speak of: the index is next to 0 whatever is put out,
and has no gradient. The loss is then the false positive rate, the mean output, so that background is learnt
from too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skoots.models.criteria.base import CRITERIA, Criterion
from skoots.ranges import NotNegative


def counted(output: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output and target in float32, with voxels that do not count set to 0 in both."""
    output, target = output.float(), target.float()
    return (output, target) if valid is None else (output * valid, target * valid)


def overlap_loss(index: Tensor, output: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
    """One minus an overlap index; where the target is empty, the mean output.

    Args:
        index: the overlap as a scalar in [0, 1].
        output: (B, C, *S), 0 where voxels do not count.
        target: (B, C, *S), 0 where voxels do not count.
        valid: (B, 1, *S) bool; None counts all.
    """
    voxels = output.numel() if valid is None else valid.expand_as(output).sum().clamp(min=1)
    return torch.where(target.sum() > 0, 1 - index, output.sum() / voxels)


@CRITERIA.register
class Tversky(Criterion):
    """One minus the Tversky index, over all voxels of a batch (Salehi et al. 2017); of a batch without
    positives, the mean output.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        eps: keeps an empty batch finite.
    """

    def __init__(self, alpha: NotNegative = 0.5, beta: NotNegative = 0.5, eps: NotNegative = 1e-8) -> None:
        super().__init__()
        self.alpha, self.beta, self.eps = alpha, beta, eps

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        output, target = counted(output, target, valid)
        hit = (output * target).sum()
        false_positive = output.sum() - hit
        false_negative = target.sum() - hit
        index = (hit + self.eps) / (hit + self.alpha * false_positive + self.beta * false_negative + self.eps)
        return overlap_loss(index, output, target, valid)


@CRITERIA.register
class Dice(Criterion):
    """One minus the soft Dice coefficient (Milletari et al. 2016); of a batch without positives, the mean
    output.

    Args:
        smooth: added to numerator and denominator.
    """

    def __init__(self, smooth: NotNegative = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        output, target = counted(output, target, valid)
        index = (2 * (output * target).sum() + self.smooth) / (output.sum() + target.sum() + self.smooth)
        return overlap_loss(index, output, target, valid)
