"""Overlap losses: Tversky and its special case Dice.

A target without any positive voxel has no overlap to speak of: the index is next to 0 whatever is put out,
and has no gradient. The loss is then the false positive rate, the mean output, so that background is learnt
from too.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from skoots.models.criteria.base import CRITERIA, Criterion, of_whole_batch
from skoots.ranges import NotNegative
from skoots.samples import as_numbers


def counted(output: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output and target in float32, with voxels that do not count set to 0 in both."""
    output, target = output.float(), target.float()
    if valid is None:
        return output, target
    counts = as_numbers(valid, output.dtype)
    return output * counts, target * counts


def overlap_sums(
    output: Tensor, target: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums of output * target, of output and of target over the voxels of the whole batch that count, and how
    many these are, in float32."""
    voxels = output.new_full((), output.numel()) if valid is None else valid.expand_as(output).sum()
    if target.requires_grad or torch.compiler.is_compiling():  # a compiler fuses the plain form by itself
        output, target = counted(output, target, valid)
        sums = (output * target).sum(), output.sum(), target.sum()
    else:
        sums = _OverlapSums.apply(output.float(), target.float(), valid)
    return cast(tuple[Tensor, Tensor, Tensor, Tensor], of_whole_batch(*sums, voxels.float()))


class _OverlapSums(torch.autograd.Function):
    """``overlap_sums`` with a gradient for ``output`` alone, in one buffer instead of a map a term."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, target: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(target, valid)
        if valid is None:
            return (output * target).sum(), output.sum(), target.sum()
        counts = as_numbers(valid, output.dtype)
        buffer = output * counts
        in_output = buffer.sum()
        hit = buffer.mul_(target).sum()
        return hit, in_output, torch.mul(target, counts, out=buffer).sum()

    @staticmethod
    def backward(ctx: Any, of_hit: Tensor, of_output: Tensor, of_target: Tensor) -> tuple[Tensor, None, None]:
        target, valid = ctx.saved_tensors
        gradient = (target * of_hit).add_(of_output)
        return gradient if valid is None else gradient.mul_(as_numbers(valid, gradient.dtype)), None, None


def overlap_loss(index: Tensor, in_output: Tensor, in_target: Tensor, voxels: Tensor) -> Tensor:
    """One minus an overlap index; where the target is empty, the mean output.

    Args:
        index: the overlap as a scalar in [0, 1].
        in_output: sum of the output.
        in_target: sum of the target.
        voxels: how many count.
    """
    return torch.where(in_target > 0, 1 - index, in_output / voxels.clamp(min=1))


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
        hit, in_output, in_target, voxels = overlap_sums(output, target, valid)
        false_positive, false_negative = in_output - hit, in_target - hit
        index = (hit + self.eps) / (hit + self.alpha * false_positive + self.beta * false_negative + self.eps)
        return overlap_loss(index, in_output, in_target, voxels)


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
        hit, in_output, in_target, voxels = overlap_sums(output, target, valid)
        index = (2 * hit + self.smooth) / (in_output + in_target + self.smooth)
        return overlap_loss(index, in_output, in_target, voxels)
