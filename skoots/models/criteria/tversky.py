"""Overlap losses: Tversky and its special case Dice.

The index is taken of each image, and the loss is the mean over the images: in one sum over a batch the large
objects of one image would drown the small ones of another. ``over: batch`` takes that one sum.

A target without any positive voxel has no overlap to speak of: the index is next to 0 whatever is put out,
and has no gradient. The loss is then the false positive rate, the mean output, so that background is learnt
from too. An image all of whose voxels are ignored has no say in the mean.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from skoots.models.criteria.base import CRITERIA, Criterion, of_whole_batch
from skoots.ranges import NotNegative
from skoots.samples import as_numbers

Over = Literal["image", "batch"]


def known_over(over: Over) -> Over:
    """The value itself.

    Raises:
        ValueError: it is neither ``image`` nor ``batch``.
    """
    if over not in get_args(Over):
        raise ValueError(f"over is {over!r}, must be 'image' or 'batch'")
    return over


def counted(output: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output and target in float32, with voxels that do not count set to 0 in both."""
    output, target = output.float(), target.float()
    if valid is None:
        return output, target
    counts = as_numbers(valid, output.dtype)
    return output * counts, target * counts


def of_each_image(values: Tensor) -> Tensor:
    """(B, ...) to (B,) sums."""
    return values.sum(tuple(range(1, values.ndim)))


def voxels_of_each_image(output: Tensor, valid: Tensor | None) -> Tensor:
    """(B,) how many values of each image count, float32."""
    if valid is None:
        return output.new_full((len(output),), output[0].numel(), dtype=torch.float32)
    return of_each_image(valid.expand_as(output)).float()


def over_batch(over: Over, loss: Callable[..., Tensor], voxels: Tensor, *sums: Tensor) -> Tensor:
    """A loss that is a function of sums, for a batch of which each of several processes may have a part.

    Args:
        over: ``image`` takes the mean of the losses of the images of which any voxel counts, ``batch`` the
            loss of the sums over all images.
        loss: from ``sums`` and ``voxels``, of whatever shape they have, to the loss.
        voxels: (B,) how many count in each image.
        sums: (B,) each.
    """
    if over == "batch":
        voxels, *sums = of_whole_batch(voxels.sum(), *(each.sum() for each in sums))  # type: ignore[assignment]
        return loss(*sums, voxels)
    counts = (voxels > 0).float()
    total, images = of_whole_batch((loss(*sums, voxels) * counts).sum(), counts.sum())
    return total / images.clamp(min=1)


def overlap_sums(output: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) sums of output * target, of output and of target over the voxels of each image that count, in
    float32."""
    if target.requires_grad or torch.compiler.is_compiling():  # a compiler fuses the plain form by itself
        output, target = counted(output, target, valid)
        return of_each_image(output * target), of_each_image(output), of_each_image(target)
    return cast(tuple[Tensor, Tensor, Tensor], _OverlapSums.apply(output.float(), target.float(), valid))


class _OverlapSums(torch.autograd.Function):
    """``overlap_sums`` with a gradient for ``output`` alone, in one buffer instead of a map a term."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, target: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(target, valid)
        if valid is None:
            return of_each_image(output * target), of_each_image(output), of_each_image(target)
        counts = as_numbers(valid, output.dtype)
        buffer = output * counts
        in_output = of_each_image(buffer)
        hit = of_each_image(buffer.mul_(target))
        return hit, in_output, of_each_image(torch.mul(target, counts, out=buffer))

    @staticmethod
    def backward(ctx: Any, of_hit: Tensor, of_output: Tensor, of_target: Tensor) -> tuple[Tensor, None, None]:
        target, valid = ctx.saved_tensors
        each = (-1, *(1,) * (target.ndim - 1))
        gradient = (target * of_hit.view(each)).add_(of_output.view(each))
        return gradient if valid is None else gradient.mul_(as_numbers(valid, gradient.dtype)), None, None


class _Overlap(Criterion):
    """One minus an overlap index; where the target is empty, the mean output."""

    over: Over = "image"

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        return over_batch(
            self.over,
            self._loss,
            voxels_of_each_image(output, valid),
            *overlap_sums(output, target, valid),
        )

    def _loss(self, hit: Tensor, in_output: Tensor, in_target: Tensor, voxels: Tensor) -> Tensor:
        there = in_target > 0
        # the index of an empty target is not used, and must not be 0 / 0: its gradient would be NaN
        above, below = self.index(*(torch.where(there, each, 1.0) for each in (hit, in_output, in_target)))
        return torch.where(there, 1 - above / below, in_output / voxels.clamp(min=1))

    @abstractmethod
    def index(self, hit: Tensor, in_output: Tensor, in_target: Tensor) -> tuple[Tensor, Tensor]:
        """Numerator and denominator of the overlap index, from the sums of output * target, of output and of
        target, which is not 0."""


@CRITERIA.register
class Tversky(_Overlap):
    """One minus the Tversky index (Salehi et al. 2017), the mean over the images; of an image without
    positives, the mean output.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        eps: added to numerator and denominator.
        over: ``image`` takes an index of each image, ``batch`` one of all images together.
    """

    def __init__(
        self,
        alpha: NotNegative = 0.5,
        beta: NotNegative = 0.5,
        eps: NotNegative = 1e-8,
        over: Over = "image",
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.eps, self.over = alpha, beta, eps, known_over(over)

    def index(self, hit: Tensor, in_output: Tensor, in_target: Tensor) -> tuple[Tensor, Tensor]:
        false_positive, false_negative = in_output - hit, in_target - hit
        above = hit + self.eps
        return above, hit + self.alpha * false_positive + self.beta * false_negative + self.eps


@CRITERIA.register
class Dice(_Overlap):
    """One minus the soft Dice coefficient (Milletari et al. 2016), the mean over the images; of an image
    without positives, the mean output.

    Args:
        smooth: added to numerator and denominator.
        over: ``image`` takes a coefficient of each image, ``batch`` one of all images together.
    """

    def __init__(self, smooth: NotNegative = 1.0, over: Over = "image") -> None:
        super().__init__()
        self.smooth, self.over = smooth, known_over(over)

    def index(self, hit: Tensor, in_output: Tensor, in_target: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * hit + self.smooth, in_output + in_target + self.smooth
