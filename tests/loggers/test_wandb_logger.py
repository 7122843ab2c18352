"""Weights & Biases: what is handed to it, going on in the same run, and its failures."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from skimage.io import imread

from skoots.errors import ConfigError
from skoots.loggers.base import LOGGERS
from skoots.loggers.wandb import WandbLogger


class FakeRun:
    starting_step = 0
    project, entity = "skoots", "me"

    def __init__(self, id: str) -> None:
        self.id = id
        self.logged: list[tuple[dict[str, Any], int]] = []
        self.finished = False
        self.failure: Exception | None = None

    def log(self, values: dict[str, Any], step: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished = True


class FakeWandb(ModuleType):
    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[FakeRun] = []
        self.calls: list[dict[str, Any]] = []
        self.failure: Exception | None = None

    def init(self, **arguments: Any) -> FakeRun:
        self.calls.append(arguments)
        if self.failure is not None:
            raise self.failure
        self.runs.append(FakeRun(arguments.get("id", f"id{len(self.runs)}")))
        return self.runs[-1]

    def Image(self, picture: np.ndarray) -> tuple[str, tuple[int, ...]]:  # noqa: N802  wandb's own name
        return ("image", picture.shape)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_the_page_s_node_reaches_wandb(fake: FakeWandb, tmp_path: Path) -> None:
    node = {
        "type": "WandbLogger",
        "project_name": "my-project",
        "run_name": "unet",
        "tags": ["split=0"],
        "mode": "offline",
    }
    logger = LOGGERS.build(node, folder=tmp_path)
    logger.start({"device": "auto"})
    logger.scalars({"train.loss": 0.5}, 1)
    logger.close()
    assert fake.calls == [
        {
            "project": "my-project", "name": "unet", "dir": str(tmp_path), "config": {"device": "auto"},
            "tags": ["split=0"], "mode": "offline",
        }
    ]  # fmt: skip
    assert fake.runs[0].logged == [({"train.loss": 0.5}, 1)]
    assert fake.runs[0].finished


def test_a_run_without_a_name_is_called_as_its_folder(fake: FakeWandb, tmp_path: Path) -> None:
    WandbLogger(folder=tmp_path).start({})
    assert (fake.calls[0]["name"], fake.calls[0]["project"]) == (tmp_path.name, "skoots")


def test_pictures_are_sent_and_the_interval_is_known(fake: FakeWandb, tmp_path: Path) -> None:
    logger = WandbLogger(image_log_interval=2, folder=tmp_path)
    logger.start({})
    logger.image("train/overlay", np.zeros((4, 6, 3), np.uint8), 3)
    assert fake.runs[0].logged == [({"train/overlay": ("image", (4, 6, 3))}, 3)]
    assert (logger.image_log_interval, WandbLogger(folder=tmp_path).image_log_interval) == (2, None)


def test_a_run_that_goes_on_continues_there(fake: FakeWandb, tmp_path: Path) -> None:
    WandbLogger(folder=tmp_path).start({})
    assert json.loads((tmp_path / "wandb_run.json").read_text()) == {
        "id": "id0",
        "project": "skoots",
        "entity": "me",
    }
    WandbLogger(folder=tmp_path).start({})
    assert (fake.calls[1]["id"], fake.calls[1]["resume"]) == ("id0", "allow")
    WandbLogger(folder=tmp_path, id="mine").start({})
    assert fake.calls[2]["id"] == "mine" and "resume" not in fake.calls[2]


class MailboxClosedError(Exception):
    """As W&B's own, which extends nothing of W&B's."""

    __module__ = "wandb.sdk.mailbox.mailbox"


@pytest.mark.parametrize(
    "failure", [OSError("no network"), MailboxClosedError("no network"), ValueError("no network")]
)
def test_a_failure_is_said_once_and_training_goes_on(
    fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    early, late = WandbLogger(folder=tmp_path), WandbLogger(folder=tmp_path)
    late.start({})
    fake.failure = fake.runs[0].failure = failure
    for logger in (early, late):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="skoots"):
            logger.start({})
            for epoch in (1, 2):
                logger.scalars({"a": 1.0}, epoch)
            logger.close()
        assert [record.getMessage() for record in caplog.records] == [
            "Weights & Biases does not work (no network); training goes on without it."
        ]


def test_a_bug_stays_a_bug(fake: FakeWandb, tmp_path: Path) -> None:
    fake.failure = AttributeError("a bug")
    with pytest.raises(AttributeError):
        WandbLogger(folder=tmp_path).start({})


def test_without_wandb_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = WandbLogger(folder=tmp_path, tags=["x"])
    with caplog.at_level(logging.WARNING, logger="skoots"):
        logger.start({})
        logger.scalars({"a": 1.0}, 1)
    assert len(caplog.records) == 1


def test_arguments_that_fit_nothing_are_faults(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hands 'tgas' to wandb\.init, .* Did you mean tags"):
        WandbLogger(folder=tmp_path, tgas=["x"])
    with pytest.raises(ConfigError, match="image_log_interval counts epochs; give 1 or more"):
        WandbLogger(image_log_interval=0)


def test_offline_with_the_real_package(tmp_path: Path) -> None:
    code = """
import logging, sys
import numpy as np
from skoots.loggers.wandb import WandbLogger
root = list(logging.getLogger().handlers)
logger = WandbLogger("skoots-test", folder=sys.argv[1], image_log_interval=1, mode="offline", tags=["x"])
logger.start({"epochs": 2})
logger.scalars({"train.loss": 0.5}, 1)
logger.image("overlay", np.zeros((4, 6, 3), np.uint8), 1)
logger.close()
assert logging.getLogger().handlers == root
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "does not work" not in done.stderr
    assert json.loads((tmp_path / "wandb_run.json").read_text())["project"] == "skoots-test"
    (record,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert record.stat().st_size > 100
    (picture,) = tmp_path.glob("wandb/offline-run-*/files/media/images/overlay_1_*.png")
    assert imread(picture).shape == (4, 6, 3)
