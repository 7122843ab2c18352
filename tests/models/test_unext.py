"""The UNeXT: its layers against a plain implementation, and the facts that exact tiling rests on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from skoots.geometry import tile_volume
from skoots.models.backbones.base import BACKBONES
from skoots.models.backbones.unext import Block, UNeXT
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.vector import VectorHead
from skoots.models.segmentation_model import SegmentationModel

# Arguments of a UNeXT, and a volume large enough for its receptive field.
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "one level": (dict(spatial_dims=2, dims=[3], depths=[1], kernel=3), (33, 30)),
    "2D": (dict(spatial_dims=2, dims=[2, 4, 3], depths=[2, 1, 1], kernel=3), (69, 66)),
    "2D of long pixels": (
        dict(spatial_dims=2, dims=[2, 3, 2], depths=[1, 1, 1], kernel=[3, 5], strides=[[1, 2], [2, 2]]),
        (39, 102),
    ),
    "3D": (dict(dims=[3], depths=[1], kernel=3), (31, 30, 29)),
}


def make_model(arguments: dict[str, Any], seed: int = 0) -> SegmentationModel:
    torch.manual_seed(seed)
    backbone = UNeXT(**arguments)
    dims = backbone.spatial_dims
    heads = {
        "vector": VectorHead(backbone.out_channels, dims, scale=10),
        "semantic": SemanticHead(backbone.out_channels, dims),
    }
    return SegmentationModel(backbone, heads).eval()


def maps(model: SegmentationModel, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([value for _, (_, value) in sorted(model.maps(model(images)).items())], 1)


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_have_the_shape_of_the_image(name: str, pad: bool) -> None:
    arguments, _ = NETWORKS[name]
    model = make_model({**arguments, "pad": pad})
    for shape in [(1,) * model.spatial_dims, (5, 7, 9)[: model.spatial_dims]]:
        outputs = model(torch.rand(2, 1, *shape))
        assert outputs["vector"]["vector"].shape == (2, model.spatial_dims, *shape)
        assert outputs["semantic"]["semantic"].shape == (2, 1, *shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_receptive_field_is_true(name: str) -> None:
    """A NaN in one voxel of the image makes NaN of every output that depends on it, and of no other."""
    arguments, shape = NETWORKS[name]
    model = make_model(arguments)
    farthest = [0] * len(shape)
    for phase in itertools.product(*(range(s) for s in model.stride)):
        where = [n // 2 + p for n, p in zip(shape, phase)]
        images = torch.rand(1, 1, *shape)
        images[(0, 0, *where)] = float("nan")
        touched = maps(model, images)[0].isnan().any(0).nonzero()
        reach = (touched - torch.tensor(where)).abs().max(0).values.tolist()
        farthest = [max(a, b) for a, b in zip(farthest, reach)]
    assert tuple(farthest) == model.receptive_field


@pytest.mark.parametrize("name", NETWORKS)
def test_tiling_is_exact(name: str) -> None:
    arguments, shape = NETWORKS[name]
    model = make_model(arguments, seed=1)
    images = torch.rand(1, 1, *shape) * 2 - 1
    whole = maps(model, images)
    tiles = tile_volume(shape, [max(3, n // 3) for n in shape], model.receptive_field, model.stride)
    assert len(tiles) > 1 and any(tile.read.shape != shape for tile in tiles)
    for tile in tiles:
        part = maps(model, images[(..., *tile.read.slices)])
        assert torch.allclose(part[(..., *tile.core.slices)], whole[(..., *tile.write.slices)], atol=2e-6)


def test_padding_matters_only_where_the_stride_does_not_divide() -> None:
    padding, fitting = (make_model({**NETWORKS["2D"][0], "pad": pad}) for pad in (True, False))
    even, odd = torch.rand(1, 1, 24, 20), torch.rand(1, 1, 23, 20)
    assert torch.equal(maps(padding, even), maps(fitting, even))
    assert not torch.allclose(maps(padding, odd), maps(fitting, odd), atol=1e-4)


def test_arguments_come_from_a_config() -> None:
    node = {"type": "UNeXT", "dims": [2, 4, 2], "depths": [1, 1, 1], "kernel": 3, "activation": "relu"}
    backbone = BACKBONES.build({**node, "out_channels": 5, "layer_scale": 0.5}, in_channels=3, spatial_dims=2)
    assert backbone(torch.rand(1, 3, 8, 8)).shape == (1, 5, 8, 8) and backbone.out_channels == 5
    assert backbone.stride == (4, 4) and backbone.stem[1].gamma.tolist() == [0.5] * 2
    assert isinstance(backbone.stem[1].activation, torch.nn.ReLU)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(dims=[2, 2], depths=[1, 1]), "the same odd length"),
        (dict(dims=[2, 2, 2], depths=[1]), "the same odd length"),
        (dict(kernel=[3, 3]), "strides and kernels 3 numbers each"),
        (dict(strides=[[2, 2, 2]]), "5 stages need 3 strides"),
        (dict(kernel=4), "must be odd"),
    ],
)
def test_arguments_must_fit(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNeXT(**arguments)


def test_blocks_are_left_out_in_training_alone() -> None:
    torch.manual_seed(0)
    block, features = Block(2, 4, (3, 3), drop=0.5), torch.rand(64, 4, 6, 6)
    left_out = (block.train()(features) == features).flatten(1).all(1)
    assert 10 < int(left_out.sum()) < 54
    kept = features + 2 * (block.eval()(features) - features)  # twice as much, so that the mean is the same
    trained = block.train()(features)
    chosen = (trained != features).flatten(1).any(1)
    assert torch.allclose(trained[chosen], kept[chosen], atol=1e-5)
    assert not (block.eval()(features) == features).flatten(1).all(1).any()
    assert (
        UNeXT(drop_path=0.3).down[2][-1].drop == pytest.approx(0.3) and UNeXT(drop_path=0.3).stem[1].drop == 0
    )
