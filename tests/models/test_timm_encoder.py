"""Networks of timm as backbones: features, slices of volumes, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from skoots.errors import SkootsError
from skoots.models.backbones.base import BACKBONES, Feature
from skoots.models.backbones.receptive_field import measure_receptive_field
from skoots.models.backbones.timm_encoder import TimmEncoder
from skoots.models.backbones.unet import UNet

timm = pytest.importorskip("timm")


def test_features_are_those_of_timm() -> None:
    backbone = TimmEncoder(3, 2, "resnet10t").eval()
    assert [f.channels for f in backbone.features] == [64, 64, 128, 256, 512]
    assert [f.stride for f in backbone.features] == [(s, s) for s in (2, 4, 8, 16, 32)]
    images = torch.rand(2, 3, 64, 32)
    given, expected = backbone(images), backbone.encoder(images)
    assert list(given) == [f.name for f in backbone.features]
    assert all(torch.equal(given[f.name], e) for f, e in zip(backbone.features, expected))


def test_volumes_pass_slice_by_slice() -> None:
    torch.manual_seed(0)
    flat, deep = (TimmEncoder(2, dims, "resnet10t", levels=3).eval() for dims in (2, 3))
    deep.encoder.load_state_dict(flat.encoder.state_dict())
    assert deep.stride == (1, 8, 8) and deep.receptive_field == (0, *flat.receptive_field)
    assert deep.features[1] == Feature("stride4", 64, (1, 4, 4))
    images = torch.rand(2, 2, 3, 16, 24)
    given = deep(images)
    for z in range(3):
        for name, expected in flat(images[:, :, z]).items():
            assert torch.allclose(given[name][:, :, z], expected, atol=1e-5)


def test_fewer_levels_see_less() -> None:
    few, all_of_them = (TimmEncoder(1, 2, "resnet10t", levels=levels) for levels in (2, None))
    assert few.features == all_of_them.features[:2] and few.stride == (4, 4)
    assert few.receptive_field < all_of_them.receptive_field


def test_measured_is_never_less_than_computed() -> None:
    for arguments in ({"channels": (3, 4)}, {"channels": (2, 3, 4), "strides": [(3, 1), (1, 2)]}):
        network = UNet(spatial_dims=2, **arguments)  # type: ignore[arg-type]
        for axis, stride in enumerate(network.stride):
            measured = measure_receptive_field(network, 1, axis)
            assert network.receptive_field[axis] <= measured < network.receptive_field[axis] + stride


def test_what_sees_the_whole_image_gets_a_usual_halo() -> None:
    class Global(UNet):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = super().forward(images)
            return features + features.mean((2, 3), keepdim=True)

    network = Global(spatial_dims=2, channels=(2, 2, 2))
    assert measure_receptive_field(network, 1, 0) == 16 * 4
    assert network.training and not any(p.isnan().any() for p in network.parameters())


@pytest.mark.parametrize("kind", ["TimmEncoder", "TimmUNet"])
def test_weights_come_from_a_file(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = timm.create_model("resnet10t", in_chans=3)
    file = tmp_path / "weights.pth"
    torch.save(source.state_dict(), file)
    node = {"type": kind, "model_name": "resnet10t", "pretrained": str(file)}
    name = "layer1.0.conv1.weight"
    for channels in (1, 3, 5):
        backbone: Any = BACKBONES.build(node, in_channels=channels, spatial_dims=2)
        state = backbone.encoder.state_dict()
        assert torch.equal(next(v for k, v in state.items() if k.endswith(name)), source.state_dict()[name])
        first = next(m for m in backbone.encoder.modules() if isinstance(m, nn.Conv2d))
        assert first.in_channels == channels


def test_faults_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SkootsError, match=r"timm has no model 'resnet81'. Did you mean"):
        TimmEncoder(model_name="resnet81")
    with pytest.raises(SkootsError, match="do not exist"):
        TimmEncoder(pretrained=str(tmp_path / "none.pth"))
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(SkootsError, match=r"bad.pth holds no weights of resnet18 .* pretrained: false"):
        TimmEncoder(pretrained=str(tmp_path / "bad.pth"))


def test_without_internet_a_sentence_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, pretrained: bool = False, **kwargs: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(SkootsError) as caught:
        TimmEncoder(model_name="resnet18", pretrained=True)
    sentence = str(caught.value)
    assert "https://huggingface.co/timm/resnet18" in sentence and "\n" not in sentence
    assert "pretrained: /path/to/model.safetensors" in sentence
