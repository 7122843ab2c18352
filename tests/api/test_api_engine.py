"""What the engine can do, asked for as users ask for it: in the config, on the command line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from skoots.api import TrainingOutcome, evaluate_snapshot, inspect, load_model, resume, train
from skoots.cli.main import main
from skoots.errors import ConfigError
from skoots.models.segmentation_model import SegmentationModel
from skoots.snapshots import read_snapshot

Make = Callable[..., Any]


@pytest.fixture
def run(make_config: Make, tmp_path: Path) -> Callable[..., TrainingOutcome]:
    """Trains on a 2D volume in two steps an epoch; what is given are settings of the runner."""

    def train_with(
        epochs: int = 2, validated: bool = False, folder: str = "runs", **runner: Any
    ) -> TrainingOutcome:
        config = make_config(
            2, runner={"key_metric": "test.loss", **runner}, train_settings={"epochs": epochs}
        )
        if validated:
            config["data"]["validation"] = [{**config["data"]["train"][0], "seed": 5}]
        return train(config, runs=tmp_path / folder, progress=False)

    return train_with


def saved(outcome: TrainingOutcome) -> dict[str, Any]:
    return read_snapshot(outcome.latest_snapshot)


def history(outcome: TrainingOutcome, name: str) -> list[float]:
    return [epoch[name] for epoch in saved(outcome)["history"]]


def alike(a: TrainingOutcome, b: TrainingOutcome) -> bool:
    one, other = saved(a), saved(b)
    return one["history"] == other["history"] and all(
        torch.equal(value, other["net"][name]) for name, value in one["net"].items()
    )


def sentence(call: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as error:
        call()
    return str(error.value)


# Optimizers and schedules -----------------------------------------------------------------------------------

GROUPED = {
    "type": "AdamW",
    "params": {
        "lr": 1e-2,
        "weight_decay": 0.1,
        "foreach": True,
        "parameter_groups": {"backbone": {"lr": 1e-4}, "heads.vector": {"lr": 1e-3, "weight_decay": 0.0}},
        "decay_norms_and_biases": False,
    },
}


def test_groups_are_logged_and_gone_on_with(run: Make) -> None:
    schedule = {"type": "ExponentialLR", "gamma": 0.5}
    whole = run(4, optimizer=GROUPED, scheduler=schedule)
    assert history(whole, "lr.backbone") == pytest.approx([1e-4, 5e-5, 2.5e-5, 1.25e-5])
    assert history(whole, "lr.heads.vector") == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    assert "lr.backbone" in (whole.run_folder / "learning_stats.csv").read_text().splitlines()[0]
    half = run(2, folder="half", optimizer=GROUPED, scheduler=schedule)
    again = resume(half.run_folder, ["train_settings.epochs=4"], progress=False)
    assert alike(whole, again)


def test_a_schedule_may_name_a_rate_for_each_group(run: Make) -> None:
    optimizer = {"type": "SGD", "lr": 1.0, "parameter_groups": {"backbone": {"lr": 1e-2}}}
    rates = {"type": "LRListScheduler", "milestones": [1], "lr_list": [[1e-5, 1e-6]]}
    assert history(run(2, optimizer=optimizer, scheduler=rates), "lr.backbone") == [1e-2, 1e-5]
    rates["lr_list"] = [[1e-5, 1e-6, 1e-7]]
    text = sentence(lambda: run(2, optimizer=optimizer, scheduler=rates))
    assert "runner.scheduler" in text and "3 learning rates" in text and "2 parameter groups" in text


def test_a_part_that_the_model_lacks_is_named(run: Make, tmp_path: Path) -> None:
    text = sentence(
        lambda: run(optimizer={"type": "SGD", "lr": 1, "parameter_groups": {"backbon": {"lr": 0.1}}})
    )
    assert "runner.optimizer.parameter_groups.backbon: is no part of the model" in text
    assert "Did you mean backbone" in text and not list(tmp_path.glob("runs/*/RUN_*"))


def test_a_schedule_of_steps(run: Make, tmp_path: Path) -> None:
    schedule = {"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 6, "interval": "step"}
    outcome = run(3, optimizer={"type": "SGD", "lr": 0.1, "momentum": 0.9}, scheduler=schedule)
    own = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    theirs, expected = torch.optim.lr_scheduler.OneCycleLR(own, 0.1, total_steps=6), []
    for _ in range(6):
        expected.append(own.param_groups[0]["lr"])
        own.step()
        theirs.step()
    assert history(outcome, "lr") == pytest.approx(expected[::2])  # as it was used first in the epoch
    text = sentence(lambda: run(4, optimizer={"type": "SGD", "lr": 0.1, "momentum": 0.9}, scheduler=schedule))
    assert "runner.scheduler: does not last for the 8 steps of this training" in text
    halved = {**schedule, "cycle_momentum": False, "total_steps": 3}
    assert run(3, folder="halved", optimizer="SGD", batch_accumulate=2, scheduler=halved).epochs == 3


def test_a_monitored_metric(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plateau = {"type": "ReduceLROnPlateau", "patience": 0, "threshold": 1e9, "threshold_mode": "abs"}
    still = run(3, optimizer={"type": "SGD", "lr": 0.1}, scheduler={**plateau, "monitor": "train.loss"})
    assert history(still, "lr") == pytest.approx([0.1, 0.1, 0.01])  # nothing is ever better by so much
    text = sentence(lambda: run(scheduler=plateau))
    assert "runner.scheduler: watches test.loss, but data.validation is empty" in text
    text = sentence(lambda: run(early_stopping=True))
    assert "runner.early_stopping: watches test.loss, but data.validation is empty" in text


# Warm-up, precision, averages -------------------------------------------------------------------------------


def test_the_warm_up_changes_where_training_begins(run: Make) -> None:
    plain, warm = run(1, folder="plain"), run(1, folder="warm", warmup_steps=8)
    assert (saved(warm)["step"], saved(warm)["epoch"]) == (saved(plain)["step"], 1) == (2, 1)
    assert history(warm, "train.loss")[0] < history(plain, "train.loss")[0]


def test_bfloat16_warns_once(run: Make, caplog: pytest.LogCaptureFixture) -> None:
    outcome = run(1, validated=True, precision="bfloat16")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "bfloat16 are hundreds of times slower" in warning
    assert all(value.dtype != torch.bfloat16 for value in saved(outcome)["net"].values())
    plain = run(1, folder="plain", validated=True)
    assert history(plain, "train.loss") == pytest.approx(history(outcome, "train.loss"), rel=0.05)
    assert history(plain, "train.loss") != history(outcome, "train.loss")


@pytest.mark.skipif(torch.cuda.is_available(), reason="they work there")
def test_what_needs_cuda_is_said_at_the_start(
    make_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mito.yaml"
    path.write_text(yaml.safe_dump(make_config(2)))
    words = ["train", str(path), "--runs", str(tmp_path / "runs"), "--quiet"]
    for override, said in {
        "runner.precision=float16": "runner.precision: is float16, which needs CUDA",
        "runner.profile.emit_nvtx=true": "runner.profile.emit_nvtx: needs CUDA",
    }.items():
        assert main([*words, override]) == 2
        assert said in capsys.readouterr().err
    for override in ("runner.gpus=[0, 7]", "runner.gpus=[7]"):
        assert main([*words, override, "device=auto"]) == 2
        error = capsys.readouterr().err
        assert "runner.gpus: names GPU" in error and "this machine has 0 CUDA GPUs" in error
    assert not list((tmp_path / "runs").glob("*/RUN_*"))


def test_an_average_over_steps(run: Make) -> None:
    state = saved(run(2, ema={"decay": 0.5, "warmup": False, "every": 3}))
    assert state["averaging"]["ema_steps"] == 4  # of which one was taken in
    changed = [n for n, v in state["ema_net"].items() if not torch.equal(v, state["net"][n])]
    assert any(name.endswith("weight") for name in changed)


def test_an_average_over_epochs_is_evaluated_and_found_by_every_command(run: Make, tmp_path: Path) -> None:
    swa = {"swa_start": 2, "swa_lr": 0.02, "anneal_epochs": 1, "evaluate": True}
    outcome = run(4, validated=True, swa=swa)
    assert outcome.swa_snapshot == outcome.run_folder / "snapshot-swa.pt"
    assert history(outcome, "lr") == pytest.approx([1e-2, 1e-2, 1e-2, 2e-2])
    assert outcome.metrics["swa.loss"] > 0 and "swa.F1" in outcome.metrics
    reference = f"{outcome.run_folder.parent}:swa"
    assert inspect(reference).path == outcome.swa_snapshot
    assert load_model(reference, "cpu").snapshot == outcome.swa_snapshot  # what segments
    scored = evaluate_snapshot(reference, device="cpu")
    assert scored.metrics["test.loss"] == pytest.approx(read_snapshot(outcome.swa_snapshot)["acc"])


# Early stopping ---------------------------------------------------------------------------------------------


def test_an_early_end_is_said_and_stays(run: Make, caplog: pytest.LogCaptureFixture) -> None:
    early = {"patience": 2, "min_delta": 100.0, "monitor": "train.loss"}
    outcome = run(9, early_stopping=early)
    assert outcome.epochs == 3 and (outcome.run_folder / "snapshot-003.pt").is_file()
    assert outcome.ended_early is not None and "train.loss has not become better" in outcome.ended_early
    log = (outcome.run_folder / "train.log").read_text()
    assert f"Training ends after epoch 3: {outcome.ended_early}." in log
    again = resume(outcome.run_folder, progress=False)
    assert (again.epochs, again.ended_early) == (3, outcome.ended_early)
    patient = resume(outcome.run_folder, ["runner.early_stopping.patience=4"], progress=False)
    assert patient.epochs == 5


def test_the_summary_says_why_it_ended_early(
    make_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    early = {"patience": 1, "min_delta": 100.0, "monitor": "train.loss"}
    path = tmp_path / "mito.yaml"
    path.write_text(
        yaml.safe_dump(make_config(2, runner={"early_stopping": early}, train_settings={"epochs": 9}))
    )
    assert main(["train", str(path), "--runs", str(tmp_path / "runs"), "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Trained 2 epochs" in said and "Training ended early: train.loss has not become better" in said


# Speed and profiling ----------------------------------------------------------------------------------------


def test_what_is_for_speed_alone_changes_no_number(run: Make) -> None:
    plain = run(2, folder="plain", channels_last=False)
    for number, switch in enumerate(
        ({"prefetch": False}, {"cudnn_benchmark": False}, {"optimizer": {"type": "AdamW", "lr": 1e-2}})
    ):
        assert alike(plain, run(2, folder=f"run-{number}", channels_last=False, **switch))


def test_cudnn_tries_algorithms_for_training_crops_alone(run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for windows that are validated, drawn or scored at the end, whose shapes differ."""
    forward, seen = SegmentationModel.forward, set()

    def watched(model: SegmentationModel, images: torch.Tensor) -> Any:
        seen.add((model.training, torch.backends.cudnn.benchmark))
        return forward(model, images)

    monkeypatch.setattr(SegmentationModel, "forward", watched)
    outcome = run(1, validated=True)
    assert list((outcome.run_folder / "figures").glob("**/epoch-001-*.png")) and outcome.test_scores
    assert seen == {(True, True), (False, False)}


