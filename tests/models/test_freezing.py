"""``freeze_bn_stats`` and ``freeze_bn_weights``, for every kind of batch norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skoots.models.backbones.base import Backbone
from skoots.models.heads.semantic import SemanticHead
from skoots.models.segmentation_model import SegmentationModel


class Normed(Backbone):
    """One norm after a convolution of its own rank; ``norm`` may be any module."""

    def __init__(self, norm: nn.Module, rank: int) -> None:
        super().__init__()
        self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](1, 4, 1)
        self.norm, self.rank = norm, rank
        self.spatial_dims, self.out_channels, self.stride = 2, 4, (1, 1)
        self.receptive_field = (0, 0)

    def forward(self, images: Tensor) -> Tensor:
        batch, _, *shape = images.shape
        folded = {1: images.flatten(2), 2: images, 3: images.unsqueeze(2)}[self.rank]
        features: Tensor = self.norm(self.conv(folded))
        return features.reshape(batch, 4, *shape)


def norms() -> dict[str, tuple[nn.Module, int]]:
    found: dict[str, tuple[nn.Module, int]] = {
        "BatchNorm1d": (nn.BatchNorm1d(4), 1),
        "BatchNorm2d": (nn.BatchNorm2d(4), 2),
        "BatchNorm3d": (nn.BatchNorm3d(4), 3),
    }
    try:
        from timm.layers import BatchNormAct2d
    except ImportError:
        return found
    return {**found, "timm's with an activation": (BatchNormAct2d(4, act_layer=nn.PReLU), 2)}


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("stats", [False, True])
@pytest.mark.parametrize("name", norms())
def test_each_kind_is_frozen(name: str, stats: bool, weights: bool) -> None:
    torch.manual_seed(0)
    norm, rank = norms()[name]
    backbone = Normed(norm, rank)
    model = SegmentationModel(
        backbone, {"semantic": SemanticHead(4, 2)}, freeze_bn_stats=stats, freeze_bn_weights=weights
    ).train()
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(torch.randn(2, 1, 8, 8))["semantic"]["semantic"].sum().backward()
    optimizer.step()
    changed = {key: not torch.equal(value, before[key]) for key, value in norm.state_dict().items()}
    assert changed["weight"] == changed["bias"] == (not weights)
    assert changed["running_mean"] == changed["running_var"] == (not stats)
    if "act.weight" in changed:
        assert changed["act.weight"]  # an activation is no batch norm


def test_synchronised_ones_stay_as_they_were() -> None:
    """They are made of the others after the model is built."""
    model = SegmentationModel(
        Normed(nn.BatchNorm2d(4), 2),
        {"semantic": SemanticHead(4, 2)},
        freeze_bn_stats=True,
        freeze_bn_weights=True,
    )
    converted: Any = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    norm = converted.train().backbone.norm
    assert isinstance(norm, nn.SyncBatchNorm)
    assert not norm.training and not norm.weight.requires_grad and not norm.bias.requires_grad


def test_the_norms_of_a_timm_encoder_are_frozen() -> None:
    pytest.importorskip("timm")
    from skoots.models.backbones.base import BACKBONES

    backbone = BACKBONES.build(
        {"type": "TimmUNet", "model_name": "resnet18", "pretrained": False}, in_channels=1, spatial_dims=2
    )
    model = SegmentationModel(
        backbone,
        {"semantic": SemanticHead(backbone.out_channels, 2)},
        freeze_bn_stats=True,
        freeze_bn_weights=True,
    ).train()
    found = [m for m in model.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.running_mean.clone() for norm in found]  # type: ignore[union-attr]
    model(torch.randn(2, 1, 64, 64))
    assert len(found) >= 20
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(found, before))  # type: ignore[arg-type]
    assert not any(p.requires_grad for norm in found for p in norm.parameters())
