"""Where a training begins: anew, on in the folder of its run, or in a new run from a snapshot of another."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from skoots.api import (
    TrainingOutcome,
    evaluate_snapshot,
    inspect,
    load_model,
    publish,
    resume,
    segment,
    train,
)
from skoots.config import load_config
from skoots.config.yaml12 import dump
from skoots.errors import ConfigError, SkootsError, SnapshotError
from skoots.snapshots import read_snapshot, write_snapshot

Make = Callable[..., Any]


@pytest.fixture
def config_file(make_config: Make, tmp_path: Path) -> Path:
    """``mito.yaml``: two epochs, validated, and a validation that tells them apart."""
    source = make_config()["data"]["train"][0]
    config = make_config(data={"validation": [{**source, "seed": 5}]}, runner={"key_metric": "test.loss"})
    path = tmp_path / "mito.yaml"
    path.write_text(dump(config))
    return path


@pytest.fixture
def start(config_file: Path, tmp_path: Path) -> Make:
    return lambda *overrides, **how: train(
        config_file, overrides, runs=tmp_path / "runs", progress=False, **how
    )


def runs_of(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "runs" / "mito").iterdir())


def epochs(outcome: TrainingOutcome) -> list[str]:
    lines = (outcome.run_folder / "learning_stats.csv").read_text().splitlines()
    return [line.split(",")[0] for line in lines[1:]]


def test_the_latest_run_goes_on_in_its_folder(start: Make, tmp_path: Path) -> None:
    start()
    first = start()
    again = start("train_settings.epochs=3", resume=True)
    assert again.run_folder == first.run_folder and again.epochs == 3
    assert len(runs_of(tmp_path)) == 2 and epochs(again) == ["1", "2", "3"]
    before = load_config(again.run_folder / "pytorch_config-until-002.yaml")
    now = load_config(again.run_folder / "pytorch_config.yaml")
    assert (before.train_settings.epochs, now.train_settings.epochs) == (2, 3)
    assert (
        "Changed since the snapshot: train_settings.epochs: 2, now 3."
        in (again.run_folder / "train.log").read_text()
    )


def test_a_run_by_its_name(start: Make, tmp_path: Path) -> None:
    first = start()
    start()
    again = start("train_settings.epochs=3", resume=first.run_folder.name)
    assert again.run_folder == first.run_folder and epochs(again) == ["1", "2", "3"]
    assert start("train_settings.epochs=4", resume=str(first.run_folder)).run_folder == first.run_folder
    with pytest.raises(
        ConfigError, match=r"train_settings\.epochs: is 2 and .* is at epoch 4: nothing is left"
    ):
        start(resume=first.run_folder.name)
    assert load_config(first.run_folder / "pytorch_config.yaml").train_settings.epochs == 4
    with pytest.raises(SnapshotError, match=r"There is no run RUN_1 in .*mito\. .* has the runs RUN_2"):
        start(resume="RUN_1")


def test_a_snapshot_branches_into_a_new_run_that_knows_its_parent(start: Make, tmp_path: Path) -> None:
    first = start("runner.snapshots.save_epochs=1")
    snapshot = first.run_folder / "snapshot-001.pt"
    for how in ({"resume": str(snapshot)}, {"resume": f"{first.run_folder}:001"}):
        again = start("train_settings.epochs=3", **how)
        assert again.run_folder != first.run_folder and epochs(again) == ["1", "2", "3"]
        parent = read_snapshot(again.latest_snapshot)["provenance"]["parent"]
        assert (parent["snapshot"], parent["epoch"], parent["step"]) == (str(snapshot), 1, 2)
        assert parent["sha256"] == inspect(snapshot).checksum
    configured = start("train_settings.epochs=3", f"resume_training_from={snapshot}")
    assert configured.run_folder not in (first.run_folder, again.run_folder)
    assert torch.equal(
        *[next(iter(read_snapshot(o.latest_snapshot)["net"].values())) for o in (again, configured)]
    )
    child = resume(configured.run_folder, ["train_settings.epochs=4"], progress=False)
    assert read_snapshot(child.latest_snapshot)["provenance"]["parent"]["snapshot"] == str(snapshot)


def test_resume_takes_the_config_of_the_run_whatever_the_file_says(
    start: Make, config_file: Path, tmp_path: Path
) -> None:
    first = start()
    config_file.write_text("model: {backbone: {type: UNet, channels: [16, 32]}}")
    again = resume(tmp_path / "runs" / "mito", ["train_settings.epochs=3"], progress=False)
    assert again.run_folder == first.run_folder and epochs(again) == ["1", "2", "3"]
    by_name = f"{tmp_path / 'runs' / 'mito'}:{first.run_folder.name}"
    assert resume(by_name, ["train_settings.epochs=4"], progress=False).epochs == 4


def test_a_run_that_is_complete_only_concludes(start: Make) -> None:
    first = start()
    (first.run_folder / "figures" / "test.png").unlink()
    before = (first.run_folder / "learning_stats.csv").read_bytes()
    again = resume(first.run_folder, progress=False)
    assert (again.epochs, again.test_scores) == (2, first.test_scores)
    assert again.figure is not None and again.figure.is_file()
    assert (first.run_folder / "learning_stats.csv").read_bytes() == before


def test_nothing_to_resume_is_said_and_leaves_nothing(start: Make, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"There is nothing to resume: .*mito does not exist\. Leave out"):
        start(resume=True)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(SnapshotError, match="There is no snapshot nowhere"):
        resume("nowhere")
    with pytest.raises(SnapshotError, match=r"There is no snapshot nowhere\.pt"):
        start(resume="nowhere.pt")
    assert not (tmp_path / "runs").exists()


def test_another_network_is_refused_and_the_run_stays_as_it_was(start: Make) -> None:
    first = start()
    before = {path.name: path.read_bytes() for path in first.run_folder.glob("*.*t")}
    with pytest.raises(SnapshotError, match="does not fit the model of this config"):
        start("model.backbone.channels=[4, 9]", "train_settings.epochs=3", resume=True)
    assert {path.name: path.read_bytes() for path in first.run_folder.glob("*.*t")} == before


def test_a_damaged_latest_is_set_aside_and_the_run_goes_on(
    start: Make, caplog: pytest.LogCaptureFixture
) -> None:
    first = start()
    latest = first.latest_snapshot
    content = latest.read_bytes()
    latest.unlink()
    latest.write_bytes(content[:-100])
    with caplog.at_level(logging.WARNING, "skoots"):
        again = resume(first.run_folder, ["train_settings.epochs=3"], progress=False)
    assert "is damaged" in caplog.text and epochs(again) == ["1", "2", "3"]
    assert (first.run_folder / "snapshot-latest.pt.corrupt").is_file()
    latest.unlink()
    latest.write_bytes(content[:-100])
    with pytest.raises(SnapshotError, match="is damaged"):
        start(resume=str(latest))  # by its name it must be whole


def test_a_snapshot_out_of_w_and_b(start: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from W&B is gone on from in a new run, whose logger goes on with the run there."""
    from skoots.loggers import wandb_artifacts

    better = "runner.optimizer={type: SGD, lr: 1e-9}"  # hardly learns, so that any epoch may be the best
    first = start(better)
    asked: list[str] = []

    def download(reference: str, folder: Path) -> Path:
        asked.append(reference)
        if reference.endswith(":best"):
            return Path(shutil.copy(first.best_snapshot, folder / first.best_snapshot.name))
        return Path(shutil.copy(first.latest_snapshot, folder / "snapshot-latest.pt"))

    monkeypatch.setattr(wandb_artifacts, "download_snapshot", download)
    again = start(better, "train_settings.epochs=3", resume="wandb:me/mito/abc123")
    assert asked[0] == "wandb:me/mito/abc123" and again.run_folder != first.run_folder
    assert len(asked) == 1 + (first.best_epoch != 2)
    assert "best is looked for again" not in (again.run_folder / "train.log").read_text()
    parent = read_snapshot(again.latest_snapshot)["provenance"]["parent"]
    assert parent["snapshot"] == "wandb:me/mito/abc123"
    assert epochs(again) == ["1", "2", "3"]
    record = json.loads((again.run_folder / "wandb_run.json").read_text())
    assert record == {"id": "abc123", "project": "mito", "entity": "me"}

    def fail(reference: str, folder: Path) -> Path:
        raise SnapshotError("no network.")

    monkeypatch.setattr(wandb_artifacts, "download_snapshot", fail)
    before = runs_of(tmp_path)
    with pytest.raises(SnapshotError, match="no network"):
        start(resume="wandb:me/mito/abc123")
    assert runs_of(tmp_path) == before


