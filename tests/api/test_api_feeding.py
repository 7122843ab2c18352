"""What `auto` means for workers and number format, and that a run keeps it."""

from __future__ import annotations

import importlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api import feeding, resume, train
from skoots.api.check import check
from skoots.api.feeding import MOST_WORKERS, SHORTEST_STEP, Feeding, choose_workers, seconds_of_a_crop
from skoots.api.prepare import prepare, training_crops
from skoots.config import load_config
from skoots.data.workers import COPIES
from skoots.samples import Batch
from skoots.snapshots import read_snapshot
from skoots.training.random_state import random_state, set_random_state

Make = Callable[..., Any]
LARGE = Feeding(seconds=0.085, voxels=64 * 128 * 128, crops=2, cores=64)


# How many ---------------------------------------------------------------------------------------------------


def test_as_many_as_keep_ahead_of_the_fastest_step() -> None:
    count, why = LARGE.decide()
    assert count == 14 and why == (
        "a core prepares a crop in 85 ms, and 14 keep ahead of a step of 12.6 ms on 2"
    )
    assert replace(LARGE, seconds=0.04).decide()[0] == 7
    assert replace(LARGE, seconds=1e-6).decide()[0] == 1
    assert replace(LARGE, crops=4).decide()[0] == 14  # the step is longer, too


def test_small_crops_have_steps_that_are_no_shorter_than_their_launches() -> None:
    small = Feeding(seconds=0.008, voxels=24 * 64 * 64, crops=2, cores=64)
    assert small.step == SHORTEST_STEP and small.decide()[0] == 4


@pytest.mark.parametrize(
    ("bound", "count", "why"),
    [
        ({"cores": 16}, 14, ""),
        ({"cores": 8}, 7, "; one core of 8 is left to the training"),
        ({"cores": 1}, 0, "; one core of 1 is left to the training"),
        ({"cores": 0}, 0, "; one core of 0 is left to the training"),
        ({"seconds": 0.5}, MOST_WORKERS, "; more are never taken"),
        ({"memory": 5 * 2**30, "memory_each": 2**30}, 5, "; each keeps 1,024 MiB of 5,120 MiB"),
        ({"memory": 2**29, "memory_each": 2**30}, 0, "; each keeps 1,024 MiB of 512 MiB"),
    ],
)
def test_no_more_than_there_is_room_for(bound: dict[str, Any], count: int, why: str) -> None:
    decided, reason = replace(LARGE, **bound).decide()
    assert decided == count and reason.endswith(f"step of 12.6 ms on 2{why}")


# What it is decided from ------------------------------------------------------------------------------------


def draw() -> tuple[float, ...]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


