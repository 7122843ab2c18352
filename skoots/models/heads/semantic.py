"""The semantic head: is a voxel inside any object?"""

from __future__ import annotations

from skoots.models.criteria.base import Criterion
from skoots.models.criteria.tversky import Tversky
from skoots.models.heads.base import HEADS
from skoots.models.heads.probability import ProbabilityHead
from skoots.models.predictors.base import Predictor
from skoots.models.targets.base import TargetGenerator
from skoots.models.targets.foreground import ForegroundTarget
from skoots.ranges import Count, NotNegative, Number


@HEADS.register
class SemanticHead(ProbabilityHead):
    """One sigmoid map, ``semantic``: probability of being inside any object.

    Args:
        in_channels: channels of the features.
        spatial_dims: 2 or 3.
        kernel: edge of the one convolution.
        target_generator: default ``ForegroundTarget``.
        predictor: default ``IdentityPredictor``.
        criterion: default ``Tversky(0.5, 0.5)``.
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
            "semantic",
            in_channels,
            spatial_dims,
            kernel,
            target_generator or ForegroundTarget(),
            predictor,
            criterion or Tversky(),
            weight,
            start_epoch,
        )
