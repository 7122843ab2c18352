"""HRNet under the names of DeepLabCut's configuration page."""

from __future__ import annotations

import pytest
import torch

from skoots.models.backbones.hrnet import HRNet

pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("wide", "stacked", "channels"),
    [
        (False, False, [16, 32, 64, 128]),
        (True, False, [128, 256, 512, 1024]),
        (False, True, [16 + 32 + 64 + 128]),
        (True, True, [128 + 256 + 512 + 1024]),
    ],
)
def test_what_the_options_mean(wide: bool, stacked: bool, channels: list[int]) -> None:
    backbone = HRNet(
        1, 2, "hrnet_w18_small", increased_channel_count=wide, interpolate_branches=stacked
    ).eval()
    assert [f.channels for f in backbone.features] == channels
    assert [f.stride[0] for f in backbone.features] == [4, 8, 16, 32][: len(channels)]
    given = backbone(torch.rand(1, 1, 32, 64))
    assert given[backbone.features[0].name].shape == (1, channels[0], 8, 16)


def test_stacked_branches_are_the_branches() -> None:
    torch.manual_seed(0)
    apart, stacked = (HRNet(1, 2, "hrnet_w18_small", interpolate_branches=s).eval() for s in (False, True))
    stacked.load_state_dict(apart.state_dict())
    images = torch.rand(1, 1, 32, 64)
    branches, (one,) = list(apart(images).values()), stacked(images).values()
    assert torch.equal(one[:, :16], branches[0])
    assert torch.equal(one[:, 16:48, ::2, ::2], branches[1])
    assert torch.equal(one[:, -128:, ::8, 3::8], branches[3])


def test_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="'resnet18', which is no HRNet"):
        HRNet(model_name="resnet18")
