"""SuperGradients' section ``checkpoint_params``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skoots.api.build import DataFacts, build_model
from skoots.api.weights import begin_with_weights
from skoots.config import load_config
from skoots.errors import ConfigError

PAGE = """
checkpoint_params:
  load_backbone: False # whether to load only the backbone part of the checkpoint
  checkpoint_path: # checkpoint path that is located in super_gradients/checkpoints
  strict_load: True # key matching strictness for loading checkpoint's weights
  pretrained_weights: # a string describing the dataset of the pre-trained weights (for example, "imagenent").
"""
NETWORK = {
    "model": {
        "backbone": {"type": "UNet", "channels": [2, 4]},
        "heads": {"vector": {"type": "VectorHead", "scale": 4.0}, "semantic": None},
    }
}


def said(params: Any, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config({"checkpoint_params": params, **more})
    return [str(fault) for fault in caught.value.faults]


def test_the_page_s_defaults_ask_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(PAGE)
    assert load_config(tmp_path / "c.yaml") == load_config({})
    assert load_config({"checkpoint_params": None}) == load_config({})


@pytest.mark.parametrize(
    ("strict_load", "strict"),
    [(True, True), (False, False), ("no_key_matching", "no_key_matching"), ("ON", True), ("OFF", False),
     ("NO_KEY_MATCHING", "no_key_matching"), (None, True)],
)  # fmt: skip
def test_every_mode_under_each_of_its_names(strict_load: Any, strict: Any) -> None:
    params = {"checkpoint_path": "a/ckpt_best.pth", "strict_load": strict_load}
    weights = load_config({"checkpoint_params": params}).weights
    assert weights.model_dump() == {"from": "a/ckpt_best.pth", "strict": strict, "parts": [], "sha256": None}


def loaded(params: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A network's tensors before and after it begins with what ``checkpoint_params`` asks for."""
    config = load_config({**NETWORK, "checkpoint_params": params})
    torch.manual_seed(1)
    model = build_model(config, DataFacts(1, 2, (1.0, 1.0)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    begin_with_weights(config, model)
    return before, model.state_dict()


def test_each_key_does_what_the_page_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = build_model(load_config(NETWORK), DataFacts(1, 2, (1.0, 1.0))).state_dict()
    torch.save({"net": other}, tmp_path / "ckpt_best.pth")
    path = str(tmp_path / "ckpt_best.pth")
    _, whole = loaded({"checkpoint_path": path})
    assert all(torch.equal(value, other[name]) for name, value in whole.items())
    before, part = loaded({"checkpoint_path": path, "load_backbone": True})
    for name, value in part.items():
        wanted = other if name.startswith("backbone.") else before
        assert torch.equal(value, wanted[name]), name
    renamed = {
        f"{name.rpartition('.')[0]}_.{name.rpartition('.')[2]}": value for name, value in other.items()
    }
    torch.save({"net": {**other, "extra.weight": torch.ones(1)}}, tmp_path / "more.pth")
    torch.save({"net": renamed}, tmp_path / "renamed.pth")
    for file in ("more.pth", "renamed.pth"):
        with pytest.raises(ConfigError):
            loaded({"checkpoint_path": str(tmp_path / file)})
    _, loose = loaded({"checkpoint_path": str(tmp_path / "more.pth"), "strict_load": False})
    _, by_order = loaded({"checkpoint_path": str(tmp_path / "renamed.pth"), "strict_load": "no_key_matching"})
    for found in (loose, by_order):
        assert all(torch.equal(value, other[name]) for name, value in found.items())


def test_pretrained_weights_are_the_backbone_s() -> None:
    params = {"pretrained_weights": "imagenet"}
    config = load_config({"checkpoint_params": params, "model": {"backbone": "TimmUNet"}})
    assert config.model.backbone == {"type": "TimmUNet", "pretrained": True}
    assert config.weights == load_config({}).weights
    assert said(params) == [
        "checkpoint_params.pretrained_weights: is given, but UNet has no pretrained weights. Take a backbone "
        "that has some, such as TimmUNet, or leave it out."
    ]
    assert said({"pretrained_weights": "coco"}) == [
        'checkpoint_params.pretrained_weights: is "coco", for which there are no weights. Write imagenet, or '
        "name a file or an https address under checkpoint_path."
    ]


def test_faults() -> None:
    assert sorted(said({"checkpoint_pat": "a", "strict_load": "maybe", "load_backbone": 1})) == [
        "checkpoint_params.checkpoint_pat: unknown key. Did you mean checkpoint_path?",
        "checkpoint_params.load_backbone: is 1, must be true or false.",
        'checkpoint_params.strict_load: is "maybe", must be true or false or "no_key_matching".',
    ]
    assert said({"checkpoint_path": "a", "pretrained_weights": "imagenet"}) == [
        "checkpoint_params.pretrained_weights: is given, and checkpoint_path too. Keep one of the two."
    ]
    assert said({"checkpoint_path": "a"}, weights="b.pt") == [
        "checkpoint_params.checkpoint_path: is given, and weights too. Keep one of the two."
    ]
    assert said(5) == ["checkpoint_params: is 5, must be a section of keys and values."]
