"""Real trainings that are killed, stopped by signals, or run out of disk, and then gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import typer.core
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from zygote import Zygote

from skoots.cli.main import main, signals_like_ctrl_c
from skoots.config.yaml12 import dump
from skoots.errors import ECHO, Terminated
from skoots.snapshots import read_newest, read_snapshot
from skoots.synthetic import make_volume

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
KILLS = 50
WITHOUT_AVERAGE = ("runner.snapshots.average_best_models=0", "runner.ema=false")
SOURCE = {"type": "Synthetic", "shape": [32, 32], "samples_per_volume": 6, "radius": [2.0, 3.0]}
CONFIG: dict[str, Any] = {
    "data": {"train": [SOURCE, {**SOURCE, "seed": 3}], "crop_size": [16, 16]},
    "device": "cpu",
    "model": {"backbone": {"type": "UNet", "channels": [4, 8], "dropout": 0.3}},
    "runner": {
        "eval_interval": 2,
        "key_metric": "test.loss",
        "batch_accumulate": 2,
        "ema": {"decay": 0.9},
        "optimizer": {"type": "AdamW", "lr": 3e-3},
        "scheduler": {"type": "CosineAnnealingWarmRestarts", "T_0": 7},
        "snapshots": {"save_epochs": 3, "save_steps": 1, "average_best_models": 3},
    },
    "train_settings": {"epochs": 20, "batch_size": 2},
    "inference": {"tune": 0},
}


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    folder = tmp_path_factory.mktemp("trainings")
    config = {**CONFIG, "data": {**CONFIG["data"], "validation": [{**SOURCE, "seed": 9}]}}
    (folder / "tiny.yaml").write_text(dump(config))
    zygote = Zygote(folder)
    yield zygote
    zygote.close()


@pytest.fixture(autouse=True)
def no_log(zygote: Zygote) -> None:
    zygote.log.unlink(missing_ok=True)


def only_run(zygote: Zygote, experiment: str) -> Path:
    (run,) = (zygote.log.parent / "runs" / experiment).iterdir()
    return run


def command(experiment: str, *overrides: str) -> list[str]:
    return ["train", "tiny.yaml", f"metadata.experiment={experiment}", *overrides]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b or (a != a and b != b))


@pytest.fixture(scope="module")
def whole(zygote: Zygote) -> Path:
    """The run folder of a training that nothing disturbed."""
    assert zygote.run(*command("whole")) == 0, zygote.log.read_text()
    return only_run(zygote, "whole")


def assert_as_whole(run: Path, whole: Path) -> None:
    """Weights, optimizer, schedule, EMA, average, losses: the same to the last bit."""
    for name in ("snapshot-latest.pt", "snapshot-average.pt"):
        a, b = read_snapshot(run / name), read_snapshot(whole / name)
        for key in ("cfg", "provenance"):
            a.pop(key), b.pop(key)
        assert equal(a, b)
    assert (run / "learning_stats.csv").read_bytes() == (whole / "learning_stats.csv").read_bytes()
    assert {path.name for path in run.glob("*.pt")} == {path.name for path in whole.glob("*.pt")}


def wait_for_snapshot(runs: Path, seconds: float = 30.0) -> None:
    """A busy machine needs longer to its first snapshot than any kill would wait."""
    end = time.monotonic() + seconds
    while not any(runs.glob("*/snapshot-latest.pt")) and time.monotonic() < end:
        time.sleep(0.01)


def test_killed_fifty_times_and_resumed_each_time(zygote: Zygote, whole: Path) -> None:
    """At random instants, mostly while it trains and saves after every step, sometimes while it begins: each
    resume goes on where the last kill was, and at the end everything is as if nothing had happened. A
    training that gets there is followed by another."""
    clock = random.Random(7)
    kills, finished, steps = 0, 0, []
    while kills < KILLS or not finished:
        runs = zygote.log.parent / "runs" / f"killed-{finished}"
        began = any(runs.glob("*/snapshot-latest.pt"))
        if not began:
            shutil.rmtree(runs, ignore_errors=True)  # killed before there was anything to go on from
        zygote.log.unlink(missing_ok=True)
        child = zygote.start(["resume", str(runs)] if began else command(runs.name))
        if kills < KILLS:
            if clock.random() < 0.8:
                begun = ("Going on from", "The run is complete") if began else ("vector scale auto",)
                zygote.wait_for(*begun)
                wait_for_snapshot(runs)
            time.sleep(clock.uniform(0.0, 0.35))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = zygote.status()
        assert status in (-signal.SIGKILL, 0), zygote.log.read_text()
        assert not zygote.log.exists() or "is damaged" not in zygote.log.read_text()
        kills += status != 0
        if any(runs.glob("*/snapshot-latest.pt")):
            steps.append((finished, read_newest(only_run(zygote, runs.name))[0]["step"]))
        if status == 0:
            assert_as_whole(only_run(zygote, runs.name), whole)
            finished += 1
    assert steps == sorted(steps) and len(set(steps)) > 2


def to_process(child: int, number: int) -> None:
    os.kill(child, number)


def to_group(child: int, number: int) -> None:
    """As a terminal and a queue do it."""
    os.killpg(child, number)


def like_timeout(child: int, number: int) -> None:
    """To both, at once."""
    os.kill(child, number)
    time.sleep(0.01)
    os.killpg(child, number)


@pytest.mark.parametrize(
    ("number", "send", "workers"),
    [
        (signal.SIGTERM, to_process, 0),
        (signal.SIGTERM, to_group, 1),
        (signal.SIGTERM, like_timeout, 3),
        (signal.SIGINT, to_process, 3),
        (signal.SIGINT, to_group, 0),
        (signal.SIGHUP, to_process, 1),
        (signal.SIGHUP, to_group, 3),
        (signal.SIGUSR1, to_process, 0),
    ],
)
def test_a_signal_saves_and_ends_within_a_step(
    number: signal.Signals, send: Callable[[int, int], None], workers: int, zygote: Zygote, whole: Path
) -> None:
    experiment = f"stopped-{number.name}-{send.__name__}-{workers}"
    child = zygote.start(command(experiment, f"train_settings.dataloader_workers={workers}"))
    zygote.wait_for("epoch 4/20")
    send(child, number)
    began = time.monotonic()
    assert zygote.status() == 128 + number
    assert time.monotonic() - began < 10
    assert_no_process_is_left(zygote)
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    told = zygote.log.read_text()
    assert f"stopped by {name} after" in told and "skoots resume" in told and "Traceback" not in told
    run = only_run(zygote, experiment)
    state, _ = read_newest(run)
    assert state["step"] >= 3 * 4 and not list(run.glob(".*.tmp"))
    if send is to_process:
        assert zygote.run("resume", str(run)) == 0, zygote.log.read_text()
        assert_as_whole(run, whole)


def test_under_nohup_a_training_goes_on(zygote: Zygote, whole: Path) -> None:
    workers = "train_settings.dataloader_workers=1"
    child = zygote.start(command("nohup", workers), ignored=signal.SIGHUP)
    zygote.wait_for("epoch 2/20")
    to_group(child, signal.SIGHUP)
    assert zygote.status() == 0, zygote.log.read_text()
    assert_no_process_is_left(zygote)
    assert_as_whole(only_run(zygote, "nohup"), whole)


@pytest.mark.parametrize(("workers", "sources"), [(1, 1), (3, 3)])
def test_a_training_with_workers_ends_by_itself(workers: int, sources: int, zygote: Zygote) -> None:
    """With pictures, a warm-up, averages and validation, each of which asks for batches of its own."""
    some = [{**SOURCE, "seed": seed} for seed in range(sources)]
    options = ["runner.image_log_interval=1", "runner.warmup_steps=2", "runner.swa.swa_start=2"]
    options += ["runner.ema=null", "train_settings.epochs=3", f"data.train={json.dumps(some)}"]
    loading = f"train_settings.dataloader_workers={workers}"
    assert zygote.run(*command(f"ends-{workers}", loading, *options)) == 0, zygote.log.read_text()
    assert_no_process_is_left(zygote)
    run = only_run(zygote, f"ends-{workers}")
    assert zygote.run("resume", str(run), "train_settings.epochs=4") == 0, zygote.log.read_text()
    assert zygote.run("evaluate", "--snapshot", str(run)) == 0, zygote.log.read_text()
    assert_no_process_is_left(zygote)


BAD_LOSS = """
from skoots.models.criteria.base import CRITERIA
from skoots.models.criteria.tversky import Tversky

