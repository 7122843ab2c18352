"""Networks of MONAI as backbones (the extra ``monai``)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from skoots.errors import SkootsError
from skoots.models.backbones.base import BACKBONES, Backbone
from skoots.models.backbones.receptive_field import measure_receptive_field
from skoots.ranges import Count
from skoots.registry import did_you_mean


@BACKBONES.register
class MonaiNet(Backbone):
    """Any network of ``monai.networks.nets`` that maps an image to as many voxels.

    Many of them normalise over the whole tile by default (instance norm); say ``arguments: {norm: batch}``
    so that results do not depend on the tiling.

    Args:
        in_channels: channels of the image.
        spatial_dims: 2 or 3.
        network: name of the class, e.g. ``BasicUNet``, ``UNet``, ``SegResNet``.
        out_channels: channels of the features.
        stride: what the sides of an image must be divisible by.
        arguments: all other arguments of the class.

    Raises:
        SkootsError: MONAI is not installed, or has no such network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        spatial_dims: int = 3,
        network: str = "BasicUNet",
        out_channels: Count = 16,
        stride: Count = 16,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        wanted = {"spatial_dims": spatial_dims, "in_channels": in_channels, "out_channels": out_channels}
        self.network = _network_class(network)(**{**wanted, **(arguments or {})})
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.spatial_dims = spatial_dims
        self.stride = (stride,) * spatial_dims

    @cached_property
    def receptive_field(self) -> tuple[int, ...]:  # type: ignore[override]
        """Measured, since the networks do not say."""
        return tuple(
            measure_receptive_field(self, self.in_channels, axis) for axis in range(self.spatial_dims)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *S) to (B, out_channels, *S); S is divisible by ``stride``."""
        features = self.network(images)
        # Networks with deep supervision give a list, the finest first.
        return features[0] if isinstance(features, list | tuple) else features


def _network_class(name: str) -> Any:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise SkootsError("Backbone MonaiNet needs MONAI: pip install 'skoots[monai]'.") from error
    if not hasattr(nets, name):
        known = [key for key in dir(nets) if key[0].isupper()]
        raise SkootsError(f"monai.networks.nets has no {name!r}. {did_you_mean(name, known)}")
    return getattr(nets, name)
