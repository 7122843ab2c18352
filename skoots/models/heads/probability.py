"""What heads share that give one map of sigmoids."""

from __future__ import annotations

from abc import ABC

from torch import Tensor

from skoots.models.criteria.base import Criterion
from skoots.models.heads.base import Head
from skoots.models.layers import make_conv, single
from skoots.models.predictors.base import Predictor
from skoots.models.predictors.identity import IdentityPredictor
from skoots.models.targets.base import TargetGenerator
from skoots.samples import Batch


class ProbabilityHead(Head, ABC):
    """One convolution and a sigmoid; the map and its target have the same name.

    Args:
        name: of the map.
        in_channels: channels of the features.
        spatial_dims: 2 or 3.
        kernel: edge of the convolution.
        target_generator: gives a target of this name.
        predictor: None takes the map as it is.
        criterion: compares the two.
        weight: factor in the total loss.
        start_epoch: first epoch in which it counts.
        channels: of the map.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        spatial_dims: int,
        kernel: int,
        target_generator: TargetGenerator,
        predictor: Predictor | None,
        criterion: Criterion,
        weight: float,
        start_epoch: int,
        channels: int = 1,
    ) -> None:
        super().__init__(target_generator, predictor or IdentityPredictor(), criterion, weight, start_epoch)
        self.map_name = name
        self.conv = make_conv(spatial_dims, in_channels, channels, (kernel,) * spatial_dims)
        self.receptive_field = (kernel // 2,) * spatial_dims

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {self.map_name: single(self.conv(features)).sigmoid()}

    def loss(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], batch: Batch, epoch: int
    ) -> Tensor:
        return self.criterion(outputs[self.map_name], targets[self.map_name], batch.valid.unsqueeze(1))
