"""The decoder of a U-Net (Ronneberger et al. 2015) as a neck."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skoots.models.backbones.base import Feature
from skoots.models.layers import Norm, conv_block, kernel_at
from skoots.models.necks.base import NECKS, Neck, Pyramid
from skoots.ranges import Count


@NECKS.register
class UNetDecoder(Neck):
    """From the coarsest features to the image, level by level: enlarge, stack on the finer ones, convolve.

    Args:
        features: of the backbone, finest first; the image is the finest level if none has its resolution.
        in_channels: of the image.
        spatial_dims: 2 or 3.
        voxel_size: D edge lengths of a voxel; an axis is not convolved while it is much coarser than others.
        channels: features per level, finest first; as many as are needed are used.
        convolutions: per level.
        norm: ``batch`` or ``layer``; neither depends on the tile at inference.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        in_channels: int,
        spatial_dims: int = 3,
        voxel_size: Sequence[float] | None = None,
        channels: Sequence[Count] = (16, 32, 64, 96, 128, 128),
        convolutions: Count = 2,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.pyramid = Pyramid(features, in_channels)
        *finer, coarsest = self.pyramid.levels
        if len(channels) < len(finer):
            raise ValueError(f"there are {len(finer)} levels to decode; channels names {len(channels)}")
        spacing = voxel_size or (1.0,) * spatial_dims
        self.up = nn.ModuleList()
        reach, below = [0] * spatial_dims, coarsest.channels
        for level, width in reversed(list(zip(finer, channels))):
            kernels = self.kernels([n * s for n, s in zip(spacing, level.stride)], convolutions)
            self.up.append(conv_block(spatial_dims, level.channels + below, width, kernels, norm))
            reach = [
                r + sum(k[axis] // 2 for k in kernels) * level.stride[axis] for axis, r in enumerate(reach)
            ]
            below = width
        self.out_channels = below
        self.receptive_field = tuple(reach)

    def kernels(self, spacing: Sequence[float], convolutions: int) -> list[tuple[int, ...]]:
        """Those of a level, in the order of its convolutions.

        Args:
            spacing: D edge lengths of its voxels.
            convolutions: how many are asked for.
        """
        return [kernel_at(spacing)] * convolutions

    def forward(self, images: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        return decode(self.up, self.pyramid.tensors(images, features))


def decode(blocks: Iterable[nn.Module], levels: Sequence[Tensor]) -> Tensor:
    """Walk up a pyramid.

    Args:
        blocks: one for each level but the coarsest, which comes first.
        levels: (B, channels, *S / stride), finest first.
    """
    *skips, features = levels
    for block, skip in zip(blocks, reversed(skips)):
        features = F.interpolate(features, size=skip.shape[2:], mode="nearest")
        features = block(torch.cat([features, skip], 1))
    return features
