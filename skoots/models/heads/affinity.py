"""The affinity head: do two voxels belong together?"""

from __future__ import annotations

from collections.abc import Sequence

from skoots.models.criteria.base import Criterion
from skoots.models.criteria.voxelwise import BCE
from skoots.models.heads.base import HEADS
from skoots.models.heads.probability import ProbabilityHead
from skoots.models.predictors.base import Predictor
from skoots.models.targets.affinity import NEAR_AND_FAR, AffinityTarget
from skoots.models.targets.base import TargetGenerator
from skoots.ranges import Count, NotNegative, Number


@HEADS.register
class AffinityHead(ProbabilityHead):
    """Sigmoid maps, ``affinity``: is the voxel some voxels before, along each axis, of the same object?

    Args:
        in_channels: channels of the features.
        spatial_dims: 2 or 3.
        distances: voxels between the two; each gives a channel per axis.
        kernel: edge of the one convolution.
        target_generator: default ``AffinityTarget`` with these distances.
        predictor: default ``IdentityPredictor``.
        criterion: default ``BCE``.
        weight: factor in the total loss.
        start_epoch: first epoch in which it counts.
    """

    def __init__(
        self,
        in_channels: int,
        spatial_dims: int = 3,
        distances: Sequence[Count] = NEAR_AND_FAR,
        kernel: Count = 3,
        target_generator: TargetGenerator | None = None,
        predictor: Predictor | None = None,
        criterion: Criterion | None = None,
        weight: NotNegative = 1.0,
        start_epoch: Number = 1,
    ) -> None:
        super().__init__(
            "affinity",
            in_channels,
            spatial_dims,
            kernel,
            target_generator or AffinityTarget(distances),
            predictor,
            criterion or BCE(),
            weight,
            start_epoch,
            channels=len(distances) * spatial_dims,
        )
