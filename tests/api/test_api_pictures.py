"""Pictures of a training: in its run folder, in TensorBoard, and of models with other heads."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.io import imread

from skoots.api import train
from skoots.config import load_config
from skoots.errors import ConfigError
from skoots.reports.training_pictures import TITLES

Config = dict[str, Any]
Make = Callable[..., Config]


def figures(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "figures").glob("epoch-*.png"))


def events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    return EventAccumulator(str(run), {IMAGES: 0}).Reload()


@pytest.mark.parametrize("dims", [2, 3])
def test_the_run_folder_and_tensorboard_have_them(make_config: Make, tmp_path: Path, dims: int) -> None:
    config = make_config(
        dims,
        data={"validation": make_config(dims)["data"]["train"]},
        runner={"image_log_interval": 2},
        train_settings={"epochs": 3},
    )
    config["logger"] = ["TensorBoardLogger"]
    run = train(config, runs=tmp_path, progress=False).run_folder
    assert figures(run) == [
        f"epoch-{epoch:03d}-{source}.png" for epoch in (2, 3) for source in ("train", "validation")
    ]
    assert imread(run / "figures" / "epoch-003-train.png").shape[1] > 2400  # five columns
    read = events(run)
    names = {f"{source}/{name}" for source in ("train", "validation") for name in TITLES}
    assert set(read.Tags()["images"]) == names
    crop, volume = config["data"]["crop_size"], config["data"]["train"][0]["shape"]
    for source, (height, width) in {"train": crop[-2:], "validation": volume[-2:]}.items():
        images = read.Images(f"{source}/image")
        assert [(image.step, image.height, image.width) for image in images] == [
            (2, height, width),
            (3, height, width),
        ]
        truths = [imread(io.BytesIO(i.encoded_image_string)) for i in read.Images(f"{source}/truth")]
        assert np.array_equal(*truths) and truths[0].std() > 0  # the same window, with objects


def test_without_validation_data_there_is_the_crop(make_config: Make, tmp_path: Path) -> None:
    config = make_config(2, runner={"key_metric": "test.loss"}, train_settings={"epochs": 1})
    assert figures(train(config, runs=tmp_path, progress=False).run_folder) == ["epoch-001-train.png"]


def test_null_draws_none(make_config: Make, tmp_path: Path) -> None:
    config = make_config(2, runner={"image_log_interval": None}, train_settings={"epochs": 1})
    config["logger"] = ["TensorBoardLogger"]
    run = train(config, runs=tmp_path, progress=False).run_folder
    assert figures(run) == [] and events(run).Tags()["images"] == []


def test_a_model_of_one_head_has_its_pictures(make_config: Make, tmp_path: Path) -> None:
    config = make_config(2, runner={"key_metric": "test.loss"}, train_settings={"epochs": 1})
    config["model"]["heads"] = {"semantic": {"type": "SemanticHead"}}
    config["logger"] = ["TensorBoardLogger"]
    run = train(config, runs=tmp_path, progress=False).run_folder
    assert set(events(run).Tags()["images"]) == {f"train/{name}" for name in ("image", "truth", "semantic")}


def test_a_file_in_the_place_of_the_folder_costs_the_pictures_only(
    make_config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from skoots.api.pictures import picture_observers
    from skoots.api.prepare import prepare, training_crops
    from skoots.api.start import Start
    from skoots.api.train import build_runner

    prepared = prepare(load_config(make_config(2, train_settings={"epochs": 2})))
    (tmp_path / "figures").write_text("")
    runner = build_runner(prepared, Start(tmp_path), progress=False)
    (observer,) = picture_observers(prepared, training_crops(prepared), [], tmp_path)
    assert type(observer) in {type(one) for one in runner.observers}
    with caplog.at_level(logging.WARNING, logger="skoots"):
        assert runner.fit().epochs == 2
    (record,) = caplog.records
    assert "Pictures of the training are missing" in record.getMessage()


@pytest.mark.parametrize("value", [0, -1, 1.5, "often"])
def test_the_interval_counts_epochs(make_config: Make, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"runner\.image_log_interval"):
        load_config(make_config(2, runner={"image_log_interval": value}))
