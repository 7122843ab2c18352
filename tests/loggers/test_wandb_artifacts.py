"""Snapshots on W&B: what is sent and when, what outlives a failure, and what comes back.

First with stand-ins for ``wandb``, then with ``wandb`` itself, offline and against a server on loopback.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import wandb_server
from skimage.io import imread
from wandb_server import WandbServer

from skoots.errors import SnapshotError
from skoots.loggers import wandb as wandb_logger
from skoots.loggers.wandb import WandbLogger
from skoots.loggers.wandb_artifacts import (
    HIDDEN_FOLDER,
    Waiting,
    artifact_name,
    download_snapshot,
    without_superseded,
)


def content_of(epoch: int) -> bytes:
    return f"snapshot of epoch {epoch} ".encode() * 5000


def save(folder: Path, epoch: int, name: str = "latest") -> Path:
    """As snapshots are written: under a temporary name, then renamed over what was there."""
    path = folder / f"snapshot-{name}.pt"
    temporary = folder / "snapshot.tmp"
    temporary.write_bytes(content_of(epoch))
    os.replace(temporary, path)
    return path


# Which snapshots matter -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        (["latest", "latest"], [2]),
        (["latest best", "latest", "latest"], [1, 3]),
        (["latest 010", "latest best", "latest"], [1, 2, 3]),
        (["average", "latest", "latest"], [1, 3]),
        (["latest best", "latest best", "latest"], [2, 3]),
        (["latest best 001", "latest best 002"], [1, 2]),
    ],
)
def test_a_snapshot_is_dropped_once_newer_ones_have_all_its_names(
    waiting: list[str], expected: list[int]
) -> None:
    items = [Waiting(str(n), tuple(names.split()), n) for n, names in enumerate(waiting, start=1)]
    assert [item.epoch for item in without_superseded(items)] == expected


def test_what_is_on_its_way_is_not_dropped() -> None:
    first, second = Waiting("a", ("latest",), 1), Waiting("b", ("latest",), 2)
    assert without_superseded([first, second], sending=first) == [first, second]


def test_artifact_names_are_legal_and_the_average_has_its_own() -> None:
    assert artifact_name("a1b2") == artifact_name("a1b2", "best") == "a1b2-snapshots"
    assert artifact_name("a1b2", "average") == "a1b2-average"
    assert artifact_name("größe 1") == "gr--e-1-snapshots"
    assert len(artifact_name("x" * 128)) < 128


# With stand-ins ---------------------------------------------------------------------------------------------


class FakeArtifact:
    def __init__(self, name: str, type: str, metadata: dict[str, Any]) -> None:
        self.name, self.type, self.metadata = name, type, metadata
        self.files: dict[str, bytes] = {}
        self.how: dict[str, Any] = {}

    def add_file(self, path: str, name: str, **how: Any) -> None:
        self.files[name], self.how = Path(path).read_bytes(), how


class FakeRun:
    id, project, entity = "a1b2", "skoots", "me"
    starting_step = 0
    disabled = offline = False

    def __init__(self, wandb: FakeWandb) -> None:
        self.wandb = wandb
        self.offline = wandb.offline

    def log(self, values: dict[str, Any], step: int) -> None:
        self.wandb.logged.append(step)

    def log_artifact(self, artifact: FakeArtifact, aliases: list[str]) -> Any:
        self.wandb.sent.append((artifact, aliases))
        return SimpleNamespace(wait=self.wandb.confirm)

    def finish(self) -> None:
        self.wandb.logged.append(-1)


class FakeWandb(ModuleType):
    """W&B whose server answers only while ``answers`` is set."""

    Artifact = FakeArtifact
    Settings = SimpleNamespace(model_fields={"finish_timeout": None})

    def __init__(self) -> None:
        super().__init__("wandb")
        self.sent: list[tuple[FakeArtifact, list[str]]] = []
        self.confirmed = 0
        self.logged: list[int] = []
        self.settings: Any = None
        self.failure: Exception | None = None
        self.offline = False
        self.answers = threading.Event()
        self.answers.set()

    def init(self, settings: Any = None, **arguments: Any) -> FakeRun:
        if self.failure is not None:
            raise self.failure
        self.settings = settings
        return FakeRun(self)

    def confirm(self, timeout: float) -> None:
        assert timeout > 60
        assert self.answers.wait(10)
        if self.failure is not None:
            raise self.failure
        self.confirmed += 1

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.002)

    @property
    def epochs(self) -> list[tuple[int, list[str]]]:
        return [(artifact.metadata["epoch"], aliases) for artifact, aliases in self.sent]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    yield module
    module.answers.set()


def started(folder: Path, **arguments: Any) -> WandbLogger:
    logger = WandbLogger(folder=folder, save_checkpoints_remote=True, **arguments)
    logger.start({})
    return logger


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_snapshot_is_sent_beside_the_training_with_the_bytes_it_had(
    fake: FakeWandb, tmp_path: Path
) -> None:
    logger = started(tmp_path)
    fake.answers.clear()
    logger.snapshot(save(tmp_path, 1), ["latest", "best"], 1)
    logger.snapshot(save(tmp_path, 2), ["latest"], 2)  # nothing is confirmed yet, and the name is taken anew
    assert fake.confirmed == 0
    fake.answers.set()
    logger.close()
    assert fake.epochs == [(1, ["latest", "best"]), (2, ["latest"])]
    for epoch, (artifact, _) in enumerate(fake.sent, start=1):
        assert (artifact.name, artifact.type) == ("a1b2-snapshots", "model")
        assert artifact.files == {"snapshot.pt": content_of(epoch)}
        assert artifact.metadata["sha256"] == hashlib.sha256(content_of(epoch)).hexdigest()
        assert artifact.how == {"policy": "immutable", "skip_cache": True}  # no copies in the user's home
    assert fake.logged == [-1]
    assert not (tmp_path / HIDDEN_FOLDER).exists()


def test_only_the_newest_latest_is_sent(fake: FakeWandb, tmp_path: Path) -> None:
    logger = started(tmp_path)
    fake.answers.clear()
    logger.snapshot(save(tmp_path, 1), ["latest"], 1)
    fake.wait_for(lambda: len(fake.sent) == 1)
    for epoch, aliases in enumerate((["latest"], ["latest", "best"], ["latest"], ["latest"]), start=2):
        logger.snapshot(save(tmp_path, epoch), aliases, epoch)
    logger.snapshot(save(tmp_path, 5, "average"), ["average"], 5)
    fake.answers.set()
    logger.close()
    assert fake.epochs == [(1, ["latest"]), (3, ["latest", "best"]), (5, ["latest"]), (5, ["average"])]
    assert fake.sent[-1][0].name == "a1b2-average"


def test_after_a_failure_the_next_snapshot_tries_again(
    fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = started(tmp_path)
    fake.failure = OSError("no network")
    for epoch in (1, 2):
        logger.snapshot(save(tmp_path, epoch), ["latest", f"{epoch:03d}"], epoch)
        fake.wait_for(lambda: logger._uploads is not None and logger._uploads._thread is None)
    (warning,) = warnings_of(caplog)
    assert warning.startswith(
        "Snapshots cannot be uploaded to Weights & Biases (no network). Training goes on;"
    )
    fake.failure = None
    logger.snapshot(save(tmp_path, 3), ["latest"], 3)
    logger.close()
    assert [epoch for epoch, _ in fake.epochs] == [1, 1, 1, 2, 3]
    assert fake.confirmed == 3
    assert len(warnings_of(caplog)) == 1


def test_what_no_server_took_is_sent_when_the_run_goes_on(
    fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.failure = OSError("no network")
    logger = started(tmp_path)
    for epoch in (1, 2, 3):
        logger.snapshot(save(tmp_path, epoch), ["latest", "best"] if epoch == 1 else ["latest"], epoch)
    logger.close()
    first, last = warnings_of(caplog)
    assert first == "Weights & Biases does not work (no network); training goes on without it."
    assert last.startswith(
        f"2 snapshots were not uploaded to Weights & Biases. What is left waits in {tmp_path}"
    )
    listed = json.loads((tmp_path / HIDDEN_FOLDER / "waiting.json").read_text())
    assert [item["epoch"] for item in listed] == [1, 3]
    assert len(list((tmp_path / HIDDEN_FOLDER).glob("*.pt"))) == 2
    fake.failure = None
    started(tmp_path).close()
    assert fake.epochs == [(1, ["latest", "best"]), (3, ["latest"])]
    assert [artifact.files["snapshot.pt"] for artifact, _ in fake.sent] == [content_of(1), content_of(3)]
    assert not (tmp_path / HIDDEN_FOLDER).exists()


def test_the_end_waits_only_so_long(
    fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_logger, "UPLOAD_SECONDS", 0.05)
    logger = started(tmp_path, settings={"quiet": True})
    assert fake.settings == {"quiet": True, "finish_timeout": 0.05}
    fake.answers.clear()
    logger.snapshot(save(tmp_path, 1), ["latest"], 1)
    fake.wait_for(lambda: len(fake.sent) == 1)
    logger.snapshot(save(tmp_path, 2), ["latest", "best"], 2)
    begun = time.monotonic()
    logger.close()
    assert time.monotonic() - begun < 5
    assert fake.logged == [-1]
    assert warnings_of(caplog)[-1].startswith("2 snapshots were not uploaded")
    fake.answers.set()  # what was on its way may still arrive; nothing new begins
    fake.wait_for(lambda: fake.confirmed == 1)
    listed = tmp_path / HIDDEN_FOLDER / "waiting.json"
    fake.wait_for(lambda: [item["epoch"] for item in json.loads(listed.read_text())] == [2])


def test_offline_the_last_of_each_name_is_noted_at_the_end(fake: FakeWandb, tmp_path: Path) -> None:
    fake.offline = True
    logger = started(tmp_path)
    for epoch in (1, 2, 3, 4):
        logger.snapshot(save(tmp_path, epoch), ["latest", "best"] if epoch < 3 else ["latest"], epoch)
    assert fake.sent == []
    logger.close()
    assert fake.epochs == [(2, ["latest", "best"]), (4, ["latest"])]
    assert fake.confirmed == 0
    assert len(list((tmp_path / HIDDEN_FOLDER).glob("*.pt"))) == 2  # for ``wandb sync``
    assert not (tmp_path / HIDDEN_FOLDER / "waiting.json").exists()


def test_without_the_option_or_with_w_and_b_disabled_nothing_is_set_aside(
    fake: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loggers = [WandbLogger(folder=tmp_path)]
    loggers[0].start({})
    monkeypatch.setattr(FakeRun, "disabled", True)
    loggers.append(started(tmp_path))
    for logger in loggers:
        logger.snapshot(save(tmp_path, 1), ["latest"], 1)
        logger.close()
    assert fake.sent == [] and not (tmp_path / HIDDEN_FOLDER).exists()


def test_without_hard_links_the_bytes_are_copied(
    fake: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    logger = started(tmp_path)
    logger.snapshot(save(tmp_path, 1), ["latest"], 1)
    save(tmp_path, 2)
    logger.close()
    assert fake.sent[0][0].files == {"snapshot.pt": content_of(1)}


def test_a_full_disk_is_said_once_and_leaves_nothing(
    fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(os, "link", fill)
    monkeypatch.setattr(shutil, "copyfile", fill)
    logger = started(tmp_path)
    for epoch in (1, 2):
        logger.snapshot(save(tmp_path, epoch), ["latest"], epoch)
    logger.close()
    assert warnings_of(caplog) == [
        f"Snapshot {tmp_path / 'snapshot-latest.pt'} is not uploaded to Weights & Biases (no space left)."
    ]
    assert not (tmp_path / HIDDEN_FOLDER).exists()


def test_what_is_lost_on_disk_is_said_and_the_rest_is_sent(
    fake: FakeWandb, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.failure = OSError("no network")
    logger = started(tmp_path)
    for epoch in (1, 2):
        logger.snapshot(save(tmp_path, epoch), [f"{epoch:03d}"], epoch)
    logger.close()
    fake.failure = None
    next((tmp_path / HIDDEN_FOLDER).glob("001-*.pt")).unlink()
    caplog.clear()
    started(tmp_path).close()
    assert fake.epochs == [(2, ["002"])]
    (warning,) = warnings_of(caplog)
    assert "lacks 001-" in warning

    (tmp_path / HIDDEN_FOLDER).mkdir()
    (tmp_path / HIDDEN_FOLDER / "waiting.json").write_text("[{")
    caplog.clear()
    started(tmp_path).close()
    assert "waiting.json cannot be read" in warnings_of(caplog)[0]


def test_epochs_that_w_and_b_has_are_not_sent_again(
    fake: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRun, "starting_step", 3)
    logger = WandbLogger(folder=tmp_path)
    logger.start({})
    logger.history([{"a": 1.0}] * 4)
    logger.scalars({"a": 1.0}, 5)
    assert fake.logged == [3, 4, 5]


@pytest.mark.parametrize(
    "reference", ["wandb:me/mito", "wandb:me/mito/a/b", "me/mito/a", "wandb:me//a", "wandb:"]
)
def test_a_malformed_reference_is_explained(tmp_path: Path, reference: str) -> None:
    with pytest.raises(
        SnapshotError, match="Write wandb:entity/project/run or wandb:entity/project/run:best"
    ):
        download_snapshot(reference, tmp_path)


def test_downloading_without_wandb_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SnapshotError, match="wandb is not installed"):
        download_snapshot("wandb:me/mito/a1b2", tmp_path)


# With wandb itself ------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[WandbServer]:
    server = WandbServer().start()
    yield server
    server.stop()


def client(
    code: str, folder: Path, server: WandbServer | None = None, command: list[str] | None = None, **more: str
) -> str:
    """What a program prints that has ``wandb`` for itself: W&B keeps global state to the end of a process.

    Args:
        code: begins after the imports and has ``folder``, ``content_of`` and ``save``.
        folder: the run folder.
        server: the W&B server; None is offline.
        command: run this instead of ``code``.
        **more: environment variables.
    """
    home = folder.parent / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {f"WANDB_{kind}_DIR": str(home / kind) for kind in ("CACHE", "DATA", "CONFIG")}
    environment |= {"WANDB_API_KEY": wandb_server.KEY, "WANDB_ERROR_REPORTING": "false", "HOME": str(home)}
    environment |= {"WANDB_BASE_URL": server.url if server else "http://127.0.0.1:9", **more}
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_wandb_artifacts import save
from skoots.errors import SnapshotError
from skoots.loggers import wandb as wandb_logger
from skoots.loggers.wandb import WandbLogger
from skoots.loggers.wandb_artifacts import download_snapshot
folder = Path({str(folder)!r})
def logger(**arguments):
    logger = WandbLogger("mito", folder=folder, save_checkpoints_remote=True, **arguments)
    logger.start({{}})
    return logger
{code}
"""
    home.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        command or [sys.executable, "-c", program],
        env=environment, cwd=home, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_id(folder: Path) -> str:
    return json.loads((folder / "wandb_run.json").read_text())["id"]


