"""HRNet (Wang et al. 2020), under the names of DeepLabCut's configuration page."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from skoots.models.backbones.base import BACKBONES, Feature
from skoots.models.backbones.timm_encoder import TimmEncoder, make_encoder


@BACKBONES.register
class HRNet(TimmEncoder):
    """Four branches at strides 4, 8, 16 and 32 that exchange what they see; volumes pass slice by slice.

    Args:
        in_channels: channels of the image.
        spatial_dims: 2 or 3.
        model_name: any HRNet of timm, e.g. ``hrnet_w18``, ``hrnet_w32``.
        pretrained: start from weights trained on ImageNet: true downloads them once, a path names a file of
            them.
        interpolate_branches: give one feature of stride 4, all branches brought there and stacked, in the
            place of four features.
        increased_channel_count: let timm's ``incre_modules`` widen the branches to 128, 256, 512 and 1024
            channels.

    Raises:
        SkootsError: no such network, or its weights cannot be had.
    """

    def __init__(
        self,
        in_channels: int = 1,
        spatial_dims: int = 2,
        model_name: str = "hrnet_w32",
        pretrained: bool | str = False,
        interpolate_branches: bool = False,
        increased_channel_count: bool = False,
    ) -> None:
        super(TimmEncoder, self).__init__()
        if not model_name.startswith("hrnet"):
            raise ValueError(
                f"model_name is {model_name!r}, which is no HRNet; TimmEncoder takes any network"
            )
        location = "incre" if increased_channel_count else ""
        branches = {"feature_location": location, "out_indices": (1, 2, 3, 4)}
        encoder = make_encoder(model_name, in_channels, pretrained, **branches)
        self._take(encoder, in_channels, spatial_dims)
        self.interpolate_branches = interpolate_branches
        if interpolate_branches:
            finest = self.features[0]
            self.features = (Feature("branches", sum(f.channels for f in self.features), finest.stride),)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if not self.interpolate_branches:
            return super().forward(images)
        finest, *others = self.by_slice(images)
        shape = finest.shape[2:]
        # The nearest voxel, and not a mean of two: what lies where must not depend on a tile's borders.
        brought = [F.interpolate(branch, size=shape, mode="nearest") for branch in others]
        return {self.features[0].name: torch.cat([finest, *brought], 1)}
