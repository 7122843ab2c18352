"""Networks of MONAI as backbones."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch

from skoots.errors import SkootsError
from skoots.models.backbones.base import BACKBONES
from skoots.models.backbones.monai_net import MonaiNet


def test_without_monai_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)
    monkeypatch.setitem(sys.modules, "monai.networks", None)
    with pytest.raises(SkootsError, match=r"pip install 'skoots\[monai\]'"):
        MonaiNet()


@pytest.mark.filterwarnings("ignore")
class TestWithMonai:
    @pytest.fixture(autouse=True)
    def _needs_monai(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("monai")

    @pytest.mark.parametrize("spatial_dims", [2, 3])
    def test_features_have_the_images_shape(self, spatial_dims: int) -> None:
        backbone = BACKBONES.build(
            {
                "type": "MonaiNet",
                "network": "UNet",
                "stride": 4,
                "out_channels": 6,
                "arguments": {"channels": [4, 8, 8], "strides": [2, 2], "norm": "batch"},
            },
            in_channels=2,
            spatial_dims=spatial_dims,
        )
        shape = (16, 20, 24)[-spatial_dims:]
        assert backbone(torch.randn(2, 2, *shape)).shape == (2, 6, *shape)
        assert all(8 <= reach <= 40 for reach in backbone.receptive_field)

    def test_unknown_networks_list_near_misses(self) -> None:
        with pytest.raises(SkootsError, match=r"has no 'BasicUnett'\. Did you mean Basicunet"):
            MonaiNet(network="BasicUnett")
