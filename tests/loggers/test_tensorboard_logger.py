"""Event files that TensorBoard itself reads back."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from skoots.loggers.base import LOGGERS
from skoots.loggers.tensorboard import TensorBoardLogger


@pytest.fixture(autouse=True)
def counted_from_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event files are read by name: second, host, process, count. Within one second, 10 comes before 9."""
    from tensorboard.summary.writer import event_file_writer

    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_scalars_images_and_config_are_read_back(tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[1, 2] = 255
    logger = LOGGERS.build("TensorBoardLogger", folder=tmp_path)
    logger.start({"runner": {"eval_interval": 1}})
    for epoch in (1, 2):
        logger.scalars({"train.loss": 1 / epoch, "lr": 0.5}, epoch)
    logger.image("overlay", picture, 2)
    logger.close()
    read = events(tmp_path)
    assert [(event.step, event.value) for event in read.Scalars("train.loss")] == [(1, 1.0), (2, 0.5)]
    image = read.Images("overlay")[0]
    assert (image.step, image.width, image.height) == (2, 6, 4)
    assert any("config" in tag for tag in read.Tags()["tensors"])


def test_a_run_that_goes_on_hides_the_epochs_after_it(tmp_path: Path) -> None:
    for first_epoch, last_epoch, value in ((1, 4, 0.25), (3, 5, 0.75)):
        logger = TensorBoardLogger(tmp_path)
        for epoch in range(first_epoch, last_epoch + 1):
            logger.scalars({"a": value}, epoch)
        logger.close()
    read = [(event.step, event.value) for event in events(tmp_path).Scalars("a")]
    assert read == [(1, 0.25), (2, 0.25), (3, 0.75), (4, 0.75), (5, 0.75)]


def test_no_epoch_is_doubled_or_missing_when_a_run_goes_on(tmp_path: Path) -> None:
    """Killed between the snapshot of epoch 3 and its points, or after those of an epoch that it lost."""
    rows = [{"a": 0.5}, {"a": 0.25}, {"a": 0.125}]
    for logged in (2, 3, 4):
        folder = tmp_path / str(logged)
        first = TensorBoardLogger(folder)
        for epoch in range(1, logged + 1):
            first.scalars([*rows, {"a": 9.0}][epoch - 1], epoch)
        first.close()
        again = TensorBoardLogger(folder)
        again.history(rows)
        again.scalars({"a": 0.0625}, 4)
        again.close()
        read = [(event.step, event.value) for event in events(folder).Scalars("a")]
        assert read == [(1, 0.5), (2, 0.25), (3, 0.125), (4, 0.0625)]


def test_a_run_that_branches_off_has_its_curves_from_the_beginning(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.history([{"a": 0.5}, {"a": 0.25}])
    logger.scalars({"a": 0.125}, 3)
    logger.close()
    read = [(event.step, event.value) for event in events(tmp_path).Scalars("a")]
    assert read == [(1, 0.5), (2, 0.25), (3, 0.125)]


def test_a_lost_disk_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    logger = TensorBoardLogger(tmp_path / "file")
    with caplog.at_level(logging.WARNING, logger="skoots"):
        for epoch in range(1, 4):
            logger.scalars({"a": 1.0}, epoch)
        logger.close()
    assert [record.getMessage().endswith("training goes on without it.") for record in caplog.records] == [
        True
    ]
