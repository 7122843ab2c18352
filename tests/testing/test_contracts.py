"""Every built-in part keeps the contract that plugins are held to."""

from __future__ import annotations

import pytest
import torch

from skoots.models.backbones.base import Backbone
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
from skoots.testing import BackboneContract, CriterionContract, HeadContract, NeckContract


class TestUNet(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        return UNet(in_channels, spatial_dims, channels=(4, 8))


class TestUNeXT(BackboneContract):
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        return UNeXT(in_channels, spatial_dims, dims=(4, 8, 4), depths=(1, 1, 1), kernel=3)


class TestConvNeck(NeckContract):
    def make(self, in_channels: int, spatial_dims: int) -> Neck:
        return ConvNeck(in_channels, spatial_dims, out_channels=6, kernel=3)


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
