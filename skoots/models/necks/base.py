"""The contract of necks, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from skoots.registry import Registry


class Neck(nn.Module, ABC):
    """From features to features, between backbone and heads; built with ``in_channels`` and ``spatial_dims``.

    Attributes:
        out_channels: channels of the new features.
        receptive_field: D integers; voxels on either side that it adds to the backbone's.
    """

    out_channels: int
    receptive_field: tuple[int, ...]

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, *S) to (B, out_channels, *S)."""


NECKS: Registry[Neck] = Registry("neck", Neck, home=["skoots.models.necks.bottleneck"])
