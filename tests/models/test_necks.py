"""Backbones of several features under necks: shapes, and tiles that agree with the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skoots.geometry import tile_volume
from skoots.models.backbones.base import BACKBONES, Backbone, Feature
from skoots.models.backbones.unet import UNet
from skoots.models.heads.semantic import SemanticHead
from skoots.models.necks.base import NECKS, Neck
from skoots.models.necks.bottleneck import ConvNeck
from skoots.models.necks.unet_decoder import UNetDecoder
from skoots.models.segmentation_model import SegmentationModel

SMALL_RESNET = {"type": "TimmEncoder", "model_name": "resnet10t", "levels": 3}
SMALL_HRNET = {"type": "HRNet", "model_name": "hrnet_w18_small"}
# Backbone, neck, voxel size, and an image that is longer than twice what the two see.
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, tuple[float, ...], tuple[int, ...]]] = {
    "ResNet, decoder": (SMALL_RESNET, {"type": "UNetDecoder"}, (1, 1), (21, 250)),
    "ResNet, decoder with LayerNorm": (
        SMALL_RESNET, {"type": "UNetDecoder", "norm": "layer", "channels": [4, 4, 4]}, (3, 1), (250, 17),
    ),
    "ResNet, pyramid": (SMALL_RESNET, {"type": "FPN"}, (1, 1), (20, 210)),
    "ConvNeXt, pyramid": (
        {**SMALL_RESNET, "model_name": "convnext_atto", "levels": 2}, {"type": "FPN"}, (1, 1), (9, 300),
    ),
    "slices, fusion": (SMALL_RESNET, {"type": "SliceFusion", "channels": [4, 4, 4]}, (1, 1, 1), (31, 9, 33)),
    "slices, decoder": (
        SMALL_RESNET, {"type": "UNetDecoder", "channels": [4, 4, 4]}, (5, 1, 1), (9, 8, 250),
    ),
    "slices, pyramid": (SMALL_RESNET, {"type": "FPN", "out_channels": 4}, (1, 1, 1), (9, 8, 210)),
    "HRNet, decoder": (SMALL_HRNET, {"type": "UNetDecoder", "channels": [4] * 4}, (1, 1), (20, 1500)),
    "HRNet of one feature": (
        {**SMALL_HRNET, "interpolate_branches": True}, {"type": "FPN"}, (1, 1), (20, 1500),
    ),
    "decoder within": (
        {"type": "TimmUNet", "model_name": "resnet10t", "channels": [4] * 5}, None, (1, 1), (20, 900),
    ),
}  # fmt: skip


def make_model(name: str) -> SegmentationModel:
    """With random weights, and running statistics that are not the trivial ones."""
    pytest.importorskip("timm")
    torch.manual_seed(0)
    backbone_node, neck_node, voxel_size, shape = NETWORKS[name]
    dims = len(shape)
    backbone = BACKBONES.build(backbone_node, in_channels=1, spatial_dims=dims, voxel_size=voxel_size)
    neck: Neck | None = None
    channels = backbone.features[0].channels
    if neck_node is not None:
        facts = {"features": backbone.features, "in_channels": 1, "spatial_dims": dims}
        neck = NECKS.build(neck_node, **facts, voxel_size=voxel_size)
        channels = neck.out_channels
    model = SegmentationModel(backbone, {"semantic": SemanticHead(channels, dims)}, neck)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def semantic(model: SegmentationModel, images: Tensor) -> Tensor:
    return model.maps(model(images))["semantic"][1]


@pytest.mark.parametrize("name", NETWORKS)
def test_one_tile_or_many(name: str) -> None:
    model, shape = make_model(name), NETWORKS[name][-1]
    images = torch.rand(1, 1, *shape) * 2 - 1
    core = [max(3, n // 4) for n in shape]
    tiles = tile_volume(shape, core, model.receptive_field, model.stride)
    smaller = 0
    with torch.inference_mode():
        whole = semantic(model, images)
        assert whole.shape == (1, 1, *shape) and float(whole.std()) > 1e-3
        for tile in (tiles[0], tiles[len(tiles) // 2], tiles[-1]):
            smaller += tile.read.shape != shape
            part = semantic(model, images[(..., *tile.read.slices)])
            assert torch.allclose(part[(..., *tile.core.slices)], whole[(..., *tile.write.slices)], atol=1e-5)
    assert smaller, "every tile read the whole image, so nothing was proved"


@pytest.mark.parametrize("name", ["ResNet, decoder", "slices, fusion"])
def test_any_shape_comes_back(name: str) -> None:
    model = make_model(name)
    for shape in [(1,) * model.spatial_dims, (5, 7, 9)[-model.spatial_dims :]]:
        assert semantic(model, torch.rand(2, 1, *shape)).shape == (2, 1, *shape)


def test_slices_are_joined_along_z_alone_where_they_are_thick() -> None:
    facts = [Feature("a", 2, (1, 4, 4)), Feature("b", 3, (1, 8, 8))]
    thick = UNetDecoder(facts, 1, 3, voxel_size=(6, 1, 1), channels=(2, 2), convolutions=1)
    # At stride 4 voxels are 6 by 4 by 4, nearly cubes: convolved along z. At stride 1 they are not.
    assert thick.receptive_field == (1, 5, 5)


def test_features_without_a_neck_that_they_need_are_refused() -> None:
    class Coarse(Backbone):
        def __init__(self) -> None:
            super().__init__()
            self.spatial_dims, self.stride, self.receptive_field = 2, (2, 2), (2, 2)
            self.features = (Feature("half", 4, (2, 2)),)

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"half": images[..., ::2, ::2].expand(-1, 4, -1, -1)}

    with pytest.raises(ValueError, match=r"'half' of 4 channels at stride \[2, 2\].*neck"):
        SegmentationModel(Coarse(), {"semantic": SemanticHead(4, 2)})
    with pytest.raises(ValueError, match="take UNetDecoder or FPN"):
        ConvNeck(Coarse().features, 2)
    neck = UNetDecoder(Coarse().features, 1, 2)
    model = SegmentationModel(Coarse(), {"semantic": SemanticHead(neck.out_channels, 2)}, neck)
    assert semantic(model.eval(), torch.rand(1, 1, 9, 11)).shape == (1, 1, 9, 11)


def test_too_few_channels_for_the_levels_are_refused() -> None:
    facts = [Feature("a", 2, (2, 2)), Feature("b", 3, (4, 4))]
    with pytest.raises(ValueError, match="2 levels to decode; channels names 1"):
        UNetDecoder(facts, 1, 2, channels=(4,))


def test_one_tensor_is_one_feature() -> None:
    backbone = UNet(spatial_dims=2, channels=(3, 4))
    assert backbone.features == (Feature("features", 3, (1, 1)),) and not backbone.needs_neck
    assert list(backbone.named(backbone(torch.rand(1, 1, 4, 4)))) == ["features"]