@CRITERIA.register
class Bad(Tversky):
    steps = 0

    def forward(self, *args, **kwargs):
        Bad.steps += 1
        if Bad.steps > 2:
            raise RuntimeError("a mistake in my own loss")
        return super().forward(*args, **kwargs)
"""
SLOW_LOSS = """
import time
from skoots.models.criteria.base import CRITERIA
from skoots.models.criteria.tversky import Tversky

@CRITERIA.register
class Slow(Tversky):
    def forward(self, *args, **kwargs):
        print("in the step", flush=True)
        time.sleep(1000)
"""
SLOW_VALIDATION = """
import time
import torch
from skoots.models.criteria.base import CRITERIA
from skoots.models.criteria.tversky import Tversky

@CRITERIA.register
class SlowLater(Tversky):
    def forward(self, *args, **kwargs):
        if torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        print("in the window", flush=True)
        time.sleep(1000)
"""
SLOW_AUGMENTATION = """
import time
from skoots.data.augment import AUGMENTATIONS, Augmentation

@AUGMENTATIONS.register
class Sleepy(Augmentation):
    def __call__(self, window, rng):
        print("on the disk", flush=True)
        time.sleep(1000)
"""
BAD_AUGMENTATION = """
from skoots.data.augment import AUGMENTATIONS, Augmentation
from skoots.errors import VolumeError

