"""A feature pyramid (Lin et al. 2017) as a neck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from skoots.models.backbones.base import Feature
from skoots.models.layers import Norm, conv_block, kernel_at, make_conv
from skoots.models.necks.base import NECKS, Neck, Pyramid
from skoots.ranges import Count


@NECKS.register
class FPN(Neck):
    """All features brought to as many channels and added up, coarse to fine, and the sum smoothed once.

    It has fewer weights than ``UNetDecoder``, and sees but one voxel farther than the backbone.

    Args:
        features: of the backbone, finest first; the image is the finest level if none has its resolution.
        in_channels: of the image.
        spatial_dims: 2 or 3.
        voxel_size: D edge lengths of a voxel; an axis is not convolved if it is much coarser than others.
        out_channels: of every level, and of what it gives.
        norm: ``batch`` or ``layer``; neither depends on the tile at inference.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        in_channels: int,
        spatial_dims: int = 3,
        voxel_size: Sequence[float] | None = None,
        out_channels: Count = 32,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.pyramid = Pyramid(features, in_channels)
        self.lateral = nn.ModuleList(
            make_conv(spatial_dims, level.channels, out_channels, (1,) * spatial_dims)
            for level in self.pyramid.levels
        )
        kernel = kernel_at(voxel_size or (1.0,) * spatial_dims)
        self.smooth = conv_block(spatial_dims, out_channels, out_channels, [kernel], norm)
        self.out_channels = out_channels
        self.receptive_field = tuple(k // 2 for k in kernel)

    def forward(self, images: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        levels = self.pyramid.tensors(images, features)
        *finer, total = [lateral(level) for lateral, level in zip(self.lateral, levels)]
        for level in reversed(finer):
            total = level + F.interpolate(total, size=level.shape[2:], mode="nearest")
        return self.smooth(total)
