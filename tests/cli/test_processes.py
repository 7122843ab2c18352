"""Trainings in several processes, from the command line: the same numbers as one, whatever happens to one of
them."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from skoots.cli.main import main
from skoots.snapshots import read_snapshot

CONFIG = """
data:
  train: [{type: Synthetic, shape: [40, 40], volumes: 2, samples_per_volume: 6, seed: 3, radius: [2.0, 3.0]}]
  validation: [{type: Synthetic, shape: [32, 48], volumes: 3, seed: 30, radius: [2.0, 3.0]}]
  crop_size: [16, 16]
model:
  backbone: {type: UNet, channels: [4, 8], norm: layer}
  heads:
    vector: {type: VectorHead, scale: 6.0, distance_weight: 0.1}
    semantic: {type: SemanticHead, criterion: {type: BCE, positive_weight: balanced}}
    skeleton: {type: SkeletonHead, start_epoch: 2}
runner:
  key_metric: test.loss
  eval_interval: 1
  image_log_interval: null
  optimizer: {type: SGD, lr: 0.05, momentum: 0.9}
  clip_gradient: 1.0
  ema: {decay: 0.9}
train_settings: {batch_size: 6, epochs: 3, seed: 3}
inference: {tune: 0}
"""

PLUGIN = """
import os, signal
from pathlib import Path
from skoots.data.augment import AUGMENTATIONS, Augmentation
from skoots.errors import VolumeError

@AUGMENTATIONS.register
class Fails(Augmentation):
    '''Does it once, in the second process, in the third epoch.'''

    def __init__(self, how: str, marker: str) -> None:
        self.how, self.marker, self.calls = how, Path(marker), 0

    def __call__(self, window, rng):
        self.calls += 1
        if os.environ["RANK"] == "1" and self.calls == 14 and not self.marker.exists():
            self.marker.touch()
            if self.how == "raise":
                raise VolumeError("The scanner is on fire. Put it out.")
            os.kill(os.getpid(), signal.SIGKILL)
        return window