@pytest.mark.parametrize("dims", [2, 3])
def test_the_memory_layout_changes_no_loss(
    dims: int, make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {}
    for layout in (True, False, "auto"):
        config = make_config(dims, runner={"channels_last": layout}, train_settings={"epochs": 1})
        losses[layout] = history(train(config, runs=tmp_path, progress=False), "train.loss")
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert losses["auto"] == losses[dims == 3]


def test_deterministic_holds_for_its_training_alone(run: Make, make_config: Make, tmp_path: Path) -> None:
    flags = {}
    for deterministic in (True, False):
        for benchmark in (True, False):
            config = make_config(
                2,
                runner={"cudnn_benchmark": benchmark},
                train_settings={"epochs": 1, "deterministic": deterministic},
            )
            train(config, runs=tmp_path, progress=False)
            flags[deterministic, benchmark] = (
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.deterministic,
                torch.backends.cudnn.benchmark,
            )
    assert flags == {
        (True, True): (True, True, False),
        (True, False): (True, True, False),
        (False, True): (False, False, True),
        (False, False): (False, False, False),
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_profiles_lie_in_the_run(run: Make) -> None:
    plain = run(2, folder="plain")
    switches = {"trace": True, "autograd_profile": True, "trace_steps": [2, 3], "detect_anomaly": True}
    profiled = run(2, folder="profiled", profile=switches)
    folder = profiled.run_folder / "profile"
    assert {path.name for path in folder.iterdir()} == {"trace-000002-000003.json", "autograd.txt"}
    assert json.loads((folder / "trace-000002-000003.json").read_text())["traceEvents"]
    assert alike(plain, profiled) and not torch.is_anomaly_enabled()


def test_compiled_networks_are_asked_for_by_mode(
    run: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, asked = run(1, folder="plain"), []

    def compile_(network: Any, mode: Any = None) -> Any:
        asked.append(mode)
        if mode == "max-autotune":
            raise RuntimeError("no compiler")
        return lambda images: network(images)

    monkeypatch.setattr(torch, "compile", compile_)
    assert alike(plain, run(1, folder="compiled", compile=True))
    assert alike(plain, run(1, folder="tuned", compile="max-autotune"))
    assert asked == [None, "max-autotune"]
    assert "runner.compile does not work here (no compiler)" in caplog.text


# Losses that are no number ----------------------------------------------------------------------------------


def test_how_many_bad_steps_are_allowed_is_up_to_the_config(
    run: Make, make_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mito.yaml"
    runner = {"optimizer": {"type": "SGD", "lr": 1e30}, "max_nonfinite_steps": 1}
    path.write_text(yaml.safe_dump(make_config(2, runner=runner, train_settings={"epochs": 9})))
    assert main(["train", str(path), "--runs", str(tmp_path / "runs"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "2 steps in a row had a loss that is no number" in error and "snapshot-post-mortem.pt" in error
    (folder,) = tmp_path.glob("runs/mito/RUN_*")
    state = read_snapshot(folder / "snapshot-post-mortem.pt")
    assert state["batch"]["images"].shape[0] == 2 and len(state["batch"]["origins"]) == 2


def test_a_batch_without_a_number_costs_its_whole_update(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skoots.training.step import TrainingStep

    call, batches = TrainingStep.__call__, []

    def spoil(self: Any, batch: Any, *words: Any, **named: Any) -> Any:
        batches.append(batch)
        if len(batches) == 1:
            batch.images[0] = torch.nan
        return call(self, batch, *words, **named)

    monkeypatch.setattr(TrainingStep, "__call__", spoil)
    config = make_config(2, runner={"batch_accumulate": 2}, train_settings={"epochs": 1})
    outcome = train(config, runs=tmp_path, progress=False)
    state = saved(outcome)
    assert state["step"] == 1 and state["metrics"]["nonfinite_steps"] == 1
    assert not state["optimizer_state_dict"]["state"]


# Loggers ----------------------------------------------------------------------------------------------------


def test_a_tracker_that_does_not_let_in_is_said_before_the_first_epoch(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")

    def refuse(**_: Any) -> None:
        raise wandb.errors.UsageError("api_key not configured (no-tty)")

    refuse.__signature__ = signature(wandb.init)  # type: ignore[attr-defined]
    monkeypatch.setattr(wandb, "init", refuse)
    config = {**make_config(2), "logger": [{"type": "WandbLogger", "project_name": "mito"}]}
    outcome = train(config, runs=tmp_path, progress=False)
    lines = (outcome.run_folder / "train.log").read_text().splitlines()
    refused = [number for number, line in enumerate(lines) if "Weights & Biases does not work" in line]
    trained = [number for number, line in enumerate(lines) if "epoch 2/2" in line]
    assert len(refused) == len(trained) == 1 and refused < trained and outcome.epochs == 2
    assert "api_key not configured" in lines[refused[0]]

    config["logger"] = [{"type": "WandbLogger", "project_nam": "mito"}]
    assert "project_nam" in sentence(lambda: train(config, runs=tmp_path / "other", progress=False))
    assert not list(tmp_path.glob("other/*/RUN_*"))
