"""Snapshots on disk: what they hold, what damages them, how they rotate and how they are found."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.errors import ConfigError, SkootsError, SnapshotError
from skoots.snapshots import (
    FORMAT,
    SnapshotManager,
    epochs_by_name,
    find_run,
    find_snapshot,
    names_of_epoch,
    names_to_remove,
    new_run_folder,
    newest_first,
    plain,
    read_newest,
    read_snapshot,
    run_folder,
    write_snapshot,
)


def state(epoch: int = 1, **more: Any) -> dict[str, Any]:
    weights = torch.arange(200, dtype=torch.float32) * epoch
    return {
        "net": {"weight": weights},
        "epoch": epoch,
        "optimizer_state_dict": {"state": {0: weights + 1}},
        **more,
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.unlink()  # not through a hard link
    path.write_bytes(content)


# What is stored ---------------------------------------------------------------------------------------------


def test_a_snapshot_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = state(7, acc=0.5, rng={"python": (3, (1, 2, 2**70), None)}, cfg={"a": [1, "x", True]})
    read = read_snapshot(write_snapshot(written, tmp_path / "s.pt"))
    assert torch.equal(read["net"].pop("weight"), written["net"]["weight"])
    assert torch.equal(read.pop("optimizer_state_dict")["state"][0], written["net"]["weight"] + 1)
    assert read == {
        "format": FORMAT,
        "net": {},
        "epoch": 7,
        "acc": 0.5,
        "rng": written["rng"],
        "cfg": written["cfg"],
    }
    assert names(tmp_path) == ["s.pt"]


def test_torch_alone_reads_it(tmp_path: Path) -> None:
    path = write_snapshot(state(3), tmp_path / "s.pt")
    assert torch.load(path, weights_only=True)["epoch"] == 3
    assert torch.load(path, weights_only=True, mmap=True)["net"]["weight"][2] == 6


def test_only_tensors_and_plain_values_are_stored() -> None:
    view = torch.zeros(1000)[:3]
    parameter = torch.nn.Parameter(torch.ones(2))
    values = {"number": np.float64(0.5), "array": np.arange(3), "path": Path("a/b"), "signal": signal.SIGTERM}
    containers = {"ordered": OrderedDict(a=1), "count": Counter([2, 2])}
    tensors = {"view": view, "parameter": parameter, "device": torch.device("cpu")}
    kept = plain({**values, **containers, **tensors})
    assert kept["view"].untyped_storage().nbytes() == 12
    assert type(kept["parameter"]) is torch.Tensor and not kept["parameter"].requires_grad
    assert type(kept["number"]) is float and type(kept["ordered"]) is dict and type(kept["signal"]) is int
    assert torch.equal(kept["array"], torch.arange(3))
    assert (kept["path"], kept["device"], kept["count"]) == (str(Path("a/b")), "cpu", Counter({2: 2}))


def test_anything_else_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        SnapshotError, match=r"state\['history'\]\[1\] is a collections\.deque, which a snapshot cannot"
    ):
        write_snapshot(state(history=[1, deque()]), tmp_path / "s.pt")
    assert names(tmp_path) == []


# Damage -----------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    path = write_snapshot(state(), tmp_path / "s.pt")
    size = path.stat().st_size
    positions = {*range(0, size, 13), *range(size - 150, size)}  # records, pickle, directory, checksum
    for position in positions:
        flip(path, position)
        with pytest.raises(SnapshotError):
            read_snapshot(path)
        flip(path, position)
    assert read_snapshot(path)["epoch"] == 1


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
def test_truncation_is_detected(tmp_path: Path, share: float) -> None:
    path = write_snapshot(state(), tmp_path / "s.pt")
    content = path.read_bytes()
    path.write_bytes(content[: min(int(len(content) * share), len(content) - 1)])
    with pytest.raises(
        SnapshotError, match=r"s\.pt is damaged: (it is truncated|its bytes do not match).*\. Use an earlier"
    ):
        read_snapshot(path)


def test_files_that_are_no_snapshots_are_named(tmp_path: Path) -> None:
    empty, text, plain_torch = (tmp_path / name for name in ("empty.pt", "text.pt", "torch.pt"))
    empty.touch()
    text.write_text("not a snapshot")
    torch.save({"model": torch.ones(1)}, plain_torch)
    with pytest.raises(SnapshotError, match=r"empty\.pt is damaged: the file is empty"):
        read_snapshot(empty)
    for path in (text, plain_torch):
        with pytest.raises(SnapshotError, match=rf"{path.name} is no skoots snapshot\. Give a snapshot-"):
            read_snapshot(path)
    with pytest.raises(SnapshotError, match=r"gone\.pt does not exist"):
        read_snapshot(tmp_path / "gone.pt")
    with pytest.raises(SnapshotError, match="is a folder"):
        read_snapshot(tmp_path)


def test_a_snapshot_saved_again_by_hand_is_read_and_its_records_are_checked(tmp_path: Path) -> None:
    path = write_snapshot(state(4), tmp_path / "s.pt")
    torch.save({**torch.load(path, weights_only=True), "epoch": 5}, path)
    assert read_snapshot(path)["epoch"] == 5
    position = path.read_bytes().find(torch.arange(200, dtype=torch.float32).mul(4).numpy().tobytes()) + 40
    flip(path, position)
    with pytest.raises(SnapshotError, match=r"its record .* does not match its checksum"):
        read_snapshot(path)


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = write_snapshot({**state(), "format": FORMAT + 1}, tmp_path / "s.pt")
    with pytest.raises(
        SnapshotError, match=rf"newer skoots \(format {FORMAT + 1}; .*up to {FORMAT}\)\. Upgrade skoots"
    ):
        read_snapshot(path)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    torch.save({"format": 1, "net": {}, "bomb": Bomb(target)}, tmp_path / "bomb.pt")
    with pytest.raises(SnapshotError, match="was refused, because loading it could run code"):
        read_snapshot(tmp_path / "bomb.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(SnapshotError, match="is no skoots snapshot"):
        read_snapshot(tmp_path / "bare.pt")
    assert not target.exists()


# Failing to write -------------------------------------------------------------------------------------------


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["os.fsync", "os.replace"])
def test_a_failed_save_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    manager = SnapshotManager(tmp_path, save_epochs=1)
    manager.save(state(1), 1, is_best=True)
    with monkeypatch.context() as patch:
        patch.setattr(call, full_disk)
        with pytest.raises(
            SnapshotError, match=r"snapshot-latest\.pt could not be written: No space left on device \("
        ):
            manager.save(state(2), 2, is_best=True)
    assert names(tmp_path) == ["snapshot-001.pt", "snapshot-best-001.pt", "snapshot-latest.pt"]
    assert read_newest(tmp_path)[0]["epoch"] == 1
    manager.save(state(2), 2, is_best=True)
    assert read_newest(tmp_path)[0]["epoch"] == 2


def test_a_file_size_limit_is_a_snapshot_error_and_no_half_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    manager = SnapshotManager(tmp_path, save_epochs=1)
    manager.save(state(1), 1, is_best=False)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(
            SnapshotError, match=r"latest\.pt could not be written: File too large: .* Make room or choose"
        ):
            manager.save({"net": {"w": torch.ones(100_000)}, "epoch": 2}, 2, is_best=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert read_newest(tmp_path)[0]["epoch"] == 1
    assert names(tmp_path) == ["snapshot-001.pt", "snapshot-latest.pt"]


def test_a_folder_that_is_gone_is_a_snapshot_error(tmp_path: Path) -> None:
    with pytest.raises(
        SnapshotError, match=r"snapshot-latest\.pt could not be written: No such file or directory"
    ):
        SnapshotManager(tmp_path / "gone").save(state(), 1, is_best=False)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_killed_at_any_instant_a_whole_snapshot_is_left(tmp_path: Path) -> None:
    code = """
