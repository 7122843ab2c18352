"""The contract of criteria (losses), and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from skoots.registry import Registry


class Criterion(nn.Module, ABC):
    """A loss between a probability map and its target."""

    @abstractmethod
    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """The loss as a scalar.

        Args:
            output: (B, C, *S) probabilities in [0, 1].
            target: (B, C, *S) in [0, 1].
            valid: (B, 1, *S) bool; voxels that are False do not count. None counts all.
        """


CRITERIA: Registry[Criterion] = Registry(
    "criterion",
    Criterion,
    home=[
        "skoots.models.criteria.tversky",
        "skoots.models.criteria.cldice",
        "skoots.models.criteria.voxelwise",
    ],
)
