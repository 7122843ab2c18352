"""``train``, ``check`` and ``demo``: what comes out, how it goes on, and what it does not depend on."""

from __future__ import annotations

import csv
import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api import TrainingOutcome, check, demo, train
from skoots.api.build import open_volumes
from skoots.config import load_config
from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.data.loaders import covering_loader, train_loader
from skoots.errors import ConfigError, SkootsError, SnapshotError
from skoots.metrics import METRIC_NAMES
from skoots.snapshots import read_snapshot
from skoots.training.runner import RUNNERS, TrainingRunner

Make = Callable[..., Any]
SYNTHETIC = {"type": "Synthetic", "shape": [12, 24, 24], "radius": [2.0, 3.0], "samples_per_volume": 4}


def weights(outcome: TrainingOutcome) -> dict[str, torch.Tensor]:
    return read_snapshot(outcome.latest_snapshot)["net"]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# What comes out ---------------------------------------------------------------------------------------------


def test_the_outcome_says_everything(trained: TrainingOutcome) -> None:
    run = trained.run_folder
    assert run.parent.name == "shared" and run.name.startswith("RUN_")
    assert trained.latest_snapshot == run / "snapshot-latest.pt" and trained.latest_snapshot.is_file()
    assert trained.best_epoch is not None
    assert (
        trained.best_snapshot == run / f"snapshot-best-{trained.best_epoch:03d}.pt"
        and trained.best_snapshot.is_file()
    )
    assert (trained.epochs, trained.interrupted) == (8, False) and trained.seconds > 0
    assert {f"test.{name}" for name in METRIC_NAMES} | {"lr", "train.loss", "test.loss"} <= set(
        trained.metrics
    )
    for scores in (trained.test_scores, trained.baseline_scores):
        assert scores is not None and set(METRIC_NAMES) <= set(scores)
    assert trained.test_volume == "synthetic tubes 5"
    assert trained.figure == run / "figures" / "test.png" and trained.figure.is_file()
    assert (run / "figures" / "curves.png").is_file()
    assert all(isinstance(value, float) for value in trained.metrics.values())