TWO_EPOCHS = """
logger = logger()
for epoch, aliases in ((1, ["latest", "best", "001"]), (2, ["latest"])):
    logger.scalars({"train.loss": 1 / epoch}, epoch)
    logger.snapshot(save(folder, epoch), aliases, epoch)
logger.snapshot(save(folder, 9, "average"), ["average"], 2)
logger.close()
"""


def test_what_was_uploaded_comes_back(server: WandbServer, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    said = client(TWO_EPOCHS, folder, server)
    assert "does not work" not in said and "not uploaded" not in said
    id = run_id(folder)
    first, second = server.versions(f"{id}-snapshots")
    (average,) = server.versions(f"{id}-average")
    assert (first.aliases, second.aliases) == ({"best", "001"}, {"latest"})
    for artifact, epoch, content in ((first, 1, 1), (second, 2, 2), (average, 2, 9)):
        assert server.files(artifact) == {"snapshot.pt": content_of(content)}
        sha256 = hashlib.sha256(content_of(content)).hexdigest()
        assert artifact.metadata == {"epoch": epoch, "sha256": sha256}
        assert artifact.type == "model"
    assert not (folder / HIDDEN_FOLDER).exists()

    server.stored[f"{average.id}/files/snapshot.pt"] = content_of(8)  # as long as what was sent
    said = client(
        f"""
for reference, alias in (
    ("wandb:me/mito/{id}", "latest"), ("wandb:me/mito/{id}:best", "latest"), ("wandb:me/mito/{id}", "001"),
    ("wandb:me/mito/{id}", "average"), ("wandb:me/mito/{id}", "007"), ("wandb:me/mito/other", "latest"),
    ("wandb:me/other/{id}", "latest"),
):
    try:
        print("got", download_snapshot(reference, folder, alias).name)
    except SnapshotError as error:
        print("no", error)
""",
        elsewhere,
        server,
    )
    *got, damaged, no_epoch, no_run, no_project = [
        line for line in said.splitlines() if line.startswith(("got", "no "))
    ]
    assert got == ["got snapshot-latest.pt", "got snapshot-best-001.pt", "got snapshot-001.pt"]
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == {
        "snapshot-latest.pt": content_of(2),
        "snapshot-best-001.pt": content_of(1),
        "snapshot-001.pt": content_of(1),
    }
    assert "its checksum differs. Try again" in damaged
    for line in (no_epoch, no_run, no_project):
        assert "not found" in line and "had save_checkpoints_remote" in line


def test_the_server_dies_and_the_next_start_sends_what_it_lacks(server: WandbServer, tmp_path: Path) -> None:
    def die(operation: str) -> None:
        if operation == "CreateArtifactFiles":
            server.stop()

    server.on_operation = die
    folder = tmp_path / "run"
    said = client("wandb_logger.UPLOAD_SECONDS = 0.5" + TWO_EPOCHS, folder, server)
    id = run_id(folder)
    assert said.count("3 snapshots were not uploaded to Weights & Biases") == 1, said
    assert server.versions(f"{id}-snapshots") == []
    listed = json.loads((folder / HIDDEN_FOLDER / "waiting.json").read_text())
    assert [item["aliases"] for item in listed] == [["latest", "best", "001"], ["latest"], ["average"]]

    server.on_operation = lambda operation: None
    server.start()
    going_on = """
logger = logger()
logger.history([{"train.loss": 1 / epoch} for epoch in range(1, EPOCH)])
logger.scalars({"train.loss": 1 / EPOCH}, EPOCH)
logger.close()
"""
    said = client(going_on.replace("EPOCH", "3"), folder, server)
    assert "not uploaded" not in said and "WARNING" not in said, said
    assert run_id(folder) == id
    first, second = server.versions(f"{id}-snapshots")
    assert (first.aliases, second.aliases) == ({"best", "001"}, {"latest"})
    assert server.files(first) == {"snapshot.pt": content_of(1)}
    assert server.files(second) == {"snapshot.pt": content_of(2)}
    assert len(server.versions(f"{id}-average")) == 1
    assert not (folder / HIDDEN_FOLDER).exists()
    assert [row["_step"] for row in server.history[id]] == [1, 2, 3]

    said = client(going_on.replace("EPOCH", "4"), folder, server)  # now W&B has the steps before
    assert [row["_step"] for row in server.history[id]] == [1, 2, 3, 4]
    assert "WARNING" not in said, said


PICTURES = """
import numpy as np
logger = WandbLogger("mito", folder=folder)
logger.start({})
for epoch in (1, 2):
    logger.scalars({"a": 1 / epoch}, epoch)
    logger.image("train/vectors", np.full((4, 6, 3), 7 * epoch, np.uint8), epoch)
logger.close()
"""


def test_pictures_reach_the_server_in_the_row_of_their_epoch(server: WandbServer, tmp_path: Path) -> None:
    folder = tmp_path / "RUN_1"
    folder.mkdir()
    client(PICTURES, folder, server)
    ((id, rows),) = server.history.items()
    assert [(row["_step"], row["a"]) for row in rows] == [(1, 1), (2, 0.5)]
    for epoch, row in enumerate(rows, start=1):
        assert row["train/vectors"]["_type"] == "image-file"
        content = server.stored[f"{id}/{row['train/vectors']['path']}"]
        assert content is not None
        picture = imread(io.BytesIO(content))
        assert picture.shape == (4, 6, 3) and (picture == 7 * epoch).all()


def test_downloading_says_why_it_cannot(server: WandbServer, tmp_path: Path) -> None:
    code = """
from skoots.loggers import wandb_artifacts
wandb_artifacts._ANSWER_SECONDS = 1
for url in URLS:
    os.environ["WANDB_BASE_URL"] = url
    try:
        download_snapshot("wandb:me/mito/a1b2", folder)
    except SnapshotError as error:
        print("no", error)
"""
    urls = repr([server.url, "http://127.0.0.1:9"])
    code = code.replace("URLS", urls)
    try:
        said = client(code, tmp_path / "a", server, WANDB_API_KEY="x" * 40)
    except subprocess.TimeoutExpired:  # W&B's own service process does not come up, once in a while
        said = client(code, tmp_path / "b", server, WANDB_API_KEY="x" * 40)
    refused, silent = [line for line in said.splitlines() if line.startswith("no ")]
    assert refused.startswith("no Snapshot wandb:me/mito/a1b2 (latest) could not be fetched")
    assert "Failed to verify credentials" in refused and "there was no answer" in silent
    for line in (refused, silent):
        assert line.endswith("Check the network, WANDB_BASE_URL, and the login (wandb login).")


def test_offline_snapshots_are_there_for_wandb_sync(server: WandbServer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    said = client(TWO_EPOCHS.replace("logger()", "logger(mode='offline')"), folder)
    assert "does not work" not in said and "not uploaded" not in said
    (record,) = folder.glob("wandb/offline-run-*")
    client("", folder, server, [sys.executable, "-m", "wandb", "sync", str(record)])
    id = run_id(folder)
    first, second = server.versions(f"{id}-snapshots")
    assert (first.aliases, second.aliases) == ({"best", "001"}, {"latest"})
    assert server.files(first) == {"snapshot.pt": content_of(1)}
    assert [row["_step"] for row in server.history[id]] == [1, 2]
