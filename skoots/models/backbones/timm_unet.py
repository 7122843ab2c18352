"""``TimmEncoder`` and ``UNetDecoder`` in one, for two dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from skoots.models.backbones.base import BACKBONES, Feature
from skoots.models.backbones.timm_encoder import TimmEncoder
from skoots.models.layers import Norm
from skoots.models.necks.unet_decoder import UNetDecoder, decode
from skoots.ranges import Count


@BACKBONES.register
class TimmUNet(TimmEncoder):
    """An encoder of timm with a U-Net decoder; features come at the resolution of the image.

    Args:
        in_channels: channels of the image; timm adapts pretrained weights to them.
        spatial_dims: 2.
        model_name: any name of ``timm.list_models()`` that offers ``features_only``.
        pretrained: start from weights trained on natural images: true downloads them once, a path names a
            file of them as timm offers it.
        pretrained_file: the same file, under the name that it had first.
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
        pretrained: bool | str = False,
        pretrained_file: str | None = None,
        channels: Sequence[Count] = (16, 32, 64, 96, 128),
        norm: Norm = "batch",
    ) -> None:
        if spatial_dims != 2:
            raise ValueError("TimmUNet is for 2D images; TimmEncoder takes volumes slice by slice")
        super().__init__(in_channels, spatial_dims, model_name, pretrained_file or pretrained)
        decoder = UNetDecoder(
            self.features, in_channels, spatial_dims, channels=channels, convolutions=1, norm=norm
        )
        self.up = decoder.up
        self.features = (Feature("features", decoder.out_channels, (1, 1)),)
        self.out_channels = decoder.out_channels

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """(B, C, Y, X) to (B, channels[0], Y, X); Y and X are divisible by ``stride``."""
        given = self.by_slice(images)
        return decode(self.up, given if given[0].shape[2:] == images.shape[2:] else [images, *given])
