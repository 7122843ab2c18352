"""Which GPUs a training is on, and what its loading needs, told before it begins."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from skoots.api.check import check
from skoots.api.launch import processes_wanted
from skoots.api.prepare import device_of, prepare, training_crops
from skoots.config import load_config, write_config
from skoots.data.loaders import train_loader
from skoots.errors import ConfigError
from skoots.samples import Batch

Make = Callable[..., Any]
SOURCE = {"type": "Synthetic", "shape": [32, 32], "samples_per_volume": 6, "radius": [2.0, 3.0]}
CONFIG: dict[str, Any] = {
    "data": {"train": [SOURCE], "crop_size": [16, 24]},
    "model": {"backbone": {"type": "UNet", "channels": [4, 8]}},
    "runner": {"key_metric": "test.loss"},
    "train_settings": {"batch_size": 4},
}


def config_with(**runner: Any) -> dict[str, Any]:
    return {**CONFIG, "runner": {**CONFIG["runner"], **runner}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that are asked for, on a machine that has two GPUs, as far as it is told."""
    names: list[str] = []

    def choose(name: str) -> torch.device:
        names.append(name)
        return torch.device("cpu")

    class TorchOfTwoGpus:
        cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 2)

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    module = importlib.import_module("skoots.api.prepare")
    monkeypatch.setattr(module, "choose_device", choose)
    monkeypatch.setattr(module, "torch", TorchOfTwoGpus())
    return names


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("device", ["auto", "cuda", None])
def test_one_gpu_is_taken_as_it_is_named(
    asked: list[str], tmp_path: Path, number: int, device: str | None
) -> None:
    """And the config that the run keeps says so too, so that it can be gone on with."""
    named = config_with(gpus=[number]) | ({} if device is None else {"device": device})
    prepared = prepare(load_config(named))
    assert asked == [f"cuda:{number}"]
    write_config(prepared.config, tmp_path / "pytorch_config.yaml")
    again = load_config(tmp_path / "pytorch_config.yaml")
    assert (again.runner.gpus, again.device) == ([number], device or "auto")
    assert processes_wanted(again, None) == 1 and device_of(again) == f"cuda:{number}"


def test_two_gpus_are_two_processes(asked: list[str]) -> None:
    config = load_config(config_with(gpus=[0, 1]))
    assert processes_wanted(config, None) == 2
    assert [device_of(config, rank) for rank in (0, 1)] == ["cuda:0", "cuda:1"]


def test_the_same_gpu_may_be_named_twice_over_and_no_other() -> None:
    assert load_config(config_with(gpus=[1]) | {"device": "cuda:1"}).runner.gpus == [1]
    for gpus, device in (([0], "cuda:1"), ([0], "cpu"), ([0, 1], "cuda:0")):
        with pytest.raises(
            ConfigError, match=r"runner\.gpus: asks for GPUs, but device is .* Write device: auto\."
        ):
            load_config(config_with(gpus=gpus) | {"device": device})


def test_a_gpu_that_is_missing_is_named(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"runner\.gpus: names GPU 2, and this machine has 2 CUDA GPUs\. Choose"
    ):
        check(config_with(gpus=[2]))
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"names GPU 0, and this machine has 0 CUDA GPUs\. Leave it out"):
        check(config_with(gpus=[0]))
    assert prepare(load_config(config_with(gpus=[0])), "cpu").config.runner.gpus == [0]


# Workers are forked on Linux; Python 3.12 and later warn of it where there are threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_check_tells_what_workers_keep_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorstore", raising=False)  # which forbids quick forks
    module = importlib.import_module("skoots.api.prepare")
    prepared = prepare(load_config(CONFIG, ["device=cpu"]))
    loader = train_loader(training_crops(prepared), 4, 0, workers=2)
    batch = next(train_loader(training_crops(prepared), 4, 0).batches())
    size = sum(tensor.nbytes for tensor in batch.tensors().values())
    assert size == Batch.bytes_of(4, 1, (16, 24)) and loader.held == 7
    settings = ["device=cpu", "train_settings.dataloader_workers=2"]
    monkeypatch.setattr(module, "free_memory", lambda device: 7 * size)
    line = check(CONFIG, settings).lines[-1]
    assert line.startswith("loading: train_settings.dataloader_workers 2; up to 7 batches of 0.0 MiB")
    assert line.endswith("shared memory (/dev/shm) is not needed.")
    monkeypatch.setattr(module, "free_memory", lambda device: 7 * size - 1)
    line = check(CONFIG, settings).lines[-1]
    assert line.endswith(
        "free. Take fewer workers, or a smaller train_settings.batch_size or data.crop_size."
    )
    assert not any("loading" in line for line in check(CONFIG, ["device=cpu"]).lines)
