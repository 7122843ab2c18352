"""A neck that mixes channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from skoots.models.backbones.base import Feature
from skoots.models.layers import Norm, conv_block
from skoots.models.necks.base import NECKS, Neck
from skoots.ranges import Count


@NECKS.register
class ConvNeck(Neck):
    """Convolution, normalisation, ReLU, on a single feature at the resolution of the image.

    Args:
        features: the one of the backbone.
        spatial_dims: 2 or 3.
        out_channels: channels after it; None keeps them.
        kernel: odd edge of the convolution.
        norm: ``batch`` or ``layer``.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        spatial_dims: int = 3,
        out_channels: Count | None = None,
        kernel: Count = 1,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        if len(features) > 1 or set(features[0].stride) != {1}:
            given = ", ".join(map(str, features))
            raise ValueError(
                f"ConvNeck takes one feature at the image's resolution, and the backbone gives {given}; "
                "take UNetDecoder or FPN"
            )
        inputs = features[0].channels
        self.name = features[0].name
        self.out_channels = out_channels or inputs
        self.receptive_field = (kernel // 2,) * spatial_dims
        self.layers = conv_block(spatial_dims, inputs, self.out_channels, [(kernel,) * spatial_dims], norm)

    def forward(self, images: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        return self.layers(features[self.name])
