"""Layers in any number of dimensions, and normalisation that ignores what else is in a tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from skoots.models.conv3d import Conv3d

Norm = Literal["batch", "layer"]

CONV: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: Conv3d}
BATCH_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class ChannelLayerNorm(nn.Module):
    """LayerNorm over channels alone (Ba et al. 2016; as in ConvNeXt), the same in training and inference.

    Args:
        channels: C.
        eps: added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, *S) to the same shape."""
        centred = features - features.mean(1, keepdim=True)
        scaled = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + self.eps)
        shape = (1, -1, *(1,) * (features.ndim - 2))
        return scaled * self.weight.view(shape) + self.bias.view(shape)


def make_norm(kind: Norm, spatial_dims: int, channels: int) -> nn.Module:
    """A normalisation layer by name: ``batch`` (fast, fixed in eval mode) or ``layer`` (over channels)."""
    return BATCH_NORM[spatial_dims](channels) if kind == "batch" else ChannelLayerNorm(channels)


def make_conv(
    spatial_dims: int, inputs: int, outputs: int, kernel: tuple[int, ...], bias: bool = True
) -> nn.Module:
    """A convolution that keeps the shape.

    Raises:
        ValueError: an even kernel, which would change it.
    """
    if any(k % 2 == 0 for k in kernel):
        raise ValueError(f"kernel {kernel} must be odd along every axis")
    return CONV[spatial_dims](inputs, outputs, kernel, padding=tuple(k // 2 for k in kernel), bias=bias)


def conv_block(
    spatial_dims: int, inputs: int, outputs: int, kernels: Sequence[tuple[int, ...]], norm: Norm
) -> nn.Sequential:
    """Convolution, normalisation and ReLU for each of the kernels.

    Args:
        spatial_dims: 2 or 3.
        inputs: channels before it.
        outputs: channels after it.
        kernels: D odd integers for each convolution.
        norm: of each.
    """
    layers: list[nn.Module] = []
    for kernel in kernels:
        layers += [make_conv(spatial_dims, inputs, outputs, kernel, bias=norm != "batch")]
        layers += [make_norm(norm, spatial_dims, outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers)


def kernel_at(spacing: Sequence[float]) -> tuple[int, ...]:
    """Edges of a convolution for voxels of a size: 1 along axes that are much coarser than the finest."""
    return tuple(3 if s <= 2 * min(spacing) else 1 for s in spacing)


def single(values: Tensor) -> Tensor:
    """Float32 in place of a shorter format, which has no room for a sigmoid near 1 or for long vectors."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