@AUGMENTATIONS.register
class Worn(Augmentation):
    def __call__(self, window, rng):
        raise VolumeError("The scanner is on fire. Put it out.")
"""


def test_an_error_of_the_training_ends_its_workers(zygote: Zygote) -> None:
    (zygote.log.parent / "bad.py").write_text(BAD_LOSS)
    head = "model.heads.semantic={type: SemanticHead, criterion: {type: Bad}}"
    words = command("mistake", head, "--plugin", "bad.py", "train_settings.dataloader_workers=3")
    assert zygote.run(*words) == 1
    assert "RuntimeError: a mistake in my own loss" in zygote.log.read_text()
    assert_no_process_is_left(zygote)


def test_an_error_in_a_worker_is_the_sentence_that_is_shown(zygote: Zygote) -> None:
    (zygote.log.parent / "worn.py").write_text(BAD_AUGMENTATION)
    words = command(
        "worn", "data.augment=[Worn]", "--plugin", "worn.py", "train_settings.dataloader_workers=1"
    )
    assert zygote.run(*words) == 2
    told = zygote.log.read_text()
    assert told.endswith("skoots: The scanner is on fire. Put it out.\n") and "Traceback" not in told
    assert_no_process_is_left(zygote)


def test_a_worker_that_is_killed_ends_the_training_with_a_sentence(zygote: Zygote) -> None:
    child = zygote.start(
        command("lost", "train_settings.epochs=100000", "train_settings.dataloader_workers=3")
    )
    zygote.wait_for("epoch 2/")
    worker = max(_processes_in(str(zygote.log.parent)) - {zygote.number, child})
    os.kill(worker, signal.SIGKILL)
    assert zygote.status() == 2
    told = zygote.log.read_text()
    assert "skoots: A process that loads crops was killed by SIGKILL." in told and "Traceback" not in told
    assert_no_process_is_left(zygote)
    read_newest(only_run(zygote, "lost"))


def test_workers_of_a_training_that_is_killed_end(zygote: Zygote) -> None:
    child = zygote.start(
        command("gone", "train_settings.epochs=100000", "train_settings.dataloader_workers=3")
    )
    zygote.wait_for("epoch 2/")
    os.kill(child, signal.SIGKILL)
    assert zygote.status() == -signal.SIGKILL
    assert_no_process_is_left(zygote)


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGTERM, like_timeout), (signal.SIGHUP, to_process), (signal.SIGINT, to_group)],
)
def test_a_signal_ends_a_segmentation_and_leaves_nothing(
    number: signal.Signals, send: Callable[[int, int], None], zygote: Zygote, whole: Path
) -> None:
    folder = zygote.log.parent
    output = folder / f"out-{number.name}"
    output.mkdir()
    image = np.tile(make_volume((64, 64), seed=3, radius=(2.0, 3.0))[0], (10, 10)).astype(np.float32)
    tifffile.imwrite(folder / "image.tif", image)
    words = [
        "segment",
        "image.tif",
        "-s",
        str(whole),
        "-o",
        f"{output}/labels.tif",
        "--maps",
        "--tile",
        "16,16",
    ]
    child = zygote.start([*words, "-q"])
    while len(list(output.glob(".*partial"))) < 4:  # the labels and three maps
        time.sleep(0.01)
    time.sleep(0.1)
    send(child, number)
    began = time.monotonic()
    assert zygote.status() == 128 + number, zygote.log.read_text()
    assert time.monotonic() - began < 10
    assert not list(output.iterdir()) and "Traceback" not in zygote.log.read_text()


def test_a_signal_ends_a_folder_of_trainings(zygote: Zygote) -> None:
    folder = zygote.log.parent / "both"
    folder.mkdir()
    for name in ("first", "second"):
        shutil.copy(zygote.log.parent / "tiny.yaml", folder / f"{name}.yaml")
    words = ["train", "both", "train_settings.epochs=100000", "train_settings.dataloader_workers=1"]
    child = zygote.start(words)
    zygote.wait_for("epoch 2/")
    to_group(child, signal.SIGHUP)
    assert zygote.status() == 129, zygote.log.read_text()
    assert_no_process_is_left(zygote)
    assert "Config 1 of 2" in zygote.log.read_text() and "Config 2 of 2" not in zygote.log.read_text()


def assert_no_process_is_left(zygote: Zygote) -> None:
    """The zygote alone; workers of a training that was killed notice it at once."""
    end = time.monotonic() + 5
    while left := _processes_in(str(zygote.log.parent)) - {zygote.number}:
        assert time.monotonic() < end, left
        time.sleep(0.1)


def _processes_in(folder: str) -> set[int]:
    found = set()
    for process in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"TRAININGS={folder}\0".encode() in process.read_bytes():
                found.add(int(process.parent.name))
    return found


def test_a_signal_while_the_last_snapshot_is_written(zygote: Zygote) -> None:
    """The disk is slow: the signal comes between the last epoch and the end of its save, and nothing is
    scored."""
    child = zygote.start(command("late", "train_settings.epochs=2", *WITHOUT_AVERAGE), slow_disk=0.15)
    zygote.wait_for("epoch 2/2")
    os.kill(child, signal.SIGTERM)
    assert zygote.status() == 143, zygote.log.read_text()
    assert read_newest(only_run(zygote, "late"))[0]["epoch"] == 2
    assert "On the validation data" not in zygote.log.read_text()


def test_a_signal_in_validation(zygote: Zygote) -> None:
    """Within a window, not after all of them."""
    many = "data.validation=[{type: Synthetic, shape: [48, 48], volumes: 150, seed: 9}]"
    child = zygote.start(command("validating", many, "runner.eval_interval=1", *WITHOUT_AVERAGE))
    run = zygote.log.parent / "runs" / "validating"
    while not any(run.glob("*/snapshot-latest.pt")):
        time.sleep(0.01)
    while read_newest(only_run(zygote, "validating"))[0]["step"] < 3:
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    began = time.monotonic()
    assert zygote.status() == 143, zygote.log.read_text()
    assert time.monotonic() - began < 10
    state, _ = read_newest(only_run(zygote, "validating"))
    assert (state["epoch"], state["sampler"]["batches"]) == (0, 6)


def test_a_signal_in_a_window_that_takes_for_ever(zygote: Zygote) -> None:
    (zygote.log.parent / "later.py").write_text(SLOW_VALIDATION)
    head = "model.heads.semantic={type: SemanticHead, criterion: {type: SlowLater}}"
    workers = "train_settings.dataloader_workers=1"
    child = zygote.start(command("window", head, "--plugin", "later.py", workers))
    zygote.wait_for("in the window")
    os.kill(child, signal.SIGHUP)
    began = time.monotonic()
    assert zygote.status() == 129, zygote.log.read_text()
    assert time.monotonic() - began < 10
    assert_no_process_is_left(zygote)
    state, _ = read_newest(only_run(zygote, "window"))
    assert (state["epoch"], state["sampler"]["batches"]) == (1, 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_while_a_batch_is_awaited(zygote: Zygote, workers: int) -> None:
    """On a disk that does not answer."""
    (zygote.log.parent / "sleepy.py").write_text(SLOW_AUGMENTATION)
    loading = f"train_settings.dataloader_workers={workers}"
    words = command(f"awaited-{workers}", "data.augment=[Sleepy]", "--plugin", "sleepy.py", loading)
    child = zygote.start(words)
    zygote.wait_for("on the disk")
    to_group(child, signal.SIGTERM)
    began = time.monotonic()
    assert zygote.status() == 143, zygote.log.read_text()
    assert time.monotonic() - began < 10
    assert_no_process_is_left(zygote)
    read_newest(only_run(zygote, f"awaited-{workers}"))


def test_a_second_signal_ends_at_once(zygote: Zygote) -> None:
    """In a step that takes for ever."""
    (zygote.log.parent / "slow.py").write_text(SLOW_LOSS)
    head = "model.heads.semantic={type: SemanticHead, criterion: {type: Slow}}"
    child = zygote.start(command("twice", head, "--plugin", "slow.py", "train_settings.dataloader_workers=1"))
    zygote.wait_for("in the step")
    os.kill(child, signal.SIGTERM)
    time.sleep(ECHO + 0.2)
    os.kill(child, signal.SIGTERM)
    began = time.monotonic()
    assert zygote.status() == 143
    assert time.monotonic() - began < 2
    assert "stopped by" not in zygote.log.read_text()
    assert_no_process_is_left(zygote)


def test_a_signal_where_python_cannot_raise_is_not_lost() -> None:
    """As in the callback of a weak reference, which drops whatever is raised in it."""
    target = type("Target", (), {})()
    watch = weakref.ref(target, lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Terminated), signals_like_ctrl_c():
        del target
        assert watch() is None
        time.sleep(5)


def test_a_stop_that_a_library_made_another_error_is_a_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the import of a module in C does."""

    def imports(*arguments: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    monkeypatch.setattr(typer.core.TyperGroup, "invoke", imports)
    assert main(["list"]) == 143
    assert capsys.readouterr().err == "skoots: stopped by SIGTERM.\n"


def test_sigterm_while_the_result_is_scored(zygote: Zygote) -> None:
    """The training is over and saved; what is left is told by the status."""
    held_out = "data.test=[{type: Synthetic, shape: [1500, 1500], seed: 11}]"
    child = zygote.start(command("scored", held_out, "train_settings.epochs=2"))
    zygote.wait_for("The average of epochs")
    time.sleep(0.3)
    os.kill(child, signal.SIGTERM)
    assert zygote.status() == 143, zygote.log.read_text()
    assert read_newest(only_run(zygote, "scored"))[0]["epoch"] == 2


def test_a_training_without_room_for_its_snapshots_goes_on_and_says_so(zygote: Zygote) -> None:
    """Files may grow to 20 KB, which is enough for the log and the statistics, not for a snapshot."""
    status = zygote.run(*command("full", "train_settings.epochs=3"), largest_file=20_000)
    text = zygote.log.read_text()
    assert status == 3, text
    assert "Trained 3 epochs" in text and "Nothing is scored" in text
    assert text.count("could not be written: ") >= 3 and "snapshots could not be written; " in text
    run = only_run(zygote, "full")
    assert not list(run.glob("*.pt")) and not list(run.glob(".*.tmp"))
    assert len((run / "learning_stats.csv").read_text().splitlines()) == 4


def test_training_on_a_disk_that_is_full(zygote: Zygote, tmp_path: Path) -> None:
    """A real one: also the log and the pictures lie on it. One clear error for each snapshot, no traceback,
    the last snapshot untouched, and the exit status tells."""
    if not shutil.which("mount") or os.system(f"mount -t tmpfs -o size=1m tmpfs {tmp_path} 2>/dev/null"):
        pytest.skip("file systems cannot be mounted here")
    try:
        runs = ("--runs", str(tmp_path))
        assert zygote.run(*command("full", "train_settings.epochs=2", *WITHOUT_AVERAGE), *runs) == 0
        run = next(tmp_path.glob("full/RUN_*"))
        before = (run / "snapshot-latest.pt").read_bytes()
        with contextlib.suppress(OSError), open(tmp_path / "rest", "wb", buffering=0) as rest:
            while rest.write(b"x" * 1024):
                pass
        zygote.log.unlink()
        assert zygote.run("resume", str(run), "train_settings.epochs=5") == 3, zygote.log.read_text()
        text = zygote.log.read_text()
        assert "Traceback" not in text and "Logging error" not in text
        assert text.count("No space left") + text.count("could not be written: ") >= 3
        assert "snapshots could not be written; " in text
        assert (run / "snapshot-latest.pt").read_bytes() == before
        assert (run / "pytorch_config.yaml").read_text() and not list(run.glob(".*.tmp"))
        (tmp_path / "rest").unlink()
        assert zygote.run("resume", str(run), "train_settings.epochs=3") == 0, zygote.log.read_text()
    finally:
        os.system(f"umount {tmp_path}")


def test_two_trainings_do_not_share_a_run(zygote: Zygote, capsys: pytest.CaptureFixture[str]) -> None:
    child = zygote.start(command("shared", "train_settings.epochs=100000"))
    zygote.wait_for("epoch 2/")
    run = only_run(zygote, "shared")
    try:
        assert main(["resume", str(run)]) == 2
        assert f"Another process is training in {run}" in capsys.readouterr().err
    finally:
        os.kill(child, signal.SIGKILL)
        zygote.status()
    epochs = read_newest(run)[0]["epoch"] + 1  # it trained on in the meantime
    assert zygote.run("resume", str(run), f"train_settings.epochs={epochs}") == 0  # the system has freed it
