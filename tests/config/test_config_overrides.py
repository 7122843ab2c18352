from __future__ import annotations

from typing import Any

import pytest

from skoots.config import load_config
from skoots.errors import ConfigError


def resolve(path: str, *overrides: str, source: dict[str, Any] | None = None) -> Any:
    value: Any = load_config(source or {}, overrides).resolved()
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def sentence(*overrides: str, source: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(source or {}, overrides)
    assert len(caught.value.faults) == 1
    return str(caught.value.faults[0])


def test_values_are_typed_as_in_yaml() -> None:
    assert resolve("runner.optimizer.params.lr", "runner.optimizer.params.lr=1e-4") == 1e-4
    assert resolve("train_settings.epochs", "train_settings.epochs=5", "train_settings.epochs=6") == 6
    assert resolve("data.crop_size", "data.crop_size=[8, 16, 16]") == [8, 16, 16]
    assert resolve("net_type", "net_type='12'") == "12"
    assert resolve("metadata.note", "metadata.note=a=b") == "a=b"
    assert (
        resolve("runner.scheduler", "runner.scheduler=", source={"runner": {"scheduler": "ConstantLR"}})
        is None
    )


def test_defaults_of_nodes_are_changed_and_not_replaced() -> None:
    heads = resolve("model.heads", "model.heads.vector.sigma=3")
    assert list(heads) == ["vector", "semantic", "skeleton"]
    assert heads["vector"] == {"type": "VectorHead", "sigma": 3}
    assert resolve("runner.optimizer", "runner.optimizer.type=SGD") == {"type": "SGD", "params": {"lr": 1e-3}}
    assert resolve("model.backbone", "model.backbone.channels=[4, 8]") == {"type": "UNet", "channels": [4, 8]}


def test_arguments_are_found_in_either_spelling() -> None:
    flat = {"runner": {"optimizer": {"type": "SGD", "lr": 1.0}}}
    nested = {"runner": {"optimizer": {"type": "SGD", "params": {"lr": 1.0}}}}
    assert resolve("runner.optimizer", "runner.optimizer.lr=2.0", source=flat) == {"type": "SGD", "lr": 2.0}
    assert resolve("runner.optimizer.params", "runner.optimizer.lr=2.0", source=nested) == {"lr": 2.0}
    assert resolve("runner.optimizer.params", "runner.optimizer.params.lr=2.0", source=nested) == {"lr": 2.0}
    twice = sentence("runner.optimizer.params.lr=2.0", source=flat)
    assert twice.startswith("runner.optimizer.params.lr: is given twice, also as runner.optimizer.lr.")


def test_lists_by_position() -> None:
    two = {"data": {"train": [{"path": "a"}, "b"]}}
    assert resolve("data.train.1.path", "data.train.1.path=c", source=two) == "c"
    assert resolve("data.train.1", "data.train.1.samples_per_volume=3", source=two) == {
        "type": "Folder", "path": "b", "samples_per_volume": 3,
    }  # fmt: skip
    assert resolve("data.train.2.path", "data.train.2=c", source=two) == "c"
    assert resolve("data.train", "data.train.0.path=a") == [{"type": "Folder", "path": "a"}]
    for alone in ("a", {"path": "a"}):
        assert resolve("data.train.0.path", "data.train.0.path=b", source={"data": {"train": alone}}) == "b"
    schedulers = [{"type": "ConstantLR"}, {"type": "StepLR", "step_size": 2}]
    source = {
        "runner": {
            "scheduler": {"type": "SequentialLR", "params": {"schedulers": schedulers, "milestones": [5]}}
        }
    }
    changed = resolve("runner.scheduler.params", "runner.scheduler.schedulers.1.step_size=7", source=source)
    assert changed["schedulers"][1]["step_size"] == 7
    assert "'5' is none of them. Write a number from 0 to 2 (a new item) after data.train." in sentence(
        "data.train.5.path=c", source=two
    )
    assert "data.train is a list and has 2 items; 'path' is none of them" in sentence(
        "data.train.path=c", source=two
    )


def test_the_caller_keeps_his_mapping() -> None:
    source = {"data": {"train": [{"path": "a"}]}}
    load_config(source, ["data.train.0.path=b", "device=cpu"])
    assert source == {"data": {"train": [{"path": "a"}]}}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train_settings.epoch=3", "train_settings.epoch: unknown key. Did you mean epochs?"),
        ("trainsettings.epochs=3", "trainsettings: unknown key. Did you mean train_settings?"),
        (
            "runner.optimizer.params.lrr=1",
            "runner.optimizer.params.lrr: unknown key of AdamW. Did you mean lr?",
        ),
        ("train_settings.epochs=x", 'train_settings.epochs: is "x", must be an integer of at least 1.'),
        (
            "train_settings.epochs.x=1",
            "train_settings.epochs is a single value and has no keys. Set it as a whole.",
        ),
        ("epochs", 'override "epochs" names no key and value. Write key.path=value'),
        ("a..b=1", 'override "a..b=1" names no key and value.'),
        ("device=[", 'device: override "device=[": line 1, column'),
    ],
)
def test_faults(override: str, said: str) -> None:
    source = {"train_settings": {"epochs": 3}} if override == "train_settings.epochs.x=1" else {}
    assert said in sentence(override, source=source)
