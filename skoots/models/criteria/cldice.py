"""Centreline Dice: overlap of each mask with the soft skeleton of the other (Shit et al., CVPR 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from skoots.models.criteria.base import CRITERIA, Criterion
from skoots.models.criteria.tversky import (
    Dice,
    Over,
    counted,
    known_over,
    of_each_image,
    over_batch,
    voxels_of_each_image,
)
from skoots.ranges import Count, NotNegative, Share


def _dilate(mask: Tensor) -> Tensor:
    pool = F.max_pool3d if mask.ndim == 5 else F.max_pool2d
    return pool(mask, 3, 1, 1)


def _erode(mask: Tensor) -> Tensor:
    """Smallest value along each axis' line of three, as in the paper's own code: a cross, not a cube."""
    pool = F.max_pool3d if mask.ndim == 5 else F.max_pool2d
    eroded = mask
    for axis in range(mask.ndim - 2):
        window = tuple(3 if a == axis else 1 for a in range(mask.ndim - 2))
        eroded = eroded.minimum(-pool(-mask, window, 1, tuple(w // 2 for w in window)))
    return eroded


def soft_skeleton(mask: Tensor, iterations: int) -> Tensor:
    """Differentiable skeleton of a probability map by repeated erosion and opening.

    Args:
        mask: (B, C, *S) in [0, 1].
        iterations: at least the largest radius, in voxels.
    """
    skeleton = F.relu(mask - _dilate(_erode(mask)))
    for _ in range(iterations):
        mask = _erode(mask)
        ridge = F.relu(mask - _dilate(_erode(mask)))
        skeleton = skeleton + F.relu(ridge - skeleton * ridge)
    return skeleton


@CRITERIA.register
class SoftClDice(Criterion):
    """One minus soft clDice, how much of each mask's centreline lies inside the other mask; the mean over the
    images.

    Args:
        iter: rounds of erosion, at least the largest radius in voxels.
        smooth: added to numerators and denominators.
        over: ``image`` takes the value of each image, ``batch`` that of all images together.
    """

    def __init__(self, iter: Count = 3, smooth: NotNegative = 1.0, over: Over = "image") -> None:
        super().__init__()
        self.iterations, self.smooth, self.over = iter, smooth, known_over(over)

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        voxels = voxels_of_each_image(output, valid)
        output, target = counted(output, target, valid)
        line, true_line = soft_skeleton(output, self.iterations), soft_skeleton(target, self.iterations)
        sums = (of_each_image(values) for values in (line * target, line, true_line * output, true_line))
        return over_batch(self.over, self._loss, voxels, *sums)

    def _loss(
        self, hit: Tensor, length: Tensor, true_hit: Tensor, true_length: Tensor, voxels: Tensor
    ) -> Tensor:
        precision, sensitivity = self._share(hit, length), self._share(true_hit, true_length)
        both = precision + sensitivity
        return 1 - 2 * precision * sensitivity / torch.where(both > 0, both, 1.0)

    def _share(self, inside: Tensor, length: Tensor) -> Tensor:
        """What part of a centreline lies inside the other mask; all of one that is empty."""
        there = length + self.smooth > 0
        return torch.where(there, inside + self.smooth, 1.0) / torch.where(there, length + self.smooth, 1.0)


@CRITERIA.register
class SoftDiceClDice(Criterion):
    """Weighted sum of soft Dice and soft clDice.

    Args:
        iter: rounds of erosion.
        alpha: share of clDice, in [0, 1].
        smooth: added to numerators and denominators.
        over: ``image`` takes the value of each image, ``batch`` that of all images together.
    """

    def __init__(
        self, iter: Count = 3, alpha: Share = 0.5, smooth: NotNegative = 1.0, over: Over = "image"
    ) -> None:
        super().__init__()
        self.dice, self.cldice, self.alpha = Dice(smooth, over), SoftClDice(iter, smooth, over), alpha

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        dice, cldice = self.dice(output, target, valid), self.cldice(output, target, valid)
        return (1 - self.alpha) * dice + self.alpha * cldice