import sys, torch
from skoots.snapshots import SnapshotManager
manager = SnapshotManager(sys.argv[1], save_epochs=2)
for epoch in range(1, 100_000):
    state = {"net": {"w": torch.full((20_000,), float(epoch))}, "epoch": epoch}
    manager.save(state, epoch, is_best=epoch % 3 == 0)
    print(epoch, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(random.Random(0).uniform(0.05, 0.2))
    child.kill()
    committed = [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    newest = read_snapshot(tmp_path / "snapshot-latest.pt")
    assert newest["epoch"] >= max(committed, default=1)
    assert newest["net"]["w"].unique().tolist() == [newest["epoch"]]
    for path in tmp_path.glob("snapshot-*.pt"):
        read_snapshot(path)
    SnapshotManager(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_killed_before_each_rename_of_a_save_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    manager = SnapshotManager(tmp_path, save_epochs=1, keep_best=2)
    manager.save(state(1), 1, is_best=True)
    replace = os.replace
    for survived in range(4):  # previous, regular, best, latest
        calls = iter(range(10))

        def stop(source: Path, target: Path, survived: int = survived, calls: Any = calls) -> None:
            if next(calls) == survived:
                raise Killed
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("os.replace", stop)
            with pytest.raises(Killed):
                manager.save(state(2), 2, is_best=True)
        assert read_newest(tmp_path)[0]["epoch"] == 1
        for path in tmp_path.glob("*.pt"):
            read_snapshot(path)


# Names and rotation -----------------------------------------------------------------------------------------


def test_names_of_an_epoch() -> None:
    assert names_of_epoch(10, is_best=True, is_due=True) == ["snapshot-010.pt", "snapshot-best-010.pt"]
    assert names_of_epoch(1234, is_best=True, is_due=False) == ["snapshot-best-1234.pt"]
    assert names_of_epoch(3, is_best=False, is_due=False) == []


def test_epochs_are_read_from_names_of_the_same_kind_only() -> None:
    found = [
        "snapshot-010.pt",
        "snapshot-best-020.pt",
        "snapshot-latest.pt",
        "snapshot-detector-030.pt",
        "x-010.pt",
    ]
    assert epochs_by_name(found) == {"snapshot-010.pt": 10}
    assert epochs_by_name(found, best=True) == {"snapshot-best-020.pt": 20}
    assert epochs_by_name(found, prefix="snapshot-detector") == {"snapshot-detector-030.pt": 30}
    assert newest_first(found) == ["snapshot-latest.pt", "snapshot-best-020.pt", "snapshot-010.pt"]


def regular(*epochs: int) -> list[str]:
    return [f"snapshot-{epoch:03d}.pt" for epoch in epochs]


def best(*epochs: int) -> list[str]:
    return [f"snapshot-best-{epoch:03d}.pt" for epoch in epochs]


@pytest.mark.parametrize(
    ("found", "epoch", "options", "removed"),
    [
        (regular(1, 2, 3), 3, {"max_snapshots": 2}, regular(1)),
        (regular(1, 2) + best(1), 2, {"max_snapshots": 2}, []),
        (regular(3) + best(1, 3), 3, {"max_snapshots": 1}, best(1)),
        (best(1, 2, 3), 3, {"max_snapshots": 1, "keep_best": 2}, best(1)),
        (regular(1, 2, 3), 3, {"max_snapshots": 1, "save_epoch_list": [1]}, regular(2)),
        (regular(5, 15, 20, 6), 6, {"max_snapshots": 2}, regular(15, 20)),  # 15 and 20 were abandoned
        (best(15, 12), 12, {"max_snapshots": 1}, best(15)),
        (["snapshot-latest.pt", "notes.txt", "snapshot-average.pt"], 9, {"max_snapshots": 1}, []),
    ],
)
def test_what_rotation_removes(
    found: list[str], epoch: int, options: dict[str, Any], removed: list[str]
) -> None:
    assert names_to_remove(found, epoch, **options) == removed


def test_rotation_never_removes_what_was_just_saved() -> None:
    draw = random.Random(1)
    for _ in range(500):
        epoch = draw.randint(1, 30)
        found = {*regular(*draw.sample(range(1, 60), 12)), *best(*draw.sample(range(1, 60), 5))}
        found |= {*regular(epoch), *best(epoch)}
        count = draw.randint(1, 6)
        removed = set(names_to_remove(found, epoch, count))
        assert not removed & {*regular(epoch), *best(epoch)}
        assert len(epochs_by_name(found - removed)) == min(count, len(epochs_by_name(found)))
        assert list(epochs_by_name(found - removed, best=True)) == best(epoch)


def test_a_run_leaves_latest_previous_best_and_the_newest_regular_ones(tmp_path: Path) -> None:
    manager = SnapshotManager(tmp_path, max_snapshots=2, save_epochs=3)
    for epoch in range(1, 12):
        manager.save(state(epoch), epoch, is_best=epoch in (2, 6), last=epoch == 11)
        assert read_snapshot(tmp_path / "snapshot-latest.pt")["epoch"] == epoch
        if epoch == 6:
            assert {"snapshot-006.pt", "snapshot-best-006.pt"} <= set(names(tmp_path))  # best and due is both
            assert "snapshot-best-002.pt" not in names(tmp_path)
    assert names(tmp_path) == [
        f"snapshot-{tag}.pt" for tag in ("009", "011", "best-006", "latest", "previous")
    ]
    assert read_snapshot(tmp_path / "snapshot-previous.pt")["epoch"] == 10


def test_the_bytes_of_an_epoch_are_written_once(tmp_path: Path) -> None:
    files = SnapshotManager(tmp_path, save_epochs=1).save(state(), 1, is_best=True)
    assert [path.name for path in files] == ["snapshot-latest.pt", "snapshot-001.pt", "snapshot-best-001.pt"]
    assert len({path.stat().st_ino for path in files}) == 1


def test_where_links_are_unknown_copies_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    files = SnapshotManager(tmp_path, save_epochs=1).save(state(), 1, is_best=True)
    assert len({path.stat().st_ino for path in files}) == 3
    assert [read_snapshot(path)["epoch"] for path in files] == [1, 1, 1]


def test_the_optimizer_can_be_left_to_the_latest(tmp_path: Path) -> None:
    latest, *others = SnapshotManager(tmp_path, save_epochs=1, save_optimizer_state=False).save(
        state(), 1, is_best=True
    )
    assert "optimizer_state_dict" in read_snapshot(latest)
    assert len(others) == 2
    for path in others:
        assert set(read_snapshot(path)) == {"format", "net", "epoch"}


def test_listed_epochs_stay(tmp_path: Path) -> None:
    manager = SnapshotManager(tmp_path, max_snapshots=1, save_epochs=2, save_epoch_list=[1, 3])
    for epoch in range(1, 7):
        manager.save(state(epoch), epoch, is_best=False)
    assert list(epochs_by_name(names(tmp_path)).values()) == [1, 3, 6]


def test_numbers_out_of_range_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        SnapshotManager("run", max_snapshots=0, save_epochs=-1)
    assert [fault.path for fault in caught.value.faults] == [
        "runner.snapshots.max_snapshots",
        "runner.snapshots.save_epochs",
    ]


# Falling back and finding -----------------------------------------------------------------------------------


def test_a_damaged_latest_falls_back_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager = SnapshotManager(tmp_path, save_epochs=2)
    for epoch in range(1, 4):
        manager.save(state(epoch), epoch, is_best=False)
    flip(tmp_path / "snapshot-latest.pt", 300)
    with caplog.at_level(logging.WARNING, logger="skoots"):
        newest, path = read_newest(tmp_path)
    assert (newest["epoch"], path.name) == (2, "snapshot-previous.pt")
    assert "snapshot-latest.pt is damaged" in caplog.text and "Going on from" in caplog.text

    flip(tmp_path / "snapshot-previous.pt", 300)
    assert read_newest(tmp_path)[1].name == "snapshot-002.pt"
    flip(tmp_path / "snapshot-002.pt", 300)
    with pytest.raises(SnapshotError) as caught:
        read_newest(tmp_path)
    assert [name in str(caught.value) for name in ("latest", "previous", "002")] == [True] * 3
    assert len(names(tmp_path)) == 3  # nothing is deleted


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    old, new, dead = (tmp_path / "runs" / "mito" / f"RUN_2025010{day}_000000_000000" for day in (1, 2, 3))
    for folder, files in [
        (old, ["010", "best-004", "latest"]),
        (new, ["latest", "010", "best-010", "1000"]),
        (dead, []),
    ]:
        folder.mkdir(parents=True)
        for file in files:
            (folder / f"snapshot-{file}.pt").touch()
    return tmp_path / "runs" / "mito"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("runs/mito", "RUN_20250102_000000_000000/snapshot-best-010.pt"),
        ("runs/mito:latest", "RUN_20250102_000000_000000/snapshot-latest.pt"),
        ("runs/mito:best", "RUN_20250102_000000_000000/snapshot-best-010.pt"),
        ("runs/mito:010", "RUN_20250102_000000_000000/snapshot-010.pt"),
        ("runs/mito:10", "RUN_20250102_000000_000000/snapshot-010.pt"),
        ("runs/mito/:1000", "RUN_20250102_000000_000000/snapshot-1000.pt"),
        ("runs/mito/RUN_20250101_000000_000000", "RUN_20250101_000000_000000/snapshot-best-004.pt"),
        ("runs/mito/RUN_20250101_000000_000000:004", "RUN_20250101_000000_000000/snapshot-best-004.pt"),
        (
            "runs/mito/RUN_20250101_000000_000000/snapshot-latest.pt",
            "RUN_20250101_000000_000000/snapshot-latest.pt",
        ),
    ],
)
def test_references(runs: Path, reference: str, expected: str) -> None:
    assert find_snapshot(reference).resolve() == runs / expected


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("runs/mito:average", "RUN_20250102_000000_000000 has the snapshots 010, 1000, best-010, latest."),
        ("runs/mito:077", "has the snapshots 010"),
        ("runs/mito:newest", "no snapshot runs/mito:newest."),
        ("runs/mitto:best", "runs/mitto does not exist. runs has the folders mito."),
        (
            "runs/mito/RUN_x",
            "runs/mito/RUN_x does not exist. runs/mito has the runs RUN_20250101_000000_000000, ",
        ),
        ("runs/mito/RUN_20250103_000000_000000", "has no snapshots and no runs."),
        ("nowhere/snapshot-010.pt", "nowhere/snapshot-010.pt does not exist."),
        ("", "There is no snapshot"),
    ],
)
def test_a_reference_to_nothing_says_what_exists(runs: Path, reference: str, message: str) -> None:
    with pytest.raises(SnapshotError) as caught:
        find_snapshot(reference)
    assert message in str(caught.value)


