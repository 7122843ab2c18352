"""The boundary head: does the wall of an object run through a voxel?"""

from __future__ import annotations

from skoots.models.criteria.base import Criterion
from skoots.models.criteria.tversky import Tversky
from skoots.models.criteria.voxelwise import BCE
from skoots.models.criteria.weighted_sum import WeightedSum
from skoots.models.heads.base import HEADS
from skoots.models.heads.probability import ProbabilityHead
from skoots.models.predictors.base import Predictor
from skoots.models.targets.base import TargetGenerator
from skoots.models.targets.boundary import BoundaryTarget
from skoots.ranges import Count, NotNegative, Number


@HEADS.register
class BoundaryHead(ProbabilityHead):
    """One sigmoid map, ``boundary``: probability of lying beside the wall of an object.

    It teaches the trunk what borders look like, and ``WatershedDecoder(boundary_map="boundary")`` reads it.

    Args:
        in_channels: channels of the features.
        spatial_dims: 2 or 3.
        kernel: edge of the one convolution.
        target_generator: default ``BoundaryTarget``.
        predictor: default ``IdentityPredictor``.
        criterion: default ``Tversky(0.5, 0.5)`` plus ``BCE``.
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
            "boundary",
            in_channels,
            spatial_dims,
            kernel,
            target_generator or BoundaryTarget(),
            predictor,
            criterion or WeightedSum([Tversky(), BCE()], [1.0, 1.0]),
            weight,
            start_epoch,
        )
