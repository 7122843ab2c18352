"""A backbone of your own in a plugin file, with features at half and at a quarter of the image's resolution.

plugins: [./custom_backbone.py]
model: {backbone: {type: Coarse}}
"""

from __future__ import annotations

from torch import Tensor, nn

from skoots.models.backbones.base import BACKBONES, Backbone, Feature


@BACKBONES.register
class Coarse(Backbone):
    """Features at half and at a quarter of the image's resolution."""

    def __init__(self, in_channels: int, spatial_dims: int = 3) -> None:
        super().__init__()
        conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.spatial_dims = spatial_dims
        self.half = conv(in_channels, 16, 3, stride=2, padding=1)
        self.quarter = conv(16, 32, 3, stride=2, padding=1)
        half, quarter = (2,) * spatial_dims, (4,) * spatial_dims
        self.features = (Feature("half", 16, half), Feature("quarter", 32, quarter))
        self.stride = quarter  # what the sides of an image must be divisible by: it is padded and cropped
        self.receptive_field = (6,) * spatial_dims  # voxels on either side that a feature depends on

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        half = self.half(images).relu()
        return {"half": half, "quarter": self.quarter(half).relu()}
