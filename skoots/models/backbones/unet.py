"""A U-Net in 2D or 3D (Ronneberger et al. 2015; Cicek et al. 2016), shaped by the voxel size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skoots.geometry import relative_spacing
from skoots.models.backbones.base import BACKBONES, Backbone
from skoots.models.layers import Norm, conv_block, kernel_at, make_conv
from skoots.ranges import Count, Share

MOST_CHANNELS = 4096


@BACKBONES.register
class UNet(Backbone):
    """Encoder and decoder with skip connections; features come at the resolution of the image.

    Where voxels are anisotropic, the coarse axis is neither pooled nor convolved until the others have caught
    up with it, as in nnU-Net (Isensee et al. 2021).

    Args:
        in_channels: channels of the image.
        spatial_dims: 2 or 3.
        channels: features per level, finest first.
        voxel_size: D edge lengths of a voxel; decides strides and kernels that are not given.
        strides: per level but the first, D integers: how much finer the level above is.
        kernels: per level, D odd integers.
        norm: ``batch`` or ``layer``; neither depends on the tile at inference.
        dropout: probability that a channel of the deepest level is dropped in training.
    """

    def __init__(
        self,
        in_channels: int = 1,
        spatial_dims: int = 3,
        channels: Sequence[Count] = (16, 32, 64),
        voxel_size: Sequence[float] | None = None,
        strides: Sequence[Sequence[Count]] | None = None,
        kernels: Sequence[Sequence[Count]] | None = None,
        norm: Norm = "batch",
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        planned_strides, planned_kernels = plan_levels(len(channels), voxel_size or (1.0,) * spatial_dims)
        steps = [tuple(s) for s in strides] if strides is not None else planned_strides
        windows = [tuple(k) for k in kernels] if kernels is not None else planned_kernels
        if max(channels) > MOST_CHANNELS:
            raise ValueError(f"channels {list(channels)} are more than {MOST_CHANNELS:,} at a level")
        if len(steps) != len(channels) - 1 or len(windows) != len(channels):
            raise ValueError(
                f"{len(channels)} levels need {len(channels) - 1} strides and {len(channels)} kernels"
            )

        def block(inputs: int, level: int) -> nn.Sequential:
            return conv_block(spatial_dims, inputs, channels[level], [windows[level]] * 2, norm)

        self.down = nn.ModuleList(
            block(channels[i - 1] if i else in_channels, i) for i in range(len(channels))
        )
        self.narrow = nn.ModuleList(
            make_conv(spatial_dims, channels[i + 1], channels[i], (1,) * spatial_dims)
            for i in range(len(steps))
        )
        self.up = nn.ModuleList(block(2 * channels[i], i) for i in range(len(steps)))
        self.dropout = (nn.Dropout3d if spatial_dims == 3 else nn.Dropout2d)(dropout)
        self.strides = steps
        self.spatial_dims = spatial_dims
        self.out_channels = channels[0]
        self.stride = tuple(math.prod(s[axis] for s in steps) for axis in range(spatial_dims))
        self.receptive_field = tuple(_reach(axis, steps, windows) for axis in range(spatial_dims))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *S) to (B, channels[0], *S); S is divisible by ``stride``."""
        pool = F.max_pool3d if self.spatial_dims == 3 else F.max_pool2d
        features, skips = images, []
        for level, block in enumerate(self.down):
            features = block(features)
            if level < len(self.strides):
                skips.append(features)
                features = pool(features, self.strides[level], self.strides[level])
        features = self.dropout(features)
        for level in reversed(range(len(self.strides))):
            skip = skips.pop()
            features = F.interpolate(self.narrow[level](features), size=skip.shape[2:], mode="nearest")
            features = self.up[level](torch.cat([features, skip], 1))
        return features


def plan_levels(
    levels: int, voxel_size: Sequence[float]
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Strides and kernels per level for a voxel size.

    Args:
        levels: how many resolutions the network has.
        voxel_size: D edge lengths of a voxel.

    Returns:
        ``levels - 1`` strides and ``levels`` kernels, D integers each.
    """
    spacing = list(relative_spacing(voxel_size))
    strides, kernels = [], []
    for level in range(levels):
        finest = min(spacing)
        kernels.append(kernel_at(spacing))
        if level < levels - 1:
            step = tuple(2 if s < 2 * finest else 1 for s in spacing)
            strides.append(step)
            spacing = [s * k for s, k in zip(spacing, step)]
    return strides, kernels


def _reach(axis: int, strides: Sequence[Sequence[int]], kernels: Sequence[Sequence[int]]) -> int:
    """Voxels on either side that an output voxel depends on, along one axis: two convolutions a block."""
    reach, step = 0, 1
    for level, kernel in enumerate(kernels):
        deepest = level == len(kernels) - 1
        reach += (2 if deepest else 4) * (kernel[axis] // 2) * step
        if not deepest:
            wider = step * strides[level][axis]
            reach += wider - step  # a pooled voxel spreads over its whole window
            step = wider
    return reach
