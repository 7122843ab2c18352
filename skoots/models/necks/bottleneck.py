"""A neck that mixes channels."""

from __future__ import annotations

from torch import Tensor, nn

from skoots.models.layers import Norm, make_conv, make_norm
from skoots.models.necks.base import NECKS, Neck
from skoots.ranges import Count


@NECKS.register
class ConvNeck(Neck):
    """Convolution, normalisation, ReLU.

    Args:
        in_channels: channels of the features.
        spatial_dims: 2 or 3.
        out_channels: channels after it; None keeps them.
        kernel: odd edge of the convolution.
        norm: ``batch`` or ``layer``.
    """

    def __init__(
        self,
        in_channels: int,
        spatial_dims: int = 3,
        out_channels: Count | None = None,
        kernel: Count = 1,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        self.out_channels = out_channels or in_channels
        self.receptive_field = (kernel // 2,) * spatial_dims
        self.layers = nn.Sequential(
            make_conv(
                spatial_dims, in_channels, self.out_channels, (kernel,) * spatial_dims, bias=norm != "batch"
            ),
            make_norm(norm, spatial_dims, self.out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)