def test_the_run_folder_holds_the_resolved_config_the_statistics_and_the_log(
    trained: TrainingOutcome,
) -> None:
    run = trained.run_folder
    config = load_config(run / "pytorch_config.yaml")
    scale = config.model.heads["vector"]["scale"]
    assert len(scale) == 3 and all(length >= 2 for length in scale)  # decided
    assert config == load_config(read_snapshot(trained.latest_snapshot)["cfg"])
    with open(run / "learning_stats.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(n) for n in range(1, 9)]
    assert {name: float(rows[-1][name]) for name in trained.metrics} == pytest.approx(
        trained.metrics, nan_ok=True
    )
    log = (run / "train.log").read_text()
    assert "vector scale auto: " in log and "epoch 8/8: loss" in log


def test_without_validation_there_is_no_best(make_config: Make, tmp_path: Path) -> None:
    outcome = train(make_config(), runs=tmp_path, progress=False)
    assert outcome.run_folder.parent == tmp_path / "experiment"
    assert (
        outcome.best_snapshot is outcome.best_epoch is outcome.test_scores is outcome.baseline_scores is None
    )
    assert outcome.figure is outcome.test_volume is None
    assert not any(name.startswith("test.") for name in outcome.metrics)
    assert all(field.name in vars(outcome) for field in dataclasses.fields(TrainingOutcome))


def test_held_out_volumes_are_scored_with_the_best_snapshot(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("skoots.api.train")
    asked: list[Any] = []

    def stand_in(loaded: Any, volumes: Any, figure: Path) -> tuple[Any, Any, None]:
        asked.append((loaded, volumes))
        return {}, {}, None

    monkeypatch.setattr(module, "compare_with_components", stand_in)
    data = {"validation": [{**SYNTHETIC, "seed": 5}], "test": [{**SYNTHETIC, "seed": 8, "volumes": 2}]}
    outcome = train(make_config(data=data, runner={"key_metric": "test.loss"}), runs=tmp_path, progress=False)
    ((loaded, volumes),) = asked
    assert loaded.snapshot == outcome.best_snapshot
    assert [volume.name for volume in volumes] == ["synthetic tubes 8", "synthetic tubes 9"]
    assert outcome.test_volume == "synthetic tubes 8, synthetic tubes 9"


def test_overrides_device_plugins_and_the_name_of_the_file(make_config: Make, tmp_path: Path) -> None:
    from skoots.config.yaml12 import dump

    path = tmp_path / "mito.yaml"
    path.write_text(dump(make_config()))
    before = path.read_bytes()
    outcome = train(path, ["train_settings.epochs=1"], runs=tmp_path / "runs", device="cpu", progress=False)
    assert outcome.epochs == 1 and outcome.run_folder.parent == tmp_path / "runs" / "mito"
    assert path.read_bytes() == before


def test_a_training_that_cannot_begin_leaves_no_run(make_config: Make, tmp_path: Path) -> None:
    for config in (
        make_config(data={"train": []}),
        make_config(data={"train": ["nowhere"]}),
        make_config(data={"crop_size": [16, 16]}),
        make_config(runner={"gpus": [0, 1]}),
        {**make_config(), "resume_training_from": "nowhere.pt"},
        {**make_config(), "method": "td"},
    ):
        with pytest.raises(SkootsError):
            train(config, runs=tmp_path, progress=False)
    assert not list(tmp_path.glob("*/RUN_*"))


def test_faults_name_their_key(make_config: Make, tmp_path: Path) -> None:
    def sentence(config: Any) -> str:
        with pytest.raises(ConfigError) as error:
            train(config, runs=tmp_path, progress=False)
        return str(error.value)

    assert "data.train" in sentence(make_config(data={"train": []}))
    assert (
        "data.crop_size" in (text := sentence(make_config(data={"crop_size": [16, 16]}))) and "3 axes" in text
    )
    several = {**make_config(runner={"gpus": [0, 1]}), "device": "auto"}
    assert "runner.gpus" in (text := sentence(several)) and "GPU 0, 1" in text
    assert "write method: bu" in sentence({**make_config(), "method": "td"})


def test_a_runner_of_ones_own(make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUNNERS, "_parts", dict(RUNNERS._parts))

    @RUNNERS.register
    class CountingRunner(TrainingRunner):
        fits = 0

        def fit(self) -> Any:
            type(self).fits += 1
            return super().fit()

    train(make_config(runner={"type": "CountingRunner"}), runs=tmp_path, progress=False)
    assert CountingRunner.fits == 1


# Going on ---------------------------------------------------------------------------------------------------


def test_going_on_in_a_new_run_is_the_same_to_the_last_bit(make_config: Make, tmp_path: Path) -> None:
    def config(epochs: int, **more: Any) -> dict[str, Any]:
        return (
            make_config(
                data={"validation": [{**SYNTHETIC, "seed": 5}]},
                model={"backbone": {"type": "UNet", "channels": [4, 8], "dropout": 0.5}},
                runner={
                    "eval_interval": 2,
                    "key_metric": "test.loss",
                    "scheduler": {"type": "CosineAnnealingLR", "T_max": 4},
                },
                train_settings={"epochs": epochs},
            )
            | more
        )

    whole = train(config(4), runs=tmp_path / "whole", progress=False)
    half = train(config(2), runs=tmp_path / "half", progress=False)
    again = train(
        config(4, resume_training_from=f"{half.run_folder}:latest"), runs=tmp_path / "half", progress=False
    )
    assert again.run_folder != half.run_folder and half.epochs == 2 and again.epochs == 4
    a, b = read_snapshot(whole.latest_snapshot), read_snapshot(again.latest_snapshot)
    assert equal(a["net"], b["net"])
    assert a["history"] == b["history"] and a["best"] == b["best"]
    assert torch.equal(a["rng"]["torch"], b["rng"]["torch"])
    assert again.test_scores == whole.test_scores


def test_the_best_snapshot_comes_along(make_config: Make, tmp_path: Path) -> None:
    """A new run that never does better still has the best there was, so that it is what a command takes."""

    def run(epochs: int, **more: Any) -> TrainingOutcome:
        data = {"validation": [{**SYNTHETIC, "seed": 5}]}
        runner = {"key_metric": "test.loss", "optimizer": {"type": "SGD", "lr": 1e-9}}  # nothing is learnt
        config = make_config(data=data, runner=runner, train_settings={"epochs": epochs})
        return train({**config, **more}, runs=tmp_path, progress=False)

    first = run(1)
    assert first.best_snapshot is not None
    state = read_snapshot(first.latest_snapshot)
    second = run(2, resume_training_from=str(first.run_folder))
    assert second.best_snapshot is not None and second.best_snapshot.parent == second.run_folder
    if second.best_epoch == 1:
        assert second.best_snapshot.read_bytes() == first.best_snapshot.read_bytes()
    assert state["best"]["epoch"] == 1


def test_nothing_left_to_do_is_said(trained: TrainingOutcome, make_config: Make, tmp_path: Path) -> None:
    config = {
        **make_config(data={"voxel_size": [2.0, 1.0, 1.0]}),
        "resume_training_from": str(trained.run_folder),
    }
    with pytest.raises(
        ConfigError,
        match=rf"train_settings\.epochs: is 2 and .*pt is at epoch {trained.best_epoch}: nothing is left to "
        r"do\. Raise it",
    ):
        train(config, runs=tmp_path, progress=False)
    with pytest.raises(SnapshotError, match="does not fit the model of this config"):
        config["model"] = {"backbone": {"type": "UNet", "channels": [4, 9]}}
        train(config, ["train_settings.epochs=99"], runs=tmp_path, progress=False)
    assert not list(tmp_path.glob("*/RUN_*"))


def test_ctrl_c_keeps_the_latest_snapshot(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = CropDataset.__getitem__, []

    def stop_later(self: CropDataset, key: tuple[int, int]) -> Any:
        calls.append(key)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return read(self, key)

    monkeypatch.setattr(CropDataset, "__getitem__", stop_later)
    outcome = train(make_config(train_settings={"epochs": 9}), runs=tmp_path, progress=False)
    assert outcome.interrupted and outcome.epochs == 1
    assert read_snapshot(outcome.latest_snapshot)["epoch"] == 1
    assert outcome.test_scores is None and (outcome.run_folder / "learning_stats.csv").is_file()


def test_ctrl_c_while_the_best_is_scored(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("skoots.api.train")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compare_with_components", stop)
    outcome = train(
        make_config(data={"validation": [{**SYNTHETIC, "seed": 5}]}), runs=tmp_path, progress=False
    )
    assert outcome.interrupted and outcome.epochs == 2 and outcome.best_snapshot is not None


# What a training does not depend on -------------------------------------------------------------------------


def test_workers_and_formats_do_not_matter(make_config: Make, write_pair: Make, tmp_path: Path) -> None:
    for folder, extensions in (("tiff", ("tif", "tif")), ("mixed", ("tif", "zarr"))):
        for name, seed, extension in zip("ab", (1, 2), extensions):
            write_pair(tmp_path / folder, name, seed, extension=extension)

    def run(folder: str, workers: int, store: str) -> TrainingOutcome:
        source = {"path": str(tmp_path / folder), "samples_per_volume": 2, "store": store}
        config = make_config(data={"train": [source]}, train_settings={"dataloader_workers": workers})
        return train(config, runs=tmp_path / "runs", progress=False)

    alone = weights(run("tiff", 0, "memory"))
    assert equal(alone, weights(run("mixed", 0, "disk")))
    assert equal(alone, weights(run("mixed", 2, "disk")))


def test_loading_takes_nothing_from_torchs_random_numbers(make_config: Make) -> None:
    """Else dropout would depend on the number of workers, which are started once, and on resuming."""
    volumes = open_volumes(load_config(make_config()), "train")
    loaders = [
        train_loader(CropDataset(volumes, [8, 16, 16]), 2, seed=1),
        covering_loader(CoveringDataset([volume for volume, _ in volumes], [12, 24, 24])),
    ]
    for loader in loaders:
        before = torch.get_rng_state()
        assert len(list(loader)) > 0
        assert torch.equal(before, torch.get_rng_state())


def test_validation_does_not_disturb_training(make_config: Make, tmp_path: Path) -> None:
    model = {"backbone": {"type": "UNet", "channels": [4, 8], "dropout": 0.5}}
    without = train(make_config(model=model), runs=tmp_path / "a", progress=False)
    data = {"validation": [{**SYNTHETIC, "seed": 5}]}
    validated = train(make_config(model=model, data=data), runs=tmp_path / "b", progress=False)
    assert equal(weights(without), weights(validated))


def test_the_seed_decides_everything(make_config: Make, tmp_path: Path) -> None:
    runs = [
        weights(train(make_config(train_settings={"seed": seed}), runs=tmp_path, progress=False))
        for seed in (3, 3, 4)
    ]
    assert equal(runs[0], runs[1]) and not equal(runs[0], runs[2])


# check and demo ---------------------------------------------------------------------------------------------


def test_check_says_what_would_be_trained_and_leaves_nothing(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = check(make_config(data={"validation": [{**SYNTHETIC, "seed": 5}], "crop_size": "auto"}))
    text = "\n".join(report.lines)
    assert "1 volumes to train on, 1 to validate on" in text
    assert "vector scale auto: " in text and "crop size auto: 12 x 24 x 24 voxels." in text
    assert "train: synthetic tubes 1, 12 x 24 x 24 voxels" in text and "4 samples an epoch" in text
    assert "validation: synthetic tubes 5" in text
    assert "stride 2 x 2 x 2" in text and "2 steps" in text and "pairs of touching skeletons" in text
    assert report.config.data.crop_size == [12, 24, 24]
    assert len(report.config.model.heads["vector"]["scale"]) == 3
    assert not list(tmp_path.iterdir())


def test_check_finds_faulty_test_data(make_config: Make) -> None:
    with pytest.raises(SkootsError, match="nowhere"):
        check(make_config(data={"test": ["nowhere"]}))


@pytest.mark.parametrize(
    ("runner", "sentence"),
    [
        ({"optimizer": {"type": "AdamW", "lr": 1e-3, "capturable": True}}, "capturable=True, params"),
        (
            {"optimizer": {"type": "SGD", "lr": 0.1, "parameter_groups": {"bakbone": {"lr": 1}}}},
            r"parameter_groups.bakbone: is no part of the model .* Did you mean backbone",
        ),
        (
            {"scheduler": {"type": "OneCycleLR", "max_lr": 1, "total_steps": 2, "interval": "step"}},
            "runner.scheduler: does not last for the 4 steps of this training",
        ),
        ({"early_stopping": True}, "runner.early_stopping: watches test.F1, but data.validation is empty"),
    ],
)
def test_check_finds_what_only_the_model_and_the_data_show(
    runner: dict[str, Any], sentence: str, make_config: Make, tmp_path: Path
) -> None:
    """What ends ``train`` at its start ends ``check`` with the same words."""
    changes = {"runner": runner, "data": {"validation": []}, "train_settings": {"epochs": 2}}
    for verb in (check, lambda config: train(config, runs=tmp_path, progress=False)):
        with pytest.raises(ConfigError, match=sentence):
            verb(make_config(**changes))
    assert not list(tmp_path.iterdir())


def test_demo_walks_through_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("skoots.api.demo")
    short = ["train_settings.epochs=1", "data.train.0.samples_per_volume=1", "data.crop_size=[8, 16, 16]"]
    monkeypatch.setattr(module, "train", lambda config, **named: train(config, short, **named))
    monkeypatch.setattr(module, "SHAPE", (12, 24, 24))
    made = demo(tmp_path / "demo", progress=False)
    assert made.folder == tmp_path / "demo" and made.outcome.epochs == 1
    assert made.segmentation.output == tmp_path / "demo" / "test" / "tubes_4.segmentation.tif"
    assert made.evaluation.volumes == 1 and np.isfinite(made.evaluation.scores["F1"])
    assert "skoots train" in (tmp_path / "demo" / "demo.yaml").read_text().splitlines()[0]
    with pytest.raises(SkootsError, match="demo exists; choose another folder or say --overwrite"):
        demo(tmp_path / "demo", progress=False)
    demo(tmp_path / "demo", overwrite=True, progress=False)