def test_the_newest_run_is_the_newest_with_a_snapshot(runs: Path) -> None:
    assert find_run(runs).name == "RUN_20250102_000000_000000"
    for reference in (runs / "RUN_20250101_000000_000000", f"{runs}:RUN_20250101_000000_000000"):
        assert find_run(reference).name == "RUN_20250101_000000_000000"
    with pytest.raises(SnapshotError, match=r"No run in .* has a snapshot\. .* has the folders mito"):
        find_run(runs.parent)
    with pytest.raises(SnapshotError, match=r"no run RUN_2 in .*mito\. .* has the runs RUN_20250101"):
        find_run(f"{runs}:RUN_2")
    with pytest.raises(SnapshotError, match=r"is a snapshot, no run\. Give the run's folder: .*RUN_20250102"):
        find_run(f"{runs}:latest")


# Run folders ------------------------------------------------------------------------------------------------


def test_two_runs_of_the_same_instant_get_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import datetime

    instants = iter([datetime(2025, 1, 2, 3, 4, 5, 6)] * 3 + [datetime(2025, 1, 2, 3, 4, 5, 7)])

    class Clock:
        @staticmethod
        def now() -> datetime:
            return next(instants)

    monkeypatch.setattr(run_folder, "datetime", Clock)
    folders = [new_run_folder(tmp_path / "runs", "mito") for _ in range(2)]
    assert [folder.relative_to(tmp_path).as_posix() for folder in folders] == [
        "runs/mito/RUN_20250102_030405_000006",
        "runs/mito/RUN_20250102_030405_000007",
    ]
    assert all(folder.is_dir() for folder in folders)


def test_a_run_folder_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(
        SkootsError, match=r"cannot be made in .*mito: a file is in its place\. Give another output"
    ):
        new_run_folder(tmp_path / "runs", "mito")

    def read_only(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(SkootsError, match="Permission denied"):
        new_run_folder(tmp_path, "mito")


@pytest.mark.parametrize("experiment", ["", "..", "a/b", "a:b"])
def test_an_experiment_has_a_plain_name(tmp_path: Path, experiment: str) -> None:
    with pytest.raises(SkootsError, match="must be a plain folder name"):
        new_run_folder(tmp_path, experiment)
