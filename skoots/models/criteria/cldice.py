"""Centreline Dice: overlap of each mask with the soft skeleton of the other (Shit et al., CVPR 2021)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from skoots.models.criteria.base import CRITERIA, Criterion, of_whole_batch
from skoots.models.criteria.tversky import Dice, counted
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
    """One minus soft clDice: how much of each mask's centreline lies inside the other mask.

    Args:
        iter: rounds of erosion, at least the largest radius in voxels.
        smooth: added to numerators and denominators.
    """

    def __init__(self, iter: Count = 3, smooth: NotNegative = 1.0) -> None:
        super().__init__()
        self.iterations, self.smooth = iter, smooth

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        output, target = counted(output, target, valid)
        line, true_line = soft_skeleton(output, self.iterations), soft_skeleton(target, self.iterations)
        hit, length, true_hit, true_length = of_whole_batch(
            (line * target).sum(), line.sum(), (true_line * output).sum(), true_line.sum()
        )
        precision = (hit + self.smooth) / (length + self.smooth)
        sensitivity = (true_hit + self.smooth) / (true_length + self.smooth)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity)


@CRITERIA.register
class SoftDiceClDice(Criterion):
    """Weighted sum of soft Dice and soft clDice.

    Args:
        iter: rounds of erosion.
        alpha: share of clDice, in [0, 1].
        smooth: added to numerators and denominators.
    """

    def __init__(self, iter: Count = 3, alpha: Share = 0.5, smooth: NotNegative = 1.0) -> None:
        super().__init__()
        self.dice, self.cldice, self.alpha = Dice(smooth), SoftClDice(iter, smooth), alpha

    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        dice, cldice = self.dice(output, target, valid), self.cldice(output, target, valid)
        return (1 - self.alpha) * dice + self.alpha * cldice
