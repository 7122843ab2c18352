"""The skeleton head: does a voxel lie near its object's skeleton, or in its core?"""

from __future__ import annotations

from skoots.models.criteria.base import Criterion
from skoots.models.criteria.tversky import Tversky
from skoots.models.criteria.voxelwise import BCE
from skoots.models.criteria.weighted_sum import WeightedSum
from skoots.models.heads.base import HEADS
from skoots.models.heads.probability import ProbabilityHead
from skoots.models.predictors.base import Predictor
from skoots.models.targets.base import TargetGenerator
from skoots.models.targets.object_core import CoreMaskTarget
from skoots.ranges import Count, NotNegative, Number


@HEADS.register
class SkeletonHead(ProbabilityHead):
    """One sigmoid map, ``skeleton``: probability of lying in the core of an object, around its skeleton.

    The published target is ``SkeletonMaskTarget``, all within a radius of the skeleton; a network learns the
    core faster, which it can tell by what lies around a voxel (see docs/algorithms.md).

    Args:
        in_channels: channels of the features.
        spatial_dims: 2 or 3.
        kernel: edge of the one convolution.
        target_generator: default ``CoreMaskTarget(0.5)``.
        predictor: default ``IdentityPredictor``.
        criterion: default ``Tversky(0.5, 0.5)`` plus ``BCE``, which gives empty crops a gradient.
        weight: factor in the total loss.
        start_epoch: first epoch in which it counts.
    """

    def __init__(
        self,
        in_channels: int,
        spatial_dims: int = 3,
        kernel: Count = 3,
        target_generator: TargetGenerator | None = None,
        predictor: Predictor | None = None,
        criterion: Criterion | None = None,
        weight: NotNegative = 1.0,
        start_epoch: Number = 1,
    ) -> None:
        super().__init__(
            "skeleton",
            in_channels,
            spatial_dims,
            kernel,
            target_generator or CoreMaskTarget(),
            predictor,
            criterion or WeightedSum([Tversky(), BCE()], [1.0, 1.0]),
            weight,
            start_epoch,
        )
