"""A U-Net whose encoder is one of timm's image networks, for two dimensions (Wightman, PyTorch Image
Models)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skoots.errors import SkootsError
from skoots.models.backbones.base import BACKBONES, Backbone
from skoots.models.backbones.receptive_field import measure_receptive_field
from skoots.models.layers import Norm, make_conv, make_norm
from skoots.ranges import Count


@BACKBONES.register
class TimmUNet(Backbone):
    """An encoder of timm with a U-Net decoder; features come at the resolution of the image.

    Encoders with attention over the whole image, or squeeze-and-excitation, see the whole tile: then results
    depend a little on the tiling. Plain convolutional ones (``resnet18``, ``convnext_tiny``) do not.

    Args:
        in_channels: channels of the image; timm adapts pretrained weights to them.
        spatial_dims: 2.
        model_name: any name of ``timm.list_models()`` that offers ``features_only``.
        pretrained: start from weights trained on natural images; they are downloaded once.
        pretrained_file: start from weights in this file instead, as timm would have downloaded them.
        channels: features per level of the decoder, finest first.
        norm: normalisation of the decoder.

    Raises:
        SkootsError: no such encoder, or its weights cannot be had.
    """

    def __init__(
        self,
        in_channels: int = 1,
        spatial_dims: int = 2,
        model_name: str = "resnet18",
        pretrained: bool = False,
        pretrained_file: str | None = None,
        channels: Sequence[Count] = (16, 32, 64, 96, 128),
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError("the encoders of timm are for 2D images; take UNet in 3D")
        self.encoder = _make_encoder(model_name, in_channels, pretrained, pretrained_file)
        widths = [in_channels, *self.encoder.feature_info.channels()]
        reductions = [1, *self.encoder.feature_info.reduction()]
        if len(channels) < len(widths) - 1:
            raise ValueError(f"{model_name} has {len(widths) - 1} levels; channels names {len(channels)}")
        self.up = nn.ModuleList()
        below = widths[-1]
        for level in reversed(range(len(widths) - 1)):
            self.up.append(_block(widths[level] + below, channels[level], norm))
            below = channels[level]
        self.spatial_dims = 2
        self.in_channels = in_channels
        self.out_channels = channels[0]
        self.stride = (reductions[-1],) * 2

    @cached_property
    def receptive_field(self) -> tuple[int, ...]:  # type: ignore[override]
        """Measured, since encoders do not say: how far from one output pixel the gradient reaches."""
        reach = measure_receptive_field(self, self.in_channels, (32 * self.stride[0],) * 2)
        # An output pixel may stand anywhere in the grid of the strides, and reach so much further to one
        # side.
        return tuple(r + s for r, s in zip(reach, self.stride))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, Y, X) to (B, channels[0], Y, X); Y and X are divisible by ``stride``."""
        skips = [images, *self.encoder(images)]
        features = skips.pop()
        for block in self.up:
            skip = skips.pop()
            features = block(
                torch.cat([F.interpolate(features, size=skip.shape[2:], mode="nearest"), skip], 1)
            )
        return features


def _block(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        make_conv(2, inputs, outputs, (3, 3), bias=norm != "batch"),
        make_norm(norm, 2, outputs),
        nn.ReLU(inplace=True),
    )


def _make_encoder(name: str, in_channels: int, pretrained: bool, file: str | None) -> Any:
    import timm

    from skoots.registry import did_you_mean

    if name not in timm.list_models():
        raise SkootsError(f"timm has no model {name!r}. {did_you_mean(name, timm.list_models())}")
    if file is not None and not Path(file).is_file():
        raise SkootsError(f"The weights {file} for {name} do not exist.")
    overlay: dict[str, Any] = {"pretrained_cfg_overlay": {"file": file}} if file is not None else {}
    try:
        return timm.create_model(
            name,
            features_only=True,
            in_chans=in_channels,
            pretrained=pretrained or file is not None,
            **overlay,
        )
    except Exception as error:
        if not pretrained and file is None:
            raise
        source = file or "the internet"
        raise SkootsError(
            f"The pretrained weights of {name} cannot be had from {source} ({type(error).__name__}); say "
            f"pretrained: false, "
            "or give pretrained_file."
        ) from error
