"""Kills, full disks, damage: after each of them a whole snapshot is left, and nothing half written is taken
for one."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from skoots.errors import SkootsError, SnapshotError
from skoots.snapshots import (
    SnapshotManager,
    find_snapshot,
    locked,
    new_run_folder,
    read_newest,
    read_reference,
    read_snapshot,
)

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")


def state(epoch: int = 1, size: int = 200, **more: Any) -> dict[str, Any]:
    return {"net": {"weight": torch.full((size,), float(epoch))}, "epoch": epoch, "step": 10 * epoch, **more}


def saved(folder: Path, epochs: int = 3) -> SnapshotManager:
    manager = SnapshotManager(folder, save_epochs=2)
    for epoch in range(1, epochs + 1):
        manager.save(state(epoch), epoch, is_best=epoch == 2)
    return manager


def damage(path: Path, content: bytes) -> None:
    path.unlink()  # not through a hard link
    path.write_bytes(content)


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


# Kill -9 ----------------------------------------------------------------------------------------------------

ENUMERATED = """
import os, signal, sys
import torch
from pathlib import Path
from skoots.snapshots import SnapshotManager, files, read_newest, verify

folder = Path(sys.argv[1])

def save(epoch):
    state = {"net": {"w": torch.full((100,), float(epoch))}, "epoch": epoch,
             "averaging": {"pool": [{"epoch": epoch, "value": 0.5}]}}
    SnapshotManager(folder, save_epochs=1, save_optimizer_state=False).save(state, epoch, is_best=True)

def die_at(count):
    calls = iter(range(10**6))
    def counted(function):
        def call(*words, **named):
            if next(calls) == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*words, **named)
        return call
    for name in ("link", "replace", "fsync", "open"):
        setattr(os, name, counted(getattr(os, name)))
    Path.unlink = counted(Path.unlink)
    files._HashingFile.write = counted(files._HashingFile.write)