def test_a_best_snapshot_that_lies_alone_stays_the_best(start: Make, tmp_path: Path) -> None:
    first = start("runner.snapshots.average_best_models=2", "runner.eval_interval=1")
    alone = Path(shutil.copy(first.best_snapshot, tmp_path / "alone.pt"))
    epoch = first.best_epoch
    again = start("train_settings.epochs=4", resume=str(alone))
    text = (again.run_folder / "train.log").read_text()
    assert "best is looked for again" not in text
    assert (again.run_folder / f"snapshot-best-{epoch:03d}.pt").exists() or again.best_epoch > epoch


def test_going_on_from_an_average_keeps_the_numbers_of_the_epochs(start: Make) -> None:
    first = start("runner.snapshots.average_best_models=2", "runner.eval_interval=1")
    branch = start("train_settings.epochs=3", resume=str(first.average_snapshot))
    assert epochs(branch) == ["3"]
    assert epochs(resume(branch.run_folder, ["train_settings.epochs=4"], progress=False)) == ["3", "4"]


def test_a_row_that_a_crash_has_lost_comes_back(start: Make) -> None:
    first = start()
    path = first.run_folder / "learning_stats.csv"
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:-1]))
    resume(first.run_folder, progress=False)
    assert path.read_text() == text


def denied(path: Path) -> bool:
    raise PermissionError(13, "Permission denied", str(path))


