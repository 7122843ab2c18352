"""Predictors of heads whose outputs are maps already."""

from __future__ import annotations

from torch import Tensor

from skoots.models.predictors.base import PREDICTORS, Predictor


@PREDICTORS.register
class IdentityPredictor(Predictor):
    """The outputs as they are."""

    def __call__(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return outputs
