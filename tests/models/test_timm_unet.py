"""A 2D backbone with an encoder of timm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from skoots.errors import SkootsError
from skoots.models.backbones.base import BACKBONES
from skoots.models.backbones.timm_unet import TimmUNet

CHANNELS = (4, 4, 8, 8, 8)


def make(**arguments: object) -> TimmUNet:
    return TimmUNet(model_name="resnet10t", channels=CHANNELS, **arguments)  # type: ignore[arg-type]


def test_features_have_the_images_shape_and_every_weight_learns() -> None:
    backbone = make(in_channels=3)
    features = backbone(torch.randn(2, 3, 64, 96))
    assert features.shape == (2, 4, 64, 96) and backbone.stride == (32, 32)
    features.square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_the_measured_receptive_field_holds() -> None:
    torch.manual_seed(0)
    backbone = make().eval()
    reach = backbone.receptive_field[1]
    assert 50 < reach < 512
    image = torch.randn(1, 1, 32, 1024)
    changed = image.clone()
    changed[..., 1023] += 5
    with torch.no_grad():
        difference = (backbone(image) - backbone(changed)).abs().amax((0, 1, 2))
    assert float(difference[: 1023 - reach].max()) < 1e-5 < float(difference.max())


def test_faults_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SkootsError, match=r"timm has no model 'resnet81'. Did you mean"):
        TimmUNet(model_name="resnet81")
    with pytest.raises(ValueError, match="2D images"):
        make(spatial_dims=3)
    with pytest.raises(SkootsError, match="do not exist"):
        make(pretrained_file=str(tmp_path / "none.pth"))
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(SkootsError, match=r"bad.pth holds no weights of resnet10t .* pretrained: false"):
        make(pretrained_file=str(tmp_path / "bad.pth"))


def test_weights_come_from_a_local_file(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    source = timm.create_model("resnet10t", in_chans=1)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    backbone = make(pretrained_file=str(tmp_path / "weights.pth"), in_channels=1)
    wanted = source.state_dict()["layer1.0.conv1.weight"]
    found = [p for name, p in backbone.encoder.state_dict().items() if name.endswith("layer1.0.conv1.weight")]
    assert len(found) == 1 and torch.equal(found[0], wanted)


def test_it_is_an_encoder_and_a_decoder_under_the_names_of_its_first_snapshots() -> None:
    state = BACKBONES.build({"type": "TimmUNet", "model_name": "resnet10t"}, in_channels=1).state_dict()
    ups = [f"up.{level}.0.weight" for level in range(5)]
    assert [name for name in state if name.startswith("up.") and name.endswith(".0.weight")] == ups
    assert [tuple(state[name].shape[:2]) for name in ups] == [
        (128, 256 + 512), (96, 128 + 128), (64, 64 + 96), (32, 64 + 64), (16, 1 + 32),
    ]  # fmt: skip
    assert "encoder.layer1.0.conv1.weight" in state