"""


def left_of(process: subprocess.Popen[str]) -> list[str]:
    """What still runs of a command and all that it has started, but for the one that frees shared memory."""
    end = time.monotonic() + 5
    while left := [
        words
        for entry in Path("/proc").glob("[0-9]*")
        if (words := _words_of(entry, process.pid)) and "resource_tracker" not in words
    ]:
        if time.monotonic() > end:
            return left
        time.sleep(0.05)
    return []


def _words_of(entry: Path, session: int) -> str:
    try:
        state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        return "" if state == "Z" or int(its_session) != session else (entry / "cmdline").read_text()
    except OSError:
        return ""


class Site:
    """A folder in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tubes.yaml").write_text(CONFIG)
        (folder / "fails.py").write_text(PLUGIN)

    def start(self, *words: str, launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
        environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONWARNINGS": "default"}
        return subprocess.Popen(
            [sys.executable, *launcher, "-m", "skoots", *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, status: int = 0, launcher: Sequence[str] = ()) -> str:
        process = self.start(*words, launcher=launcher)
        try:
            told, _ = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == status, told
        assert not left_of(process)
        return told

    def torchrun(self, *words: str) -> str:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return self.run(*words, launcher=launcher)

    def train(self, runs: str, processes: int, *overrides: str, status: int = 0) -> str:
        return self.run(
            "train", "tubes.yaml", "--runs", runs, f"runner.processes={processes}", *overrides, status=status
        )

    def result(self, runs: str) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
        """What was logged, and the weights."""
        (run,) = (self.folder / runs / "tubes").glob("RUN_*")
        with open(run / "learning_stats.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        return rows, read_snapshot(run / "snapshot-latest.pt")["net"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def two(site: Site) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
    """An undisturbed training in two processes."""
    site.train("two", 2)
    return site.result("two")


@pytest.fixture(scope="module")
def one(site: Site) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
    site.train("one", 1)
    return site.result("one")


def assert_alike(
    rows: list[dict[str, str]], weights: dict[str, torch.Tensor], expected: tuple[list, dict]
) -> None:
    """Equal but for the order of sums; all counts of objects are equal."""
    assert len(rows) == len(expected[0]) == 3
    for row, other in zip(rows, expected[0]):
        assert row.keys() == other.keys()
        for name in row:
            tolerance = 1e-4 if "loss" in name else 0
            assert float(row[name]) == pytest.approx(float(other[name]), rel=tolerance, abs=0), name
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[1][name], rtol=1e-3, atol=1e-5)


def test_two_processes_learn_what_one_does(one, two) -> None:
    assert_alike(*two, one)


def test_three_processes_learn_what_one_does(site: Site, one) -> None:
    site.train("three", 3)
    assert_alike(*site.result("three"), one)


def test_a_run_goes_on_to_the_last_bit(site: Site, two) -> None:
    """With and without processes that load."""
    site.train("halves", 2, "train_settings.epochs=1", "train_settings.dataloader_workers=1")
    site.run("resume", "halves/tubes", "train_settings.epochs=3")
    rows, weights = site.result("halves")
    assert rows == two[0]
    assert all(torch.equal(weights[name], value) for name, value in two[1].items())


def test_a_process_that_dies_ends_the_others_and_is_named(site: Site) -> None:
    fails = f"data.augment=[Flip, {{type: Fails, how: kill, marker: {site.folder / 'killed.once'}}}]"
    began = time.monotonic()
    told = site.train("killed", 2, "--plugin", "fails.py", fails, status=2)
    assert "skoots: Process 1 of 2 died without a word" in told and "Traceback" not in told
    assert time.monotonic() - began < 120  # a minute, and the start of three processes beside other tests


def test_after_a_death_training_goes_on_from_the_latest_snapshot(site: Site) -> None:
    marker = site.folder / "restarted.once"
    fails = f"data.augment=[Flip, {{type: Fails, how: kill, marker: {marker}}}]"
    told = site.train("restarted", 2, "--plugin", "fails.py", fails, "runner.max_restarts=1")
    assert "Going on from" in told and "after epoch 2 of 3" in told and marker.exists()
    site.train("undisturbed", 2, "--plugin", "fails.py", fails)
    (rows, weights), (expected, others) = site.result("restarted"), site.result("undisturbed")
    assert rows == expected and all(torch.equal(weights[name], value) for name, value in others.items())


def test_without_shared_memory_a_sentence_says_so(site: Site) -> None:
    mounted = "mount -t tmpfs -o size=8k tmpfs /dev/shm"
    tried = ["unshare", "-m", "bash", "-c", mounted]
    if not shutil.which("unshare") or subprocess.run(tried, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    words = f"{sys.executable} -m skoots train tubes.yaml runner.processes=2 --runs small"
    told = subprocess.run(
        ["unshare", "-m", "bash", "-c", f"{mounted} && exec {words}"],
        cwd=site.folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert told.returncode == 2 and "Traceback" not in told.stderr, told.stderr
    assert "skoots: The processes could not be started: " in told.stderr and "--shm-size=1g" in told.stderr


def test_the_error_of_one_process_is_the_one_that_is_shown(site: Site) -> None:
    fails = f"data.augment=[Flip, {{type: Fails, how: raise, marker: {site.folder / 'raised.once'}}}]"
    told = site.train("raised", 2, "--plugin", "fails.py", fails, status=2)
    assert "skoots: The scanner is on fire. Put it out." in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("number", "workers", "to_all"), [(signal.SIGTERM, 0, False), (signal.SIGHUP, 1, True)]
)
def test_a_signal_ends_all_after_the_step(
    site: Site, number: signal.Signals, workers: int, to_all: bool
) -> None:
    """Sent to the process that started them, or to the group with all of them and what loads for them."""
    runs, loading = f"stopped-{workers}", f"train_settings.dataloader_workers={workers}"
    words = ["train", "tubes.yaml", "--runs", runs, "runner.processes=2", "train_settings.epochs=100000"]
    process = site.start(*words, loading)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    (os.killpg if to_all else os.kill)(process.pid, number)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number and f"stopped by {number.name}" in told, told
    assert not left_of(process)
    rows, _ = site.result(runs)
    done = re.search(r"after (\d+) epochs", told)
    assert done is not None and len(rows) == int(done[1]) >= 2


def test_torchrun_starts_the_same_training(site: Site, two) -> None:
    told = site.torchrun("train", "tubes.yaml", "--runs", "torchrun")
    assert told.count("Trained 3 epochs") == 1
    rows, weights = site.result("torchrun")
    assert rows == two[0] and all(torch.equal(weights[name], value) for name, value in two[1].items())


def test_a_network_that_is_shared_out_learns_the_same_and_goes_on(site: Site, two) -> None:
    shared = ("runner.fsdp=true", "runner.ema=null")
    site.train("shared", 2, "train_settings.epochs=2", *shared)
    site.run("resume", "shared/tubes", "train_settings.epochs=3")
    rows, weights = site.result("shared")
    for row, other in zip(rows, two[0]):
        assert float(row["train.loss"]) == pytest.approx(float(other["train.loss"]), rel=1e-4)
    for name, value in weights.items():
        torch.testing.assert_close(value, two[1][name], rtol=1e-3, atol=1e-5)


def test_a_volume_is_shared_out_too_and_stops_within_an_update(site: Site) -> None:
    """In 3D, whose weights lie otherwise in memory, and with a save in the middle of the batches that make
    one update."""
    volume = "{type: Synthetic, shape: [12, 24, 24], samples_per_volume: 8, radius: [2.0, 3.0]}"
    changes = [f"data.train=[{volume}]", "data.validation=[]", "data.crop_size=[8, 12, 12]"]
    changes += [
        "runner.key_metric=test.loss",
        "runner.fsdp=true",
        "runner.ema=null",
        "train_settings.batch_size=2",
    ]
    changes += ["runner.batch_accumulate=2", "runner.snapshots.save_minutes=0.00001"]
    site.train("volume", 2, *changes, "train_settings.epochs=1")
    site.run("resume", "volume/tubes", "train_settings.epochs=2")
    site.train("volume-1", 1, *changes, "runner.fsdp=false", "train_settings.epochs=2")
    rows, expected = site.result("volume")[0], site.result("volume-1")[0]
    for row, other in zip(rows, expected):  # with batch norms, which see their part of a batch
        assert float(row["train.loss"]) == pytest.approx(float(other["train.loss"]), rel=0.1)


def test_torchrun_goes_on_with_a_run(site: Site, two) -> None:
    site.train("branch", 2, "train_settings.epochs=2")
    site.torchrun("resume", "branch/tubes", "train_settings.epochs=3")
    assert site.result("branch")[0] == two[0]


LEAVES = """
import atexit, sys
from skoots.training.distributed import leave

class Late:
    def __del__(self):
        print("torn down")

late = Late()
atexit.register(print, "the last word")
print("done", end=" ")
leave(3)
"""


def test_a_process_leaves_before_its_interpreter_is_taken_down() -> None:
    """Threads of Gloo may need it still, and abort the process where it is gone."""
    left = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True, timeout=120)
    assert (left.returncode, left.stdout, left.stderr) == (3, "done the last word\n", "")


@pytest.mark.parametrize(("world", "left"), [("2", [0]), ("1", [])])
def test_the_command_leaves_so_where_torchrun_started_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: str, left: list[int]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "some")
    monkeypatch.setenv("WORLD_SIZE", world)
    seen: list[int] = []
    monkeypatch.setattr("skoots.training.distributed.leave", seen.append)
    assert main(["list"]) == 0 and seen == left
