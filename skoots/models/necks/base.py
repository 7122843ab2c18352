"""The contract of necks, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from skoots.models.backbones.base import Feature
from skoots.registry import Registry


class Neck(nn.Module, ABC):
    """Brings the features of a backbone to the images' resolution, for the heads.

    It is built from facts: ``features`` (what the backbone gives, finest first), ``in_channels`` of the
    image, ``spatial_dims`` and ``voxel_size``, as far as its constructor has parameters of these names.

    Attributes:
        out_channels: channels of what it gives.
        receptive_field: D integers; voxels of the image on either side that it adds to the backbone's.
    """

    out_channels: int
    receptive_field: tuple[int, ...]

    @abstractmethod
    def forward(self, images: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        """(B, C, *S) images and their features by name, each (B, channels, *S / stride), to
        (B, out_channels, *S)."""


class Pyramid:
    """The levels that a decoder walks, finest first: the image if no feature has its resolution, and all
    features.

    Args:
        features: of the backbone, finest first.
        in_channels: of the image.
    """

    def __init__(self, features: Sequence[Feature], in_channels: int) -> None:
        finest = features[0].stride
        self._begins_with_image = set(finest) != {1}
        image = Feature("image", in_channels, (1,) * len(finest))
        self.levels = [image, *features] if self._begins_with_image else list(features)
        self._names = [feature.name for feature in features]

    def tensors(self, images: Tensor, features: Mapping[str, Tensor]) -> list[Tensor]:
        """The same levels as tensors."""
        given = [features[name] for name in self._names]
        return [images, *given] if self._begins_with_image else given


NECKS: Registry[Neck] = Registry(
    "neck",
    Neck,
    home=[f"skoots.models.necks.{name}" for name in ("unet_decoder", "fpn", "slice_fusion", "bottleneck")],
)
