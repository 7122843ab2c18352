"""The contract of backbones, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from skoots.registry import Registry


class Backbone(nn.Module, ABC):
    """From images to features at the images' resolution or a fraction of it.

    A backbone publishes facts, from which the parts after it are built:

    Attributes:
        out_channels: channels of the features.
        spatial_dims: 2 or 3.
        stride: D integers; tiles begin at multiples of them.
        receptive_field: D integers; voxels on either side that one output voxel depends on (the halo of exact
            tiling).
    """

    out_channels: int
    spatial_dims: int
    stride: tuple[int, ...]
    receptive_field: tuple[int, ...]

    @property
    def divisibility(self) -> tuple[int, ...]:
        """D integers that must divide the shape of the images; the model pads to them."""
        return self.stride

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *S) images to (B, out_channels, *S) features."""


BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    Backbone,
    home=[f"skoots.models.backbones.{name}" for name in ("unet", "unext", "timm_unet", "monai_net")],
)
