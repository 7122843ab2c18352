"""A neck that joins the features of slices to those of a volume."""

from __future__ import annotations

from collections.abc import Sequence

from skoots.models.backbones.base import Feature
from skoots.models.layers import Norm
from skoots.models.necks.base import NECKS
from skoots.models.necks.unet_decoder import UNetDecoder
from skoots.ranges import Count


@NECKS.register
class SliceFusion(UNetDecoder):
    """A U-Net decoder that convolves within the slices and then along z, at every level.

    It suits backbones that see slices alone (``TimmEncoder`` and ``HRNet`` in 3D) and sections too thick for
    convolutions in all directions at once.

    Args:
        features: of the backbone, finest first; the image is the finest level if none has its resolution.
        in_channels: of the image.
        spatial_dims: 3.
        channels: features per level, finest first; as many as are needed are used.
        kernel: odd length of the convolutions along z, in slices.
        norm: ``batch`` or ``layer``; neither depends on the tile at inference.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        in_channels: int,
        spatial_dims: int = 3,
        channels: Sequence[Count] = (16, 32, 64, 96, 128, 128),
        kernel: Count = 3,
        norm: Norm = "batch",
    ) -> None:
        if spatial_dims != 3:
            raise ValueError("SliceFusion joins the slices of volumes; images have none, take UNetDecoder")
        self.kernel = kernel
        super().__init__(features, in_channels, spatial_dims, channels=channels, norm=norm)

    def kernels(self, spacing: Sequence[float], convolutions: int) -> list[tuple[int, ...]]:
        """One convolution within the slices, one along z, whatever the spacing."""
        return [(1, 3, 3), (self.kernel, 1, 1)]
