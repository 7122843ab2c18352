"""Every built-in part keeps the contract that plugins are held to."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest
import torch

from skoots.models.backbones.base import Backbone, Feature
from skoots.models.backbones.hrnet import HRNet
from skoots.models.backbones.monai_net import MonaiNet
from skoots.models.backbones.timm_encoder import TimmEncoder
from skoots.models.backbones.timm_unet import TimmUNet
from skoots.models.backbones.unet import UNet
from skoots.models.backbones.unext import UNeXT
from skoots.models.criteria.base import Criterion
from skoots.models.criteria.cldice import SoftClDice, SoftDiceClDice
from skoots.models.criteria.tversky import Dice, Tversky
from skoots.models.criteria.voxelwise import BCE
from skoots.models.heads.base import Head
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.models.necks.base import Neck
from skoots.models.necks.bottleneck import ConvNeck
from skoots.models.necks.fpn import FPN
from skoots.models.necks.slice_fusion import SliceFusion
from skoots.models.necks.unet_decoder import UNetDecoder
from skoots.testing import BackboneContract, CriterionContract, HeadContract, NeckContract


class TestUNet(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        return UNet(in_channels, spatial_dims, channels=(4, 8))


class TestUNeXT(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        return UNeXT(in_channels, spatial_dims, dims=(4, 8, 4), depths=(1, 1, 1), kernel=3)


class TestTimmEncoder(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        pytest.importorskip("timm")
        return TimmEncoder(in_channels, spatial_dims, "resnet10t", levels=4)


class TestHRNet(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        pytest.importorskip("timm")
        return HRNet(in_channels, spatial_dims, "hrnet_w18_small")


class TestHRNetOfOneFeature(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        pytest.importorskip("timm")
        return HRNet(
            in_channels,
            spatial_dims,
            "hrnet_w18_small",
            interpolate_branches=True,
            increased_channel_count=True,
        )


class TestTimmUNet(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        pytest.importorskip("timm")
        if spatial_dims == 3:
            pytest.skip("for two dimensions")
        return TimmUNet(in_channels, model_name="resnet10t", channels=(4, 4, 8, 8, 8))


class TestMonaiNet(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("monai")
            arguments = {"channels": [4, 8, 8], "strides": [2, 2], "norm": "batch"}
            return MonaiNet(in_channels, spatial_dims, "UNet", 6, 4, arguments)


class TestConvNeck(NeckContract):
    strides = (1,)

    def make(self, features: Sequence[Feature], in_channels: int, spatial_dims: int) -> Neck:
        return ConvNeck(features, spatial_dims, out_channels=6, kernel=3)


class TestUNetDecoder(NeckContract):
    def make(self, features: Sequence[Feature], in_channels: int, spatial_dims: int) -> Neck:
        return UNetDecoder(features, in_channels, spatial_dims, channels=(4, 6))


class TestUNetDecoderOfCoarseFeatures(NeckContract):
    strides = (2, 4)

    def make(self, features: Sequence[Feature], in_channels: int, spatial_dims: int) -> Neck:
        return UNetDecoder(features, in_channels, spatial_dims, channels=(4, 6), norm="layer")


class TestFPN(NeckContract):
    strides = (4, 8)

    def make(self, features: Sequence[Feature], in_channels: int, spatial_dims: int) -> Neck:
        return FPN(features, in_channels, spatial_dims, out_channels=5)


class TestSliceFusion(NeckContract):
    strides = (2, 4)

    def make(self, features: Sequence[Feature], in_channels: int, spatial_dims: int) -> Neck:
        if spatial_dims == 2:
            pytest.skip("images have no slices")
        return SliceFusion(features, in_channels, spatial_dims, channels=(4, 6), kernel=5)


class TestVectorHead(HeadContract):
    def make(self, in_channels: int, spatial_dims: int) -> Head:
        return VectorHead(in_channels, spatial_dims, scale=5.0)


class TestSemanticHead(HeadContract):
    def make(self, in_channels: int, spatial_dims: int) -> Head:
        return SemanticHead(in_channels, spatial_dims)


class TestSkeletonHead(HeadContract):
    def make(self, in_channels: int, spatial_dims: int) -> Head:
        return SkeletonHead(in_channels, spatial_dims)


class TestTversky(CriterionContract):
    def make(self) -> Criterion:
        return Tversky()


class TestDice(CriterionContract):
    def make(self) -> Criterion:
        return Dice()


class TestBCE(CriterionContract):
    def make(self) -> Criterion:
        return BCE()


class TestSoftClDice(CriterionContract):
    def make(self) -> Criterion:
        return SoftClDice()


class TestSoftDiceClDice(CriterionContract):
    def make(self) -> Criterion:
        return SoftDiceClDice()


def test_a_backbone_that_lies_about_its_reach_is_caught() -> None:
    class Liar(UNet):
        def __init__(self, in_channels: int, spatial_dims: int) -> None:
            super().__init__(in_channels, spatial_dims, channels=(4, 8))
            self.receptive_field = (0,) * spatial_dims

    class Suite(BackboneContract):
        def make(self, in_channels: int, spatial_dims: int) -> Backbone:
            return Liar(in_channels, spatial_dims)

    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        Suite().test_voxels_beyond_the_receptive_field_do_not_matter(2)
