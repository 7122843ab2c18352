"""What a user edits before going on: announced, saved and used, or said to be too late and kept as it was."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skoots.api import TrainingOutcome, resume, train
from skoots.config import load_config
from skoots.config.yaml12 import dump
from skoots.snapshots import read_snapshot, write_snapshot

Make = Callable[..., Any]
STEP = {"type": "StepLR", "params": {"step_size": 1, "gamma": 0.5}}


def base(make_config: Make, **runner: Any) -> dict[str, Any]:
    source = make_config()["data"]["train"][0]
    return make_config(
        data={"validation": [{**source, "seed": 5}]},
        runner={
            "key_metric": "test.loss",
            "image_log_interval": None,
            "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "weight_decay": 0.0}},
            **runner,
        },
        train_settings={"epochs": 1},
        metadata={"experiment": "mito"},
    )


@pytest.fixture(scope="session")
def runs(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of one epoch, without a schedule and with one, that tests go on with copies of."""
    root = tmp_path_factory.mktemp("edits")
    ways = {"plain": {}, "step": {"scheduler": STEP}, "warm": {"warmup_steps": 2}}
    return {
        name: train(base(make_config, **runner), runs=root / name, progress=False).run_folder
        for name, runner in ways.items()
    }


@pytest.fixture
def go_on(runs: dict[str, Path], tmp_path: Path) -> Make:
    def go(name: str, *overrides: str, epochs: int = 2) -> TrainingOutcome:
        folder = tmp_path / runs[name].name
        if not folder.exists():
            shutil.copytree(runs[name], folder)
        return resume(folder, [f"train_settings.epochs={epochs}", *overrides], progress=False)

    return go


def told(outcome: TrainingOutcome) -> tuple[dict[str, Any], dict[str, Any], list[float]]:
    """Runner section and options of the first group in the snapshot, and the rates in the table; the config
    of the run's folder agrees."""
    state = read_snapshot(outcome.latest_snapshot)
    saved = load_config(outcome.run_folder / "pytorch_config.yaml").resolved()
    assert state["cfg"] == saved
    with open(outcome.run_folder / "learning_stats.csv", newline="") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    return saved["runner"], state["optimizer_state_dict"]["param_groups"][0], rates


def test_edited_options_are_used_and_stay(go_on: Make) -> None:
    edits = {"lr": 1e-5, "weight_decay": 0.5, "betas": [0.8, 0.99], "eps": 1e-6}
    outcome = go_on("plain", *(f"runner.optimizer.params.{key}={value}" for key, value in edits.items()))
    log = (outcome.run_folder / "train.log").read_text()
    assert "runner.optimizer.params.lr: 0.01, now 1e-05." in log
    assert "The optimizer goes on as edited: lr 1e-05." in log
    for epochs in (2, 3):
        outcome = outcome if epochs == 2 else go_on("plain", epochs=3)
        runner, group, rates = told(outcome)
        assert runner["optimizer"]["params"] == edits
        assert {key: group[key] for key in edits} == edits or group["betas"] == (0.8, 0.99)
        assert (group["lr"], group["weight_decay"], group["eps"]) == (1e-5, 0.5, 1e-6)
        assert rates == [1e-2] + [1e-5] * (epochs - 1)


@pytest.mark.parametrize(
    ("edit", "rate"),
    [
        ("runner.scheduler.params.gamma=0.1", 1e-3),
        ("runner.scheduler=null", 1e-2),
        ("runner.scheduler={type: ExponentialLR, gamma: 0.2}", 2e-3),
        ("runner.optimizer.params.lr=1.0", 0.5),
        ("runner.optimizer.params.weight_decay=0.25", 5e-3),
        ("runner.swa={swa_start: 1, swa_lr: 0.7, anneal_epochs: 0}", 0.7),
        ("runner.optimizer={type: SGD, lr: 0.5}", 0.25),
    ],
)
@pytest.mark.parametrize("flag", [True, False])
def test_an_edited_schedule_is_replayed_whatever_the_flag_says(
    edit: str, rate: float, flag: bool, go_on: Make
) -> None:
    outcome = go_on("step", edit, f"runner.load_scheduler_state_dict={str(flag).lower()}")
    rates = told(outcome)[2]
    assert rates == [1e-2, pytest.approx(rate)]
    said = "The schedule was edited, so it is replayed" in (outcome.run_folder / "train.log").read_text()
    assert said is (flag and edit.startswith("runner.scheduler"))
    assert (
        f"The optimizer goes on as edited: lr {rate:.4g}." in (outcome.run_folder / "train.log").read_text()
    )


