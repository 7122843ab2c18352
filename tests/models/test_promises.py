"""A part that gives other than it promises is named, with both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skoots.errors import PluginError
from skoots.models.backbones.base import Backbone, Feature
from skoots.models.backbones.unet import UNet
from skoots.models.heads.semantic import SemanticHead
from skoots.models.necks.base import Neck
from skoots.models.necks.unet_decoder import UNetDecoder
from skoots.models.promises import Rehearsal


class Two(Backbone):
    """Features at half and a quarter of the resolution; facts and what it gives can be changed."""

    def __init__(self, forget: str = "", give: Any = None, **facts: Any) -> None:
        super().__init__()
        promised: dict[str, Any] = {
            "spatial_dims": 2, "stride": (4, 4), "receptive_field": (3, 3),
            "features": (Feature("half", 1, (2, 2)), Feature("quarter", 1, (4, 4))),
        }  # fmt: skip
        for name, value in {**promised, **facts}.items():
            if name != forget:
                setattr(self, name, value)
        self.give = give

    def forward(self, images: Tensor) -> Any:
        given = {"half": images[..., ::2, ::2], "quarter": images[..., ::4, ::4]}
        return given if self.give is None else self.give(given)


def wrong_name(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"half": given["half"], "qarter": given["quarter"]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"forget": "stride"}, "Backbone Two publishes no stride"),
        ({"forget": "receptive_field"}, "Backbone Two publishes no receptive_field"),
        ({"forget": "features"}, "Backbone Two publishes neither features nor out_channels"),
        ({"stride": (4, 4, 4)}, r"publishes stride \[4, 4, 4\] for 2 dimensions"),
        ({"stride": (2, 2)}, r"publishes stride \[2, 2\], no multiple of that of 'quarter'"),
        ({"features": ("half",)}, r"publishes features \('half',\), must be Feature\("),
        ({"features": (Feature("b", 1, (4, 4)), Feature("a", 1, (2, 2)))}, "own, the finest first"),
        ({"features": (Feature("a", 1, (2, 2)), Feature("a", 1, (4, 4)))}, "names of their own"),
        ({"give": wrong_name}, r"'quarter' of 1 channels at stride \[4, 4\], and gave 'half', 'qarter'"),
        ({"stride": (4, 2**40)}, r"needs images of 16 x \d+ voxels at least, far more"),
        ({"give": lambda given: given["half"]}, "promises 2 features and gave one tensor"),
        ({"give": lambda given: list(given.values())}, "gave a list"),
        (
            {"give": lambda given: {**given, "half": given["half"].expand(-1, 3, -1, -1)}},
            r"promises 'half' of 1 channels at stride \[2, 2\], which is \[1, 1, 8, 10\] for an image of "
            r"\[1, 1, 16, 20\], and gave \[1, 3, 8, 10\]",
        ),
        (
            {"give": lambda given: {**given, "half": given["quarter"]}},
            r"which is \[1, 1, 8, 10\] for .* and gave \[1, 1, 4, 5\]",
        ),
        ({"give": lambda given: given["eighth"]}, "Backbone Two fails on an image: KeyError: 'eighth'"),
    ],
)  # fmt: skip
def test_backbones(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PluginError, match=sentence):
        Rehearsal(1, 2).backbone(Two(**changes))


class Mean(Neck):
    """The mean of all features; what it promises can be changed."""

    def __init__(self, out_channels: int = 1, receptive_field: Any = (0, 0), size: int = 1) -> None:
        super().__init__()
        self.out_channels, self.receptive_field, self.size = out_channels, receptive_field, size

    def forward(self, images: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        return nn.functional.avg_pool2d(images, self.size)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"out_channels": None}, "Neck Mean publishes no out_channels"),
        ({"receptive_field": (0,)}, r"publishes receptive_field \[0\] for 2 dimensions"),
        ({"out_channels": 2}, r"promises 2 channels .*\[1, 2, 16, 20\], and gave \[1, 1, 16, 20\]"),
        ({"size": 2}, r"\[1, 1, 16, 20\], and gave \[1, 1, 8, 10\]"),
        ({"size": 0}, "Neck Mean fails on the features that it was built for: RuntimeError"),
    ],
)
def test_necks(changes: dict[str, Any], sentence: str) -> None:
    rehearsal = Rehearsal(1, 2)
    rehearsal.backbone(Two())
    with pytest.raises(PluginError, match=sentence):
        rehearsal.neck(Mean(**changes))


def test_heads() -> None:
    class Smaller(SemanticHead):
        def forward(self, features: Tensor) -> dict[str, Tensor]:
            return {"semantic": super().forward(features)["semantic"][..., 1:]}

    rehearsal = Rehearsal(1, 2)
    rehearsal.backbone(UNet(spatial_dims=2, channels=(4,)))
    with pytest.raises(PluginError, match=r"Head 'cells' \(SemanticHead\) fails on features of 4 channels"):
        rehearsal.head("cells", SemanticHead(5, 2))
    with pytest.raises(PluginError, match=r"\(Smaller\) gave output 'semantic' of shape \[1, 1, 16, 16\]"):
        rehearsal.head("cells", Smaller(4, 2))


def test_parts_that_keep_their_word_are_left_as_they_are() -> None:
    rehearsal, backbone = Rehearsal(1, 3), UNet(channels=(2, 3))
    backbone.down[0].eval()
    modes = [module.training for module in backbone.modules()]
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    rehearsal.backbone(backbone)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    rehearsal.head("semantic", SemanticHead(2, 3))
    coarse = Rehearsal(1, 2)
    coarse.backbone(Two())
    coarse.neck(UNetDecoder(Two().features, 1, 2))
