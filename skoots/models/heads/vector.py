"""The vector head: where is the nearest skeleton point of a voxel's own object?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from skoots.geometry import to_voxels
from skoots.models.criteria.base import Criterion, of_whole_batch
from skoots.models.criteria.tversky import Tversky
from skoots.models.heads.base import HEADS, Head
from skoots.models.layers import make_conv, single
from skoots.models.predictors.base import Predictor
from skoots.models.predictors.identity import IdentityPredictor
from skoots.models.targets.base import TargetGenerator
from skoots.models.targets.offset import OffsetTarget
from skoots.ranges import Count, Length, NotNegative, Number
from skoots.samples import Batch
from skoots.skeletons.embedding import offset_to_prob, per_axis


@HEADS.register
class VectorHead(Head):
    """One tanh map, ``vector``, of D channels; times ``scale`` it is the displacement to the own skeleton.

    The loss compares the embedding probability (Buswinka et al. 2023) with the foreground; ``sigma`` says how
    far from the skeleton point counts as a hit, and shrinks as training goes on.

    Args:
        in_channels: channels of the features.
        spatial_dims: 2 or 3.
        voxel_size: D edge lengths of a voxel.
        scale: what a vector of length 1 spans: a number in units of the finest voxel axis, or D voxels.
            ``auto`` must have been decided from the data before the head is built.
        sigma: a number in units of the finest voxel axis, or D voxels.
        sigma_decay: pairs [multiplier, epoch]; sigma is the initial value times all multipliers whose epoch
            has passed.
        distance_weight: factor of an added term, the mean distance between vector and offset in units of
            sigma's initial value; it has a gradient where the probability has none, far from the skeleton.
        kernel: edge of the one convolution.
        target_generator: default ``OffsetTarget``.
        predictor: default ``IdentityPredictor``.
        criterion: compares probability and foreground; default ``Tversky(0.25, 0.75)``.
        weight: factor in the total loss.
        start_epoch: first epoch in which it counts.
    """

    scale: Tensor

    def __init__(
        self,
        in_channels: int,
        spatial_dims: int = 3,
        voxel_size: Sequence[float] | None = None,
        scale: Length | Sequence[Length] | Literal["auto"] = "auto",
        sigma: Length | Sequence[Length] = 4.0,
        sigma_decay: Sequence[tuple[Length, Number]] = (),
        distance_weight: NotNegative = 0.0,
        kernel: Count = 3,
        target_generator: TargetGenerator | None = None,
        predictor: Predictor | None = None,
        criterion: Criterion | None = None,
        weight: NotNegative = 1.0,
        start_epoch: Number = 1,
    ) -> None:
        super().__init__(
            target_generator or OffsetTarget(),
            predictor or IdentityPredictor(),
            criterion or Tversky(0.25, 0.75),
            weight,
            start_epoch,
        )
        if isinstance(scale, str):
            raise ValueError(
                "scale 'auto' must be decided from data first: api.build_model does, or give a number"
            )
        spacing = tuple(voxel_size) if voxel_size is not None else (1.0,) * spatial_dims
        self.initial_sigma = to_voxels(sigma, spacing)
        self.sigma_decay = [(float(multiplier), int(epoch)) for multiplier, epoch in sigma_decay]
        self.distance_weight = distance_weight
        self.register_buffer("scale", torch.tensor(to_voxels(scale, spacing)))
        self.conv = make_conv(spatial_dims, in_channels, spatial_dims, (kernel,) * spatial_dims)
        self.receptive_field = (kernel // 2,) * spatial_dims

    def sigma_at(self, epoch: int) -> tuple[float, ...]:
        """D voxels at an epoch (counted from 1)."""
        factor = 1.0
        for multiplier, after in self.sigma_decay:
            factor *= multiplier if epoch > after else 1.0
        return tuple(s * factor for s in self.initial_sigma)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"vector": single(self.conv(features)).tanh()}

    def loss(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], batch: Batch, epoch: int
    ) -> Tensor:
        vector, offset, foreground = outputs["vector"].float(), targets["offset"], targets["foreground"]
        valid = batch.valid.unsqueeze(1)
        probability = offset_to_prob(self.scale, vector, offset, self.sigma_at(epoch), foreground)
        loss = self.criterion(probability, foreground, valid)
        if self.distance_weight:
            scale, unit = per_axis(self.scale, vector), per_axis(self.initial_sigma, vector)
            miss = ((scale * vector - offset) / unit).square().sum(1, keepdim=True).add(1e-4).sqrt()
            counts = foreground * valid
            missed, counted = of_whole_batch((miss * counts).sum(), counts.sum())
            loss = loss + self.distance_weight * missed / counted.clamp(min=1)
        return loss