save(1)
survived = []
for count in range(10**6):
    child = os.fork()
    if not child:
        die_at(count)
        save(2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    newest, _ = read_newest(folder)
    survived.append(newest["epoch"])
    for path in [*folder.glob("*.pt"), *folder.glob("averaging/*.pt")]:
        verify(path)
    assert newest["net"]["w"].unique().tolist() == [newest["epoch"]]
    if status == 0:
        break
SnapshotManager(folder)
assert not [p for p in folder.rglob(".*")], list(folder.rglob(".*"))
print(count, survived[0], survived[-1], survived == sorted(survived))
"""


@POSIX
def test_killed_at_every_single_call_of_a_save(tmp_path: Path) -> None:
    """Every write, flush, link and rename of one save in turn is the last that the process comes to."""
    process = subprocess.run(
        [sys.executable, "-c", ENUMERATED, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    calls, first, last, in_order = process.stdout.split()
    assert int(calls) > 25 and (first, last, in_order) == ("1", "2", "True")


SAVING = """
import signal, sys
from pathlib import Path
import os
import torch
from skoots.snapshots import SnapshotManager, read_newest

folder = Path(sys.argv[1])
while True:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        manager = SnapshotManager(folder, save_epochs=2)
        begin = read_newest(folder)[0]["epoch"] if list(folder.glob("*latest.pt")) else 0
        for epoch in range(begin + 1, 10**6):
            state = {"net": {"w": torch.full((20_000,), float(epoch))}, "epoch": epoch}
            manager.save(state, epoch, is_best=epoch % 3 == 0)
            os.write(writer, f"{epoch}\\n".encode())
    os.close(writer)
    print(child, flush=True)
    os.waitpid(child, 0)
    with os.fdopen(reader) as lines:
        committed = [int(line) for line in lines.read().split()]
    newest, _ = read_newest(folder)
    assert newest["epoch"] >= max(committed, default=0), (newest["epoch"], committed)
    assert newest["net"]["w"].unique().tolist() == [newest["epoch"]]
    print(newest["epoch"], flush=True)
"""


@POSIX
def test_killed_at_thirty_random_instants(tmp_path: Path) -> None:
    """Each process goes on where the one killed before it was; what it had reported as saved is there."""
    parent = subprocess.Popen(
        [sys.executable, "-c", SAVING, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None and parent.stderr is not None
    clock, epochs = random.Random(0), []
    for _ in range(30):
        child = parent.stdout.readline()
        assert child, parent.stderr.read()
        threading.Event().wait(clock.uniform(0.02, 0.08))
        os.kill(int(child), signal.SIGKILL)
        epoch = parent.stdout.readline()
        assert epoch, parent.stderr.read()
        epochs.append(int(epoch))
    child = parent.stdout.readline()
    parent.kill()
    os.kill(int(child), signal.SIGKILL)
    parent.communicate()
    assert epochs == sorted(epochs) and epochs[-1] > epochs[0]


# Places that fail -------------------------------------------------------------------------------------------


def test_no_byte_is_written_outside_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, folder = tmp_path / "tmpdir", tmp_path / "run"
    elsewhere.mkdir()
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked for a temporary place")

    for name in ("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "gettempdir"):
        monkeypatch.setattr(tempfile, name, refuse)
    opened = []
    real_open = open
    monkeypatch.setattr(
        "builtins.open", lambda file, *words, **named: opened.append(file) or real_open(file, *words, **named)
    )
    saved(folder)
    assert opened and all(Path(file).is_relative_to(folder) for file in opened if not isinstance(file, int))
    assert not list(elsewhere.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    manager = SnapshotManager(small_disk, save_epochs=100)
    manager.save(state(1, 40_000), 1)
    before = (small_disk / "snapshot-latest.pt").read_bytes()
    with pytest.raises(SnapshotError, match=r"\(0\.2 MiB are needed and 0\.\d MiB free\)"):
        manager.save(state(2, 40_000), 2)
    assert [path.name for path in small_disk.iterdir()] == ["snapshot-latest.pt"]
    assert (small_disk / "snapshot-latest.pt").read_bytes() == before
    manager.save(state(3, 20_000), 3)  # there is room for this one
    assert read_newest(small_disk)[0]["epoch"] == 3


def test_a_folder_that_became_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = saved(tmp_path, 1)
    real_open = open

    def denied(file: Any, mode: str = "r", *words: Any, **named: Any) -> Any:
        if "w" in mode:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return real_open(file, mode, *words, **named)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", denied)
        with pytest.raises(SnapshotError, match=r"latest\.pt could not be written: Permission denied"):
            manager.save(state(2), 2)
    assert read_newest(tmp_path)[0]["epoch"] == 1


# Damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_a_truncated_latest_is_set_aside(
    share: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path)
    latest = tmp_path / "snapshot-latest.pt"
    whole = latest.read_bytes()
    damage(latest, whole[: min(int(share * len(whole)), len(whole) - 1)])
    with pytest.raises(SnapshotError):  # asked for by its name
        read_reference(latest)
    with caplog.at_level(logging.WARNING, "skoots"):
        found, path = read_newest(tmp_path, set_aside=True)
    assert (found["epoch"], path.name) == (2, "snapshot-previous.pt")
    assert str(latest) in caplog.text and "epoch 2, step 20; what came after it is lost" in caplog.text
    assert not latest.exists() and latest.with_name("snapshot-latest.pt.corrupt").exists()


def test_a_damaged_latest_does_not_push_out_the_whole_one_before(tmp_path: Path) -> None:
    saved(tmp_path)
    latest = tmp_path / "snapshot-latest.pt"
    damage(latest, latest.read_bytes()[:-1])
    SnapshotManager(tmp_path).save(state(4), 4)
    assert read_snapshot(tmp_path / "snapshot-previous.pt")["epoch"] == 2
    assert read_snapshot(latest)["epoch"] == 4


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    """There is no index that could be lost or stale: names and checksums say everything."""
    saved(tmp_path)
    (tmp_path / "snapshots.json").write_text("{garbage")
    (tmp_path / "snapshot-abc.pt").write_bytes(b"garbage")
    (tmp_path / "other.pt").write_bytes(b"garbage")
    (tmp_path / "snapshot-099.pt").mkdir()
    assert read_newest(tmp_path)[0]["epoch"] == 3
    assert find_snapshot(tmp_path).name == "snapshot-best-002.pt"
    manager = SnapshotManager(tmp_path, save_epochs=1, max_snapshots=1)
    manager.save(state(4), 4)
    assert {"other.pt", "snapshot-abc.pt", "snapshot-099.pt", "snapshots.json"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_when_everything_is_damaged_one_error_lists_it_all_and_nothing_is_deleted(tmp_path: Path) -> None:
    saved(tmp_path)
    names = {path.name for path in tmp_path.glob("*.pt")}
    for name in names:
        damage(tmp_path / name, b"PK\x03\x04 cut off")
    with pytest.raises(SnapshotError) as caught:
        read_newest(tmp_path, set_aside=True)
    assert all(str(tmp_path / name) in str(caught.value) for name in names)
    assert {path.name for path in tmp_path.iterdir()} == names


def test_own_snapshots_load_without_skoots(tmp_path: Path) -> None:
    """In a clean interpreter, by torch alone, without allowing anything."""
    manager = saved(tmp_path, 1)
    manager.save(state(2, rng={"python": random.getstate(), "torch": torch.get_rng_state()}), 2)
    code = f"""
        import sys, torch
        state = torch.load({str(tmp_path / "snapshot-latest.pt")!r}, weights_only=True)
        assert "skoots" not in sys.modules
        print(state["epoch"])
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=tmp_path
    )
    assert process.stdout == "2\n", process.stderr


