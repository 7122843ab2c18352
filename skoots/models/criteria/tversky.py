"""Overlap losses: Tversky and its special case Dice."""

from __future__ import annotations

from torch import Tensor

from skoots.models.criteria.base import CRITERIA, Criterion
from skoots.ranges import NotNegative


def counted(output: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output and target in float32, with voxels that do not count set to 0 in both."""
    output, target = output.float(), target.float()
    return (output, target) if valid is None else (output * valid, target * valid)


@CRITERIA.register
class Tversky(Criterion):
    """One minus the Tversky index, over all voxels of a batch (Salehi et al. 2017).

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
        return 1 - (hit + self.eps) / (
            hit + self.alpha * false_positive + self.beta * false_negative + self.eps
        )


@CRITERIA.register
class Dice(Criterion):
    """One minus the soft Dice coefficient (Milletari et al. 2016).

    Args:
        smooth: added to numerator and denominator.
    """

    def __init__(self, smooth: NotNegative = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        output, target = counted(output, target, valid)
        return 1 - (2 * (output * target).sum() + self.smooth) / (output.sum() + target.sum() + self.smooth)