def test_folders_that_may_not_be_read_or_written(start: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_dir", denied)
        with pytest.raises(SnapshotError, match=r"cannot be looked for: .*: Permission denied"):
            inspect(first.run_folder)
    (first.run_folder / "train.log").unlink()
    (first.run_folder / "train.log").mkdir()
    with pytest.raises(SkootsError, match=r"train\.log cannot be written: Is a directory"):
        resume(first.run_folder, progress=False)


def test_an_empty_resume_is_refused(start: Make) -> None:
    with pytest.raises(SnapshotError, match="--resume names nothing"):
        start(resume="")


def test_a_damaged_latest_is_replaced_for_every_reader(start: Make, caplog: pytest.LogCaptureFixture) -> None:
    first = start("train_settings.epochs=3")
    content = first.latest_snapshot.read_bytes()
    first.latest_snapshot.unlink()
    first.latest_snapshot.write_bytes(content[: len(content) // 2])
    reference = f"{first.run_folder}:latest"
    assert inspect(reference).epoch == 2 and load_model(reference, "cpu").epoch == 2
    assert evaluate_snapshot(reference, device="cpu").epoch == 2
    assert "is damaged" in caplog.text
    for verb in (inspect, load_model, evaluate_snapshot):
        with pytest.raises(SnapshotError, match="is damaged"):
            verb(first.latest_snapshot)


def test_a_config_that_is_none_is_not_followed(start: Make, tmp_path: Path) -> None:
    state = read_snapshot(start().latest_snapshot)
    path = write_snapshot({**state, "cfg": str(tmp_path / "other.yaml")}, tmp_path / "odd.pt")
    for verb in (load_model, evaluate_snapshot, inspect):
        with pytest.raises(SnapshotError, match="cfg must be a mapping"):
            verb(path)


def test_provenance_tells_code_data_and_versions(start: Make) -> None:
    told = read_snapshot(start().latest_snapshot)["provenance"]
    assert told["torch"] == torch.__version__ and {"skoots", "numpy", "python", "platform"} <= set(told)
    again = read_snapshot(start().latest_snapshot)["provenance"]
    assert (again["data"], again["config"]) == (told["data"], told["config"])
    other = read_snapshot(start("data.train.0.seed=77").latest_snapshot)["provenance"]
    assert other["data"] != told["data"] and other["config"] != told["config"]


# Weights to begin with --------------------------------------------------------------------------------------


def first_weights(outcome: TrainingOutcome, part: str) -> torch.Tensor:
    net = read_snapshot(outcome.latest_snapshot)["net"]
    return next(value for name, value in net.items() if name.startswith(part) and value.ndim > 1)


def test_a_training_begins_with_the_weights_of_another(start: Make, caplog: pytest.LogCaptureFixture) -> None:
    first = start()
    still = "runner.optimizer={type: SGD, lr: 1e-12}"
    with caplog.at_level(logging.INFO, "skoots"):
        again = start(still, f"weights.from={first.run_folder}:latest", "train_settings.epochs=1")
    assert again.epochs == 1 and "weights: loaded" in caplog.text
    torch.testing.assert_close(first_weights(again, "backbone"), first_weights(first, "backbone"))
    backbone = start(
        still, f"weights.from={first.latest_snapshot}", "weights.parts=[backbone]", "train_settings.seed=7"
    )
    torch.testing.assert_close(first_weights(backbone, "backbone"), first_weights(first, "backbone"))
    assert not torch.allclose(first_weights(backbone, "heads.vector"), first_weights(first, "heads.vector"))
    going_on = resume(
        again.run_folder, ["train_settings.epochs=2"], progress=False
    )  # they are not loaded again
    assert going_on.epochs == 2


def test_weights_that_do_not_fit_name_the_key_before_any_training(start: Make, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"weights\.from: "):
        start(f"weights.from={tmp_path / 'other.pt'}")
    with pytest.raises(ConfigError, match=r"weights\.from: There is no snapshot nowhere"):
        start("weights=nowhere")
    assert not list(tmp_path.glob("runs/*"))  # nor an empty experiment


# One rule for EMA -------------------------------------------------------------------------------------------


def test_every_verb_takes_the_same_weights(
    start: Make, make_config: Make, write_pair: Make, tmp_path: Path
) -> None:
    write_pair(tmp_path / "data", "a", voxel_size=(1.0, 1.0, 1.0))
    trained = start(
        "runner.ema={decay: 0.9}", "runner.snapshots.average_best_models=2", "train_settings.epochs=4"
    )
    snapshot = trained.latest_snapshot
    state = read_snapshot(snapshot)
    for choice, key in (("auto", "ema_net"), ("ema", "ema_net"), ("raw", "net")):
        loaded = load_model(snapshot, "cpu", weights=choice)
        assert all(torch.equal(value, state[key][name]) for name, value in loaded.model.state_dict().items())
        published = publish(snapshot, tmp_path / f"{choice}.pt", weights=choice)
        image = tmp_path / "data" / "a.tif"
        outputs = [
            segment(image, source, tmp_path / f"{choice}{i}.tif", maps=True, weights=how, progress=False)
            for i, (source, how) in enumerate([(snapshot, choice), (published.output, "auto")])
        ]
        first, second = (tifffile.imread(output.maps["vector"]) for output in outputs)
        assert np.array_equal(first, second)
        metrics = [
            evaluate_snapshot(source, data=tmp_path / "data", weights=how, device="cpu").metrics
            for source, how in [(snapshot, choice), (published.output, "auto")]
        ]
        assert metrics[0] == metrics[1]
    averaged, raw = (tifffile.imread(tmp_path / f"{choice}0.vector.tif") for choice in ("auto", "raw"))
    assert not np.array_equal(averaged, raw)
    average = read_snapshot(trained.average_snapshot)
    assert "ema_net" not in average
    assert all(
        torch.equal(value, average["net"][name])
        for name, value in load_model(trained.average_snapshot, "cpu").model.state_dict().items()
    )
    with pytest.raises(SnapshotError, match="has no EMA weights"):
        load_model(trained.average_snapshot, "cpu", weights="ema")


# Evaluating any snapshot ------------------------------------------------------------------------------------


def test_each_snapshot_gives_the_metrics_that_it_remembers(
    start: Make, config_file: Path, tmp_path: Path
) -> None:
    trained = start("runner.snapshots.save_epochs=1", "runner.snapshots.average_best_models=2")
    other = start("train_settings.seed=3")
    config_file.write_text("model: {backbone: {type: UNet, channels: [16, 32]}}")  # changes nothing any more
    seen = set()
    for name in ("001", "002", "latest", "best", "average"):
        found = evaluate_snapshot(f"{trained.run_folder}:{name}", device="cpu")
        state = read_snapshot(found.snapshot)
        assert found.metrics["test.loss"] == pytest.approx(state["acc"], abs=1e-6)
        assert found.stored == {k: v for k, v in state["metrics"].items() if k.startswith("test.")}
        assert found.metrics == pytest.approx(found.stored, abs=1e-6, nan_ok=True)
        seen.add(found.metrics["test.loss"])
    assert len(seen) == 3  # of epochs 1, 2 and the average
    newest = evaluate_snapshot(tmp_path / "runs" / "mito", device="cpu")
    assert newest.snapshot.parent == other.run_folder
    with pytest.raises(SnapshotError, match=r"There is no snapshot .*:009\. .* has the snapshots 001, 002"):
        evaluate_snapshot(f"{trained.run_folder}:009")


def test_with_another_config_or_other_data(
    start: Make, make_config: Make, write_pair: Make, tmp_path: Path
) -> None:
    trained = start()
    own = evaluate_snapshot(trained.run_folder, device="cpu")
    assert own.volumes and own.scores and own.baseline_scores and not own.held_out

    source = make_config()["data"]["train"][0]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump(make_config(data={"validation": [{**source, "seed": 6}], "normalize": "dtype"})))
    other = evaluate_snapshot(trained.run_folder, config=recipe, device="cpu")
    assert other.stored == {} and other.metrics["test.loss"] != own.metrics["test.loss"]
    assert "seed 6" in other.volumes[0] or "6" in other.volumes[0]

    write_pair(tmp_path / "data", "a", 5)
    files = evaluate_snapshot(trained.run_folder, data=tmp_path / "data", device="cpu")
    assert files.volumes == ("a",) and files.stored == {}


def test_weights_of_another_program(start: Make, config_file: Path, tmp_path: Path) -> None:
    """A file as SuperGradients writes it, and a config that says which network that is."""
    trained = start()
    state = read_snapshot(trained.latest_snapshot)
    torch.save({"net": state["net"], "epoch": 2, "acc": 0.1}, tmp_path / "ckpt_best.pth")
    config = load_config(config_file).resolved()
    config["model"]["heads"] = state["cfg"]["model"]["heads"]  # the scale was decided from other data
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(dump(config))
    found = evaluate_snapshot(tmp_path / "ckpt_best.pth", config=recipe, device="cpu")
    own = evaluate_snapshot(trained.latest_snapshot, device="cpu")
    assert found.epoch is None and found.metrics["test.F1"] == own.metrics["test.F1"]
    assert found.metrics["test.loss.semantic"] == pytest.approx(own.metrics["test.loss.semantic"], abs=1e-6)
    with pytest.raises(
        SnapshotError, match=r"\(SuperGradients\) holds weights but no config of skoots\. Give"
    ):
        evaluate_snapshot(tmp_path / "ckpt_best.pth")


def test_a_snapshot_without_data_or_with_others_is_explained(
    start: Make, write_pair: Make, tmp_path: Path
) -> None:
    trained = start("data.validation=[]")
    with pytest.raises(
        ConfigError, match=r"data\.validation: names no data, nor does data\.test.*--data DIR"
    ):
        evaluate_snapshot(trained.run_folder, device="cpu")
    write_pair(tmp_path / "flat", "a", shape=(40, 40), voxel_size=(1.0, 1.0))
    with pytest.raises(SkootsError, match=r"a\.tif is 2D with 1 channels; the model in .* is for 3D with 1"):
        evaluate_snapshot(trained.run_folder, data=tmp_path / "flat", device="cpu")


# Looking into and handing on --------------------------------------------------------------------------------


def test_inspect_says_what_is_in_a_snapshot(start: Make) -> None:
    trained = start("runner.ema={decay: 0.9}")
    told = inspect(trained.run_folder)
    state = read_snapshot(told.path)
    model = load_model(trained.run_folder, "cpu").model
    assert (told.layout, told.format, told.epoch, told.step) == ("skoots", 1, state["epoch"], state["step"])
    assert sum(told.parameters.values()) == sum(value.numel() for value in model.state_dict().values())
    assert set(told.parameters) == {"backbone", "heads.vector", "heads.semantic", "heads.skeleton"}
    assert told.config == state["cfg"] and told.metrics == state["metrics"] and told.best == state["best"]
    assert told.contents["net"] == told.contents["ema_net"] == sum(v.nbytes for v in state["net"].values())
    assert len(told.checksum) == 64


def test_what_differs_between_two_snapshots(start: Make) -> None:
    from skoots.api import compare

    trained = start("runner.snapshots.save_epochs=1", "runner.eval_interval=1")
    lines = compare(f"{trained.run_folder}:001", f"{trained.run_folder}:002")
    assert "epoch: 1, now 2" in lines and any(line.startswith("metrics.test.loss: ") for line in lines)
    assert lines[-1].startswith("weights: 0 of ") or " tensors are equal" in lines[-1]
    assert compare(trained.latest_snapshot, trained.latest_snapshot) == []


# Safety -----------------------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize(
    "verb", ["load", "resume", "branch", "weights", "evaluate", "inspect", "publish", "segment"]
)
def test_no_verb_runs_what_is_in_a_file(verb: str, start: Make, write_pair: Make, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mito" / "RUN_1"
    run.mkdir(parents=True)
    path = run / "snapshot-latest.pt"
    torch.save({"format": 1, "net": {"w": torch.ones(1)}, "epoch": 1, "bomb": Bomb(tmp_path / "ran")}, path)
    write_pair(tmp_path, "a")
    calls = {
        "load": lambda: load_model(path),
        "resume": lambda: resume(run, progress=False),
        "branch": lambda: start(resume=str(path)),
        "weights": lambda: start(f"weights.from={path}"),
        "evaluate": lambda: evaluate_snapshot(path),
        "inspect": lambda: inspect(path),
        "publish": lambda: publish(path, tmp_path / "out.pt"),
        "segment": lambda: segment(tmp_path / "a.tif", path, tmp_path / "out.tif", progress=False),
    }
    with pytest.raises(SkootsError, match="holds more than tensors and plain Python values and was refused"):
        calls[verb]()
    assert not (tmp_path / "ran").exists()


def test_outcomes_tell_how_they_ended(start: Make) -> None:
    outcome = start()
    assert not outcome.interrupted and replace(outcome, stopped_by=15).interrupted
