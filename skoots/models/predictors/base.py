"""The contract of predictors, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from skoots.registry import Registry


class Predictor(ABC):
    """From the outputs of a head to the maps that decoding reads and ``segment --maps`` writes."""

    @abstractmethod
    def __call__(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named maps, each (B, channels, *S)."""


PREDICTORS: Registry[Predictor] = Registry("predictor", Predictor, home=["skoots.models.predictors.identity"])
