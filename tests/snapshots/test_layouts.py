"""Weights of other programs, without running what is in their files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from original_model import CfgNode, Pickled

from skoots.errors import SnapshotError
from skoots.snapshots import read_config, read_weights, write_snapshot

W, E = {"w": torch.zeros(3)}, {"w": torch.ones(3)}
EPOCH = {"epoch": 3, "acc": 0.5}


@pytest.mark.parametrize(
    ("content", "layout", "auto", "raw"),
    [
        (W, "plain state dict", 0, 0),
        ({"net": W, **EPOCH}, "SuperGradients", 0, 0),
        ({"net": W, "ema_net": E, **EPOCH}, "SuperGradients", 1, 0),
        ({"model": E, "metadata": {"epoch": 3}, "scheduler": {}}, "DeepLabCut", 1, 1),
        ({"model_state_dict": E, "dataset_mean": 0.0, "avg_losses": [1.0]}, "original SKOOTS", 1, 1),
        ({"state_dict": E, "pytorch-lightning_version": "2.0"}, "PyTorch Lightning", 1, 1),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_layouts(content: Any, layout: str, auto: int, raw: int, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    weights, owner = read_weights(path)
    assert owner == layout and weights["w"].tolist() == [auto] * 3
    assert read_weights(path, "raw")[0]["w"].tolist() == [raw] * 3
    if "ema_net" not in content:
        with pytest.raises(SnapshotError, match="no EMA weights"):
            read_weights(path, "ema")


def test_own_snapshots(tmp_path: Path) -> None:
    path = write_snapshot({"net": W, "ema_net": E, **EPOCH}, tmp_path / "s.pt")
    weights, owner = read_weights(path)
    assert owner == "skoots" and weights["w"].tolist() == [1] * 3


def test_files_of_the_original_with_their_config(tmp_path: Path) -> None:
    config = CfgNode(
        TRAIN=CfgNode(LR=1e-3), NOTE="cyacs.config\nCfgNode\n"
    )  # a text that looks like the class
    config.__dict__["__immutable__"] = True
    path = tmp_path / "model.trch"
    torch.save({"cfg": config, "model_state_dict": E}, path, pickle_module=Pickled, pickle_protocol=2)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    weights, owner = read_weights(path)
    assert owner == "original SKOOTS" and weights["w"].tolist() == [1] * 3


def test_the_config_of_the_original(tmp_path: Path) -> None:
    config = CfgNode(TRAIN=CfgNode(LR=1e-3, PAIR=(1, 2)), NOTE="cyacs.config\nCfgNode\n")
    path = tmp_path / "model.trch"
    torch.save({"cfg": config, "model_state_dict": E}, path, pickle_module=Pickled, pickle_protocol=2)
    assert read_config(path) == {"TRAIN": {"LR": 1e-3, "PAIR": (1, 2)}, "NOTE": "cyacs.config\nCfgNode\n"}
    for content in (E, [1], {"cfg": 3}):
        torch.save(content, path)
        with pytest.raises(SnapshotError, match="holds no config under the key cfg"):
            read_config(path)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_code_is_not_run_beside_a_config_either(tmp_path: Path) -> None:
    path = tmp_path / "model.trch"
    content = {"cfg": CfgNode(), "model_state_dict": {**E, "bomb": Bomb(tmp_path / "ran")}}
    torch.save(content, path, pickle_module=Pickled, pickle_protocol=2)
    with pytest.raises(
        SnapshotError, match="holds more than tensors and plain Python values and was refused"
    ):
        read_weights(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list and no weights that are known here"),
        ({"a": 1, "b": 2}, "holds the keys a, b and no weights"),
        ({}, "holds the keys  and no weights"),
        ({"net": {}}, "holds the keys net and no weights"),
    ],
)
def test_other_files_are_explained(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(SnapshotError, match=message):
        read_weights(path)


def test_missing_empty_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(SnapshotError, match="does not exist"):
        read_weights(path)
    path.write_bytes(b"")
    with pytest.raises(SnapshotError, match="is empty"):
        read_weights(path)
    path.write_bytes(b"some text")
    with pytest.raises(SnapshotError, match="is no skoots snapshot"):
        read_weights(path)
    torch.save(E, path)
    content = bytearray(path.read_bytes())
    content[content.index(E["w"].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match=r"is damaged: its record .* does not match its checksum"):
        read_weights(path)
