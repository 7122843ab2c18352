"""The contract of backbones, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from skoots.errors import PluginError
from skoots.registry import Registry


@dataclass(frozen=True)
class Feature:
    """What a backbone says of one of its outputs.

    Args:
        name: its key in what the backbone returns.
        channels: of the tensor.
        stride: D integers; how many voxels of the image a voxel of it spans.
    """

    name: str
    channels: int
    stride: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name!r} of {self.channels} channels at stride {list(self.stride)}"


class Backbone(nn.Module, ABC):
    """From images to named features, at the images' resolution or fractions of it.

    A backbone publishes facts, from which the parts after it are built:

    Attributes:
        features: what it returns, finest first. One that returns a single tensor at the images' resolution
            may set ``out_channels``, the channels of it, instead.
        spatial_dims: 2 or 3.
        stride: D integers; tiles begin at multiples of them.
        receptive_field: D integers; voxels on either side that one voxel of the features depends on, counted
            from wherever in that voxel (the halo of exact tiling).
    """

    out_channels: int
    spatial_dims: int
    stride: tuple[int, ...]
    receptive_field: tuple[int, ...]

    @property
    def divisibility(self) -> tuple[int, ...]:
        """D integers that must divide the shape of the images; the model pads to them."""
        return self.stride

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        if not hasattr(self, "out_channels"):
            raise PluginError(
                f"Backbone {type(self).__name__} publishes neither features nor out_channels. Set features "
                "to Feature(name, channels, stride) of each tensor that it returns."
            )
        return (Feature("features", self.out_channels, (1,) * self.spatial_dims),)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, C, *S) images to features by name, each (B, channels, *S / stride); a single one may come
        without its name."""

    def named(self, given: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What ``forward`` returned, by name."""
        return {self.features[0].name: given} if isinstance(given, Tensor) else dict(given)

    @property
    def needs_neck(self) -> bool:
        """Whether there is more than one feature, or none at the images' resolution."""
        return len(self.features) > 1 or set(self.features[0].stride) != {1}


BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    Backbone,
    home=[
        f"skoots.models.backbones.{name}"
        for name in ("unet", "unext", "timm_encoder", "timm_unet", "hrnet", "monai_net")
    ],
    aliases={"MonaiNetwork": "MonaiNet"},
)
