"""The network of the original SKOOTS: ConvNeXt blocks (Liu et al. 2022) in a U, in 2D or 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skoots.models.backbones.base import BACKBONES, Backbone
from skoots.models.layers import CONV, ChannelLayerNorm, make_conv
from skoots.ranges import Count, NotNegative, Share

STEM = 7
"""Edge of the first convolution's kernel."""

WIDER = 4
"""Channels inside a block, in multiples of those outside."""

Activation = Literal["gelu", "relu", "silu", "selu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "selu": nn.SELU,
}


@BACKBONES.register
class UNeXT(Backbone):
    """ConvNeXt blocks in a U with skip connections (Buswinka et al. 2023); features come at the resolution of
    the image.

    Depthwise convolutions see far at little cost, so the receptive field is large: 141 voxels on either side
    with the defaults. Blocks begin at half the resolution; at the full one there is the stem and the output.

    Args:
        in_channels: channels of the image.
        spatial_dims: 2 or 3.
        dims: features per stage: the way down, the deepest, the way up; an odd number of stages.
        depths: blocks per stage.
        kernel: edge of the depthwise convolutions, or D of them; odd.
        strides: per stage on the way down and the deepest, D integers: how much finer the level above is;
            None halves every axis.
        out_channels: channels of the features; None takes the last of ``dims``.
        activation: within the blocks: ``gelu``, ``relu``, ``silu`` or ``selu``.
        drop_path: probability that a block is left out for an image in training; it grows from 0 in the
            first block to this in the deepest (stochastic depth, Huang et al. 2016).
        layer_scale: what the learned factors of the blocks begin with.
        pad: pad images to multiples of ``stride``, so that results do not depend on the tile. The original
            did not, and false computes what it did: at other sizes features are resized to fit.
    """

    def __init__(
        self,
        in_channels: int = 1,
        spatial_dims: int = 3,
        dims: Sequence[Count] = (32, 64, 128, 64, 32),
        depths: Sequence[Count] = (2, 2, 2, 2, 2),
        kernel: Count | Sequence[Count] = 7,
        strides: Sequence[Sequence[Count]] | None = None,
        out_channels: Count | None = None,
        activation: Activation = "gelu",
        drop_path: Share = 0.0,
        layer_scale: NotNegative = 1.0,
        pad: bool = True,
    ) -> None:
        super().__init__()
        levels = len(dims) // 2 + 1
        window = (kernel,) * spatial_dims if isinstance(kernel, int) else tuple(kernel)
        steps = [(2,) * spatial_dims] * levels if strides is None else [tuple(step) for step in strides]
        if len(dims) % 2 == 0 or len(depths) != len(dims):
            raise ValueError(f"dims {list(dims)} and depths {list(depths)} must have the same odd length")
        if len(steps) != levels or any(len(sizes) != spatial_dims for sizes in (window, *steps)):
            raise ValueError(
                f"{len(dims)} stages need {levels} strides, and strides and kernels {spatial_dims} numbers "
                "each"
            )

        def stage(index: int) -> list[nn.Module]:
            drop = drop_path * min(index, len(dims) - 1 - index) / max(levels - 1, 1)
            return [
                Block(spatial_dims, dims[index], window, activation, drop, layer_scale)
                for _ in range(depths[index])
            ]

        self.stem = nn.Sequential(
            make_conv(spatial_dims, in_channels, dims[0], (STEM,) * spatial_dims),
            Block(spatial_dims, dims[0], window, activation, 0.0, layer_scale),
        )
        skips = [dims[0], *dims[: levels - 1]]  # channels of what each level starts from
        self.down = nn.ModuleList()
        for level, step in enumerate(steps):
            shrink = CONV[spatial_dims](skips[level], dims[level], step, stride=step)
            norms = ChannelLayerNorm(dims[level]), ChannelLayerNorm(skips[level])
            opening = [shrink, norms[0]] if level == 0 else [norms[1], shrink]
            self.down.append(nn.Sequential(*opening, ChannelLayerNorm(dims[level]), *stage(level)))
        self.up = nn.ModuleList()
        for index in range(levels, len(dims)):
            merge = Merge(spatial_dims, dims[index - 1], skips[len(dims) - index], dims[index])
            self.up.append(Up(merge, stage(index), dims[index]))
        self.out = Merge(spatial_dims, dims[-1], skips[0], dims[-1])
        self.project = make_conv(spatial_dims, dims[-1], out_channels or dims[-1], (1,) * spatial_dims)
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels or dims[-1]
        self.stride = tuple(math.prod(axis) for axis in zip(*steps))
        self.pad = pad
        self.receptive_field = tuple(
            _reach([step[axis] for step in steps], depths, window[axis]) for axis in range(spatial_dims)
        )

    @property
    def divisibility(self) -> tuple[int, ...]:
        return self.stride if self.pad else (1,) * self.spatial_dims

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *S) to (B, out_channels, *S); S is divisible by ``divisibility``."""
        shape = images.shape[2:]
        features = self.stem(_at_least(self.stride, images))
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        for up in self.up:
            features = up(features, skips.pop())
        features = self.project(self.out(features, skips.pop()))
        window = (slice(None), slice(None), *(slice(0, n) for n in shape))
        return features[window]


class Block(nn.Module):
    """Depthwise convolution, LayerNorm and a two-layer network at every voxel, added to the input.

    Args:
        spatial_dims: 2 or 3.
        channels: of input and output.
        kernel: D odd integers.
        activation: of the two-layer network.
        drop: probability that the block is left out for an image in training.
        scale: what ``gamma``, a factor per channel, begins with.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        kernel: tuple[int, ...],
        activation: Activation = "gelu",
        drop: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if any(k % 2 == 0 for k in kernel):
            raise ValueError(f"kernel {kernel} must be odd along every axis")
        margin = tuple(k // 2 for k in kernel)
        self.conv = CONV[spatial_dims](channels, channels, kernel, padding=margin, groups=channels)
        self.norm = ChannelLayerNorm(channels)
        self.widen = nn.Linear(channels, WIDER * channels)
        self.activation = ACTIVATIONS[activation]()
        self.narrow = nn.Linear(WIDER * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), float(scale)))
        self.drop = drop

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, *S) to the same shape."""
        inner = self.norm(self.conv(features)).movedim(1, -1)
        inner = self.gamma * self.narrow(self.activation(self.widen(inner)))
        if self.training and self.drop:
            kept = torch.rand(len(inner), *(1,) * (inner.ndim - 1), device=inner.device) >= self.drop
            inner = inner * kept / max(1 - self.drop, 1e-6)
        return features + inner.movedim(-1, 1)


class Merge(nn.Module):
    """Coarse features brought to the size of a skip connection and joined with it.

    Args:
        spatial_dims: 2 or 3.
        coarse: channels of the coarse features.
        skip: channels of the skip connection.
        outputs: channels of the result.
    """

    def __init__(self, spatial_dims: int, coarse: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.norm = ChannelLayerNorm(coarse)
        self.narrow = make_conv(spatial_dims, coarse, outputs, (3,) * spatial_dims)
        self.join = make_conv(spatial_dims, outputs + skip, outputs, (1,) * spatial_dims)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """(B, coarse, *S') and (B, skip, *S) to (B, outputs, *S)."""
        # A norm over channels does the same before the voxels are repeated, and there are fewer of them.
        larger = F.interpolate(self.norm(features), size=skip.shape[2:], mode="nearest")
        return self.join(torch.cat([self.narrow(larger), skip], 1))


class Up(nn.Module):
    """One level of the way up.

    Args:
        merge: joins the features from below with the skip connection.
        blocks: of the stage.
        channels: of its features.
    """

    def __init__(self, merge: Merge, blocks: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.merge = merge
        self.blocks = nn.Sequential(*blocks)
        self.norm = ChannelLayerNorm(channels)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """(B, C, *S') and the skip connection (B, C', *S) to (B, channels, *S)."""
        return self.norm(self.blocks(self.merge(features, skip)))


def _at_least(shape: Sequence[int], images: Tensor) -> Tensor:
    """Images of at least this shape, the border repeated: of fewer voxels nothing is left at the bottom."""
    missing = [max(0, least - n) for least, n in zip(shape, images.shape[2:])]
    if not any(missing):
        return images
    return F.pad(images, [p for m in reversed(missing) for p in (0, m)], mode="replicate")


def _reach(strides: Sequence[int], depths: Sequence[int], kernel: int) -> int:
    """Voxels on either side that an output voxel depends on, along one axis."""
    half, step = kernel // 2, 1
    reach = STEM // 2 + half + 1  # the stem, its block, and the output's convolution
    for level, stride in enumerate(strides):
        reach += (stride - 1) * step  # a coarse voxel spreads over its whole window
        step *= stride
        reach += depths[level] * half * step
        if level < len(strides) - 1:  # the way up at the same level, with the convolution of its merge
            reach += (1 + depths[-1 - level] * half) * step
    return reach