def test_a_schedule_that_is_added(go_on: Make) -> None:
    outcome = go_on("plain", "runner.scheduler={type: StepLR, step_size: 1, gamma: 0.5}")
    assert told(outcome)[2] == [1e-2, 5e-3]


def test_groups_that_are_added(go_on: Make) -> None:
    outcome = go_on("step", "runner.optimizer.parameter_groups={heads: {lr: 0.5}}")
    groups = read_snapshot(outcome.latest_snapshot)["optimizer_state_dict"]["param_groups"]
    assert {group.get("name", ""): group["lr"] for group in groups} == {
        "": pytest.approx(2.5e-3), "heads": pytest.approx(0.125)
    }  # fmt: skip
    assert told(outcome)[2][1] == pytest.approx(5e-3)


def test_what_comes_too_late_is_said_and_saved_as_it_was(
    go_on: Make, caplog: pytest.LogCaptureFixture
) -> None:
    late = {
        "runner.warmup_steps": "50",
        "weights.from": "nowhere.pt",
        "metadata.experiment": "other",
        "resume_training_from": "nowhere.pt",
    }
    with caplog.at_level(logging.INFO, "skoots"):
        outcome = go_on("warm", *(f"{key}={value}" for key, value in late.items()), "metadata.by=me")
    state = read_snapshot(outcome.latest_snapshot)
    assert told(outcome)[0]["warmup_steps"] == 2 == state["warmup_steps"]
    assert state["cfg"]["weights"]["from"] is None and state["cfg"]["resume_training_from"] is None
    assert state["cfg"]["metadata"] == {"experiment": "mito", "by": "me"}
    lines = [record.getMessage() for record in caplog.records]
    for key in late:
        said = [line for line in lines if f" {key}: " in line]
        assert len(said) == 1 and said[0].startswith(
            "Changed since the snapshot, and without effect, because"
        )


def test_other_things_with_a_state_take_effect(go_on: Make, caplog: pytest.LogCaptureFixture) -> None:
    edits = {
        "runner.ema": "{decay: 0.5}",
        "runner.batch_accumulate": "2",
        "runner.snapshots.average_best_models": "1",
        "runner.early_stopping": "{patience: 3}",
        "runner.key_metric": "test.loss.vector",
        "train_settings.seed": "7",
        "data.sampling": "{objects: 0.5}",
    }
    with caplog.at_level(logging.INFO, "skoots"):
        outcome = go_on("plain", *(f"{key}={value}" for key, value in edits.items()), epochs=3)
    state = read_snapshot(outcome.latest_snapshot)
    assert state["averaging"]["ema_steps"] == 2 and state["step"] == 4 and "ema_net" in state
    assert state["best"]["metric"] == "test.loss.vector" and outcome.average_snapshot is not None
    assert (
        "was chosen by test.loss. By test.loss.vector the best is looked for again from here." in caplog.text
    )


def test_a_snapshot_whose_config_is_odd_is_gone_on_from(
    runs: dict[str, Path], make_config: Make, tmp_path: Path
) -> None:
    """``train --resume SNAPSHOT`` takes the config of the file for no more than what it is compared with."""
    state = {k: v for k, v in read_snapshot(runs["step"] / "snapshot-latest.pt").items() if k != "format"}
    path = tmp_path / "mito.yaml"
    config = base(make_config, scheduler=STEP)
    config["train_settings"]["epochs"] = 2
    path.write_text(dump(config))
    for number, odd in enumerate(
        ({}, {"runner": 3}, {"runner": {"optimizer": 5, "scheduler": [1], "swa": 7}})
    ):
        other = write_snapshot({**state, "cfg": odd}, tmp_path / f"{number}.pt")
        outcome = train(path, resume=str(other), runs=tmp_path / "runs", progress=False)
        assert told(outcome)[2][1] == pytest.approx(5e-3)
