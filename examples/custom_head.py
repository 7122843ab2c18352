"""A head of your own in a plugin file: the rim of objects, learnt beside vector, semantic and skeleton.

skoots train examples/custom_head.yaml
skoots segment VOLUME --snapshot runs/custom_head --maps --plugin examples/custom_head.py
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from skoots.models.criteria.tversky import Dice
from skoots.models.heads.base import HEADS, Head
from skoots.models.layers import make_conv
from skoots.models.predictors.identity import IdentityPredictor
from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.samples import Batch


@TARGET_GENERATORS.register
class RimTarget(TargetGenerator):
    """``rim``: 1 where a voxel of an object has a neighbour that is not of this object."""

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        labels = batch.labels.unsqueeze(1).float()
        pool = F.max_pool3d if labels.ndim == 5 else F.max_pool2d
        differs = (pool(labels, 3, 1, 1) != labels) | (-pool(-labels, 3, 1, 1) != labels)
        return {"rim": (differs & (labels > 0)).float()}


@HEADS.register
class RimHead(Head):
    """One sigmoid map, ``rim``."""

    def __init__(
        self, in_channels: int, spatial_dims: int = 3, weight: float = 1.0, start_epoch: int = 1
    ) -> None:
        super().__init__(RimTarget(), IdentityPredictor(), Dice(), weight, start_epoch)
        self.conv = make_conv(spatial_dims, in_channels, 1, (1,) * spatial_dims)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"rim": self.conv(features).sigmoid()}

    def loss(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], batch: Batch, epoch: int
    ) -> Tensor:
        return self.criterion(outputs["rim"], targets["rim"], batch.valid.unsqueeze(1))
