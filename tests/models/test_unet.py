"""The U-Net and the model around it: shapes, and the facts that exact tiling rests on."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from skoots.geometry import tile_volume
from skoots.models.backbones.base import BACKBONES
from skoots.models.backbones.unet import UNet, plan_levels
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.models.layers import ChannelLayerNorm, make_conv
from skoots.models.necks.bottleneck import ConvNeck
from skoots.models.segmentation_model import SegmentationModel, pad_to_multiple

# Arguments of a U-Net, and a volume large enough for its receptive field.
NETWORKS = {
    "one level": (dict(spatial_dims=2, channels=(3,)), (15, 14)),
    "2D": (dict(spatial_dims=2, channels=(2, 3, 4)), (61, 58)),
    "2D of long pixels": (dict(spatial_dims=2, channels=(2, 3, 3), voxel_size=(3, 1)), (40, 61)),
    "3D": (dict(spatial_dims=3, channels=(2, 3)), (33, 30, 29)),
    "thick sections": (dict(spatial_dims=3, channels=(2, 2, 3), voxel_size=(5.4, 1, 1)), (9, 54, 53)),
    "a bit thick": (dict(spatial_dims=3, channels=(2, 3), voxel_size=(2.5, 1, 1)), (11, 30, 29)),
    "own strides": (
        dict(spatial_dims=2, channels=(2, 3, 3), strides=[(3, 1), (1, 2)], kernels=[(1, 5), (3, 3), (3, 1)]),
        (45, 52),
    ),
}


def make_model(arguments, norm="batch", seed=0, neck_kernel=1):
    """A model with random weights, and with running statistics that are not the trivial ones."""
    torch.manual_seed(seed)
    dims = arguments["spatial_dims"]
    backbone = UNet(norm=norm, **arguments)
    neck = ConvNeck(backbone.features, dims, kernel=neck_kernel, norm=norm)
    channels = neck.out_channels
    heads = {
        "vector": VectorHead(channels, dims, scale=10),
        "semantic": SemanticHead(channels, dims),
        "skeleton": SkeletonHead(channels, dims, kernel=1),
    }
    model = SegmentationModel(backbone, heads, neck)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def maps(model, images):
    return torch.cat([value for _, (_, value) in sorted(model.maps(model(images)).items())], 1)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_have_the_shape_of_the_image(name, norm):
    arguments, _ = NETWORKS[name]
    dims = arguments["spatial_dims"]
    model = make_model(arguments, norm)
    for shape in [(1,) * dims, (5, 7, 9)[:dims], (16,) * dims]:
        with torch.no_grad():
            outputs = model(torch.rand(2, 1, *shape))
        assert {h: {k: tuple(v.shape) for k, v in o.items()} for h, o in outputs.items()} == {
            "vector": {"vector": (2, dims, *shape)},
            "semantic": {"semantic": (2, 1, *shape)},
            "skeleton": {"skeleton": (2, 1, *shape)},
        }
        assert outputs["vector"]["vector"].abs().max() <= 1
        assert all(outputs[k][k].min() >= 0 and outputs[k][k].max() <= 1 for k in ("semantic", "skeleton"))


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_receptive_field_is_true(name, norm):
    """A NaN in one voxel of the image makes NaN of every output that depends on it, and of no other."""
    arguments, shape = NETWORKS[name]
    model = make_model(arguments, norm, neck_kernel=3)
    middle = [n // 2 for n in shape]
    farthest = [0] * len(shape)
    phases = [range(s) for s in model.stride]
    for phase in itertools.product(*phases):
        where = [m + p for m, p in zip(middle, phase)]
        images = torch.rand(1, 1, *shape)
        images[(0, 0, *where)] = float("nan")
        with torch.no_grad():
            touched = maps(model, images)[0].isnan().any(0).nonzero()
        reach = (touched - torch.tensor(where)).abs().max(0).values.tolist()
        farthest = [max(a, b) for a, b in zip(farthest, reach)]
    assert (
        tuple(farthest) == model.receptive_field
    )  # and no wider than needed, else every tile reads too much


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiling_is_exact(name, norm):
    arguments, shape = NETWORKS[name]
    model = make_model(arguments, norm, seed=1)
    images = torch.rand(1, 1, *shape) * 2 - 1
    with torch.no_grad():
        whole = maps(model, images)
        core = [max(3, n // 2 - 2) for n in shape]
        tiles = tile_volume(shape, core, model.receptive_field, model.stride)
        smaller = 0
        for tile in tiles:
            smaller += tile.read.shape != tuple(shape)
            part = maps(model, images[(..., *tile.read.slices)])
            assert torch.allclose(part[(..., *tile.core.slices)], whole[(..., *tile.write.slices)], atol=2e-6)
    assert len(tiles) > 1 and smaller  # else nothing was proved


def test_a_smaller_halo_would_not_do():
    model = make_model(NETWORKS["3D"][0], seed=1)
    images = torch.rand(1, 1, 33, 30, 29)
    with torch.no_grad():
        whole = maps(model, images)
        tile = tile_volume((33, 30, 29), (16, 30, 29), (0, 0, 0), model.stride)[0]
        part = maps(model, images[(..., *tile.read.slices)])
    assert not torch.allclose(part[(..., *tile.core.slices)], whole[(..., *tile.write.slices)], atol=1e-3)


def test_levels_follow_anisotropy():
    # 5.4:1 sections: two poolings within the section until z has caught up (5.4 / 4 < 2), then all axes.
    strides, kernels = plan_levels(4, (5.4, 1, 1))
    assert strides == [(1, 2, 2), (1, 2, 2), (2, 2, 2)]
    assert kernels == [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]
    assert plan_levels(3, (9, 9, 9)) == ([(2, 2, 2)] * 2, [(3, 3, 3)] * 3)
    assert plan_levels(2, (1, 2)) == ([(2, 1)], [(3, 3), (3, 3)])
    assert plan_levels(1, (1, 1)) == ([], [(3, 3)])


def test_stride_is_the_product_of_strides():
    assert UNet(spatial_dims=3, channels=(2, 2, 2, 2), voxel_size=(5.4, 1, 1)).stride == (2, 8, 8)
    assert UNet(spatial_dims=2, channels=(2, 2, 2)).stride == (4, 4)


def test_levels_strides_and_kernels_must_fit():
    with pytest.raises(ValueError, match="3 levels need 2 strides and 3 kernels"):
        UNet(channels=(2, 2, 2), strides=[(2, 2, 2)])


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="must be odd along every axis"):
        SemanticHead(2, kernel=2)
    with pytest.raises(ValueError, match="must be odd"):
        make_conv(2, 1, 1, (3, 4))


def test_several_channels_and_the_registry():
    backbone = BACKBONES.build(
        {"type": "UNet", "channels": [2, 3]}, in_channels=3, spatial_dims=2, voxel_size=(1, 1)
    )
    assert backbone(torch.rand(1, 3, 8, 8)).shape == (1, 2, 8, 8) and backbone.out_channels == 2


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    backbone = UNet(spatial_dims=2, channels=(4, 16), norm="layer", dropout=0.5)
    images = torch.rand(1, 1, 8, 8)
    backbone.train()
    assert not torch.equal(backbone(images), backbone(images))
    backbone.eval()
    assert torch.equal(backbone(images), backbone(images))


def test_channel_layer_norm_is_torchs():
    features = torch.randn(2, 5, 3, 4, 6)
    norm = ChannelLayerNorm(5)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    expected = nn.functional.layer_norm(features.movedim(1, -1), (5,), norm.weight, norm.bias, 1e-6).movedim(
        -1, 1
    )
    assert torch.allclose(norm(features), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2), (5, 7), (8, 4), (1, 1, 3)])
def test_padding_repeats_the_border_at_the_end(shape):
    images = torch.rand(1, 2, *shape)
    padded = pad_to_multiple(images, (4,) * len(shape))
    assert padded.shape[2:] == tuple(-(-n // 4) * 4 for n in shape)
    for axis, n in enumerate(shape, 2):
        index = torch.arange(padded.shape[axis]).clamp(max=n - 1)
        images = images.index_select(axis, index)
    assert torch.equal(padded, images)