# Rotation and run folders -----------------------------------------------------------------------------------


def test_rotation_never_loses_the_last_snapshot_that_can_be_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 random sequences of saves, each of which may fail at any of its steps."""
    chance = random.Random(1)
    real = {name: getattr(os, name) for name in ("replace", "link")}
    failing = [False]

    def fragile(name: str) -> Any:
        def call(*words: Any) -> Any:
            if failing[0] and chance.random() < 0.4:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real[name](*words)

        return call

    for name in real:
        monkeypatch.setattr(os, name, fragile(name))
    for sequence in range(500):
        folder = tmp_path / str(sequence)
        folder.mkdir()
        manager = SnapshotManager(folder, max_snapshots=2, save_epochs=chance.choice([1, 2]), keep_best=3)
        newest = 0
        for epoch in range(1, chance.randint(3, 6)):
            failing[0] = chance.random() < 0.4
            try:
                manager.save(state(epoch, 4), epoch, chance.random() < 0.5, within=chance.random() < 0.2)
                newest = epoch
            except SnapshotError:
                pass
            if newest:
                assert read_newest(folder)[0]["epoch"] >= newest
            names = [path.name for path in folder.glob("*.pt")]
            if not failing[0]:
                assert sum("best" in name for name in names) <= 3
            assert not list(folder.glob(".*.tmp"))
        manager.close()
        shutil.rmtree(folder)


def test_a_best_of_a_save_that_was_killed_half_way_is_not_taken_for_the_best(tmp_path: Path) -> None:
    """It has its name, and latest knows nothing of it; the epoch is done again, and is no best this time."""
    manager = SnapshotManager(tmp_path, save_epochs=100)
    best = {"epoch": 1, "value": 0.5, "metric": "test.F1"}
    manager.save(state(1, best=best), 1, is_best=True)
    (tmp_path / "snapshot-best-002.pt").write_bytes((tmp_path / "snapshot-latest.pt").read_bytes())
    SnapshotManager(tmp_path, save_epochs=100).save(state(2, best=best), 2)
    assert find_snapshot(f"{tmp_path}:best").name == "snapshot-best-001.pt"


def test_one_save_writes_its_bytes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skoots.snapshots.files import _HashingFile

    written, write = [0], _HashingFile.write

    def counted(self: Any, data: Any) -> int:
        written[0] += len(data)
        return write(self, data)

    monkeypatch.setattr(_HashingFile, "write", counted)
    pool = {"pool": [{"epoch": 4, "value": 0.5}]}
    files = SnapshotManager(tmp_path, save_epochs=2).save(state(4, 50_000, averaging=pool), 4, is_best=True)
    names = [path.relative_to(tmp_path).as_posix() for path in files]
    assert names == [
        "snapshot-latest.pt", "snapshot-004.pt", "snapshot-best-004.pt", "averaging/snapshot-004.pt"
    ]  # fmt: skip
    assert {path.stat().st_nlink for path in files} == {4}
    assert written[0] < 1.05 * files[0].stat().st_size


def test_twenty_trainings_at_one_instant_get_twenty_folders(tmp_path: Path) -> None:
    gate, folders = threading.Barrier(20), []

    def begin() -> None:
        gate.wait()
        folders.append(new_run_folder(tmp_path, "mito"))

    threads = [threading.Thread(target=begin) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 20 and all(folder.is_dir() for folder in folders)


@POSIX
def test_a_run_that_is_trained_in_is_locked_until_its_process_is_gone(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from skoots.snapshots import locked
        with locked(Path({str(tmp_path)!r})):
            print("locked", flush=True)
            time.sleep(60)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "locked\n"
    wanted = r"Another process is training in .* --resume .*latest\.pt"
    with pytest.raises(SkootsError, match=wanted), locked(tmp_path):
        pass
    child.kill()
    child.communicate()
    with locked(tmp_path):
        pass