class Crops:
    """Crops that take as long as they are told, by a clock of their own, and draw from every generator."""

    crop = (8, 8)

    def __init__(self, seconds: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.now, self.asked = list(seconds), 0.0, []
        self.threads: set[int] = set()
        monkeypatch.setattr(feeding.time, "perf_counter", lambda: self.now)

    def __len__(self) -> int:
        return 9

    def __getitem__(self, key: tuple[int, int]) -> None:
        self.asked.append(key)
        self.threads.add(torch.get_num_threads())
        draw()
        self.now += self.seconds.pop(0)

    def collate(self, samples: Sequence[Any]) -> Sequence[Any]:
        return samples


def test_a_crop_is_timed_as_a_worker_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one compiles; the others are from all over the epoch, and no generator moves on."""
    crops = Crops([60.0, 1.0, 3.0, 2.0, 9.0, 5.0], monkeypatch)
    threads, generators = torch.get_num_threads(), random_state()
    drawn = draw()
    set_random_state(generators)
    assert seconds_of_a_crop(crops, 5) == 4.0  # type: ignore[arg-type]
    assert crops.asked == [(1, i) for i in (0, 0, 2, 4, 6, 8)] and crops.threads == {1}
    assert (draw(), torch.get_num_threads()) == (drawn, threads)


def test_processes_share_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    each = COPIES * Batch.bytes_of(2, 1, (8, 8))
    monkeypatch.setattr(feeding, "cpu_count", lambda: 32)
    monkeypatch.setattr(feeding, "has_memory_in_common", lambda: True)
    monkeypatch.setattr(feeding, "free_memory", lambda device: None)
    for processes, free, count in ((1, None, 16), (4, None, 7), (1, 20 * each, 10), (2, 20 * each, 5)):
        monkeypatch.setattr(feeding, "local_world", lambda: processes)  # noqa: B023
        monkeypatch.setattr(feeding, "free_memory", lambda device: free)  # noqa: B023
        assert choose_workers(Crops([1.0] * 9, monkeypatch), 2, 1)[0] == count  # type: ignore[arg-type]


def test_workers_that_are_not_forked_have_volumes_of_their_own(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = training_crops(prepare(load_config(make_config())))
    volume = dataset.volumes[0]
    size = volume.image.read_all().nbytes + volume.labels.read_all().nbytes
    monkeypatch.setattr(feeding, "seconds_of_a_crop", lambda dataset: 1.0)
    monkeypatch.setattr(feeding, "cpu_count", lambda: 64)
    monkeypatch.setattr(feeding, "free_memory", lambda device: 6 * size)
    monkeypatch.setattr(feeding, "Batch", type("Batch", (), {"bytes_of": staticmethod(lambda *sizes: 1)}))
    for forked, count in ((True, MOST_WORKERS), (False, 2)):
        monkeypatch.setattr(feeding, "has_memory_in_common", lambda: forked)  # noqa: B023
        assert choose_workers(dataset, 2, 1)[0] == count


# In a training ----------------------------------------------------------------------------------------------


def test_a_cpu_loads_by_itself_in_float32(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "seconds_of_a_crop", lambda dataset: pytest.fail("measures"))
    config = load_config(make_config())
    assert (config.train_settings.dataloader_workers, config.runner.precision) == ("auto", "auto")
    prepared = prepare(config)
    assert (prepared.workers, prepared.precision.name) == (0, "float32")
    resolved = prepared.config.resolved()
    assert resolved["train_settings"]["dataloader_workers"] == 0
    assert resolved["runner"]["precision"] == "float32"
    assert "dataloader workers auto: 0; the CPU is busy with the network." in prepared.decided
    assert any(line.startswith("precision auto: float32;") for line in prepared.decided)


def test_beside_an_accelerator_workers_are_measured(
    make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device without bytes stands in for it."""
    module = importlib.import_module("skoots.api.prepare")
    monkeypatch.setattr(module, "choose_device", lambda name: torch.device("meta"))
    monkeypatch.setattr(module, "choose_format", lambda device: ("bfloat16", "it is told so"))
    asked = []

    def measured(dataset: Any) -> float:
        asked.append(dataset)
        return 0.004

    monkeypatch.setattr(feeding, "seconds_of_a_crop", measured)
    monkeypatch.setattr(feeding, "cpu_count", lambda: 16)
    config = load_config(make_config(train_settings={"batch_size": 4}))
    prepared = prepare(config)
    assert asked == [training_crops(prepared)]  # which is not made twice
    assert (prepared.workers, prepared.precision.name) == (4, "bfloat16")
    resolved = prepared.config.resolved()
    assert resolved["train_settings"]["dataloader_workers"] == 4
    assert resolved["runner"]["precision"] == "bfloat16"
    assert "precision auto: bfloat16; it is told so." in prepared.decided
    assert prepared.decided[-1].startswith("dataloader workers auto: 4; a core prepares a crop in 4 ms, and")
    stated = load_config(
        make_config(train_settings={"dataloader_workers": 3}, runner={"precision": "float32"})
    )
    prepared = prepare(stated)
    assert (prepared.workers, prepared.precision.name, len(asked)) == (3, "float32", 1)
    assert not any("auto:" in line and "scale" not in line for line in prepared.decided)


def test_check_tells_both(make_config: Make) -> None:
    told = "\n".join(check(make_config()).lines)
    assert "precision auto: float32" in told and "dataloader workers auto: 0" in told


@pytest.mark.parametrize("again", ["resume", "train"])
def test_a_run_that_goes_on_keeps_its_number_format(
    again: str, make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    module = importlib.import_module("skoots.api.prepare")
    config = make_config(2, runner={"key_metric": "test.loss"}, train_settings={"epochs": 1})
    first = train(config, runs=tmp_path, progress=False)
    monkeypatch.setattr(module, "choose_format", lambda device: ("bfloat16", "it is told so"))
    with caplog.at_level(logging.INFO, "skoots"):
        if again == "resume":
            second = resume(first.run_folder, ["train_settings.epochs=2"], progress=False)
        else:
            config["train_settings"]["epochs"] = 2
            second = train(config, runs=tmp_path, progress=False, resume=True)
            assert "precision auto: float32, as in the snapshot." in caplog.messages
    assert second.run_folder == first.run_folder
    assert read_snapshot(second.latest_snapshot)["cfg"]["runner"]["precision"] == "float32"
    assert not any("Changed since" in line and "epochs" not in line for line in caplog.messages)
    fresh = train(config, runs=tmp_path / "fresh", progress=False)
    assert read_snapshot(fresh.latest_snapshot)["cfg"]["runner"]["precision"] == "bfloat16"
