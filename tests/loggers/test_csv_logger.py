"""learning_stats.csv: columns, rows, and going on after a stop."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest

from skoots.loggers.base import LOGGERS
from skoots.loggers.csv import CSVLogger


def table(folder: Path) -> list[list[str]]:
    with open(folder / "learning_stats.csv", newline="") as file:
        return list(csv.reader(file))


def test_columns_are_the_union_in_the_order_of_appearance(tmp_path: Path) -> None:
    logger = LOGGERS.build("CSVLogger", folder=tmp_path)
    logger.scalars({"train.loss": 0.5, "lr": 1e-4}, 1)
    logger.scalars({"train.loss": 0.25, "lr": 1e-4, "test.F1": np.float32(0.5)}, 2)
    logger.scalars({"lr": 1e-5, "train.loss": float("nan"), "steps": 7}, 3)
    assert table(tmp_path) == [
        ["epoch", "train.loss", "lr", "test.F1", "steps"],
        ["1", "0.5", "0.0001", "", ""],
        ["2", "0.25", "0.0001", "0.5", ""],
        ["3", "nan", "1e-05", "", "7"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["learning_stats.csv"]


def test_numbers_read_back_exactly(tmp_path: Path) -> None:
    CSVLogger(tmp_path).scalars({"a": 0.1 + 0.2}, 1)
    assert float(table(tmp_path)[1][1]) == 0.1 + 0.2


def test_known_columns_are_appended_without_rewriting(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.scalars({"a": 1.0}, 1)
    inode = logger.path.stat().st_ino
    logger.scalars({"a": 2.0}, 2)
    assert logger.path.stat().st_ino == inode
    logger.scalars({"b": 2.0}, 3)
    assert logger.path.stat().st_ino != inode
    assert table(tmp_path) == [["epoch", "a", "b"], ["1", "1.0", ""], ["2", "2.0", ""], ["3", "", "2.0"]]


def test_one_epoch_in_two_calls_is_one_row(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.scalars({"a": 1.0}, 1)
    logger.scalars({"b": 2.0}, 1)
    logger.scalars({"a": 3.0}, 2)
    assert table(tmp_path) == [["epoch", "a", "b"], ["1", "1.0", "2.0"], ["2", "3.0", ""]]


def test_a_run_that_goes_on_doubles_and_loses_nothing(tmp_path: Path) -> None:
    first = CSVLogger(tmp_path)
    for epoch in range(1, 6):
        first.scalars({"a": float(epoch), "b": 0.5}, epoch)
    second = CSVLogger(tmp_path)  # from the snapshot of epoch 3
    second.scalars({"a": 40.0}, 4)
    second.scalars({"a": 50.0}, 5)
    assert table(tmp_path) == [
        ["epoch", "a", "b"], ["1", "1.0", "0.5"], ["2", "2.0", "0.5"], ["3", "3.0", "0.5"], ["4", "40.0", ""],
        ["5", "50.0", ""],
    ]  # fmt: skip


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    first = CSVLogger(tmp_path)
    first.scalars({"a": 1.0}, 1)
    first.scalars({"a": 2.0}, 2)
    text = first.path.read_text()
    first.path.write_text(text[:-3])
    CSVLogger(tmp_path).scalars({"a": 3.0}, 3)
    assert table(tmp_path) == [["epoch", "a"], ["1", "1.0"], ["3", "3.0"]]


@pytest.mark.parametrize("content", ["", "name,value\nx,1\n"])
def test_another_s_file_is_kept_aside(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "learning_stats.csv").write_text(content)
    CSVLogger(tmp_path).scalars({"a": 1.0}, 1)
    assert table(tmp_path) == [["epoch", "a"], ["1", "1.0"]]
    assert (tmp_path / "learning_stats.csv.bak").exists() == bool(content)


@pytest.mark.parametrize("left", ["", "epoch,a\n1,9", "epoch,a\n1,1.0\n2,2.0\n3,9.0\n4,9.0\n"])
def test_the_history_of_a_run_replaces_what_a_crash_has_left(left: str, tmp_path: Path) -> None:
    (tmp_path / "learning_stats.csv").write_text(left)
    logger = CSVLogger(tmp_path)
    logger.history([{"a": 1.0}, {"a": 2.0, "b": 0.5}])
    assert (
        tmp_path / "learning_stats.csv"
    ).read_text() == left  # nothing is written before there is something
    logger.scalars({"a": 3.0}, 3)
    logger.close()
    assert table(tmp_path) == [["epoch", "a", "b"], ["1", "1.0", ""], ["2", "2.0", "0.5"], ["3", "3.0", ""]]
    logger = CSVLogger(tmp_path)  # a run that is complete: nothing comes after its history
    logger.history([{}, {"a": 2.0}])  # of its first epoch nothing is known
    logger.close()
    assert table(tmp_path) == [["epoch", "a"], ["2", "2.0"]]


def test_a_lost_disk_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = CSVLogger(tmp_path / "gone")
    with caplog.at_level(logging.WARNING, logger="skoots"):
        for epoch in range(1, 4):
            logger.scalars({"a": 1.0}, epoch)
    assert [record.getMessage().endswith("training goes on without it.") for record in caplog.records] == [
        True
    ]
    (tmp_path / "gone").mkdir()
    logger.scalars({"a": 4.0}, 4)
    assert [row[0] for row in table(tmp_path / "gone")] == [
        "epoch",
        "1",
        "2",
        "3",
        "4",
    ]  # nothing was lost meanwhile
