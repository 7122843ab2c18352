"""Real commands whose output goes into closed pipes, onto full disks and into other encodings.

And commands that get neither space nor open files."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from original_model import random_weights, write_model

from skoots.cli.main import main
from skoots.config.yaml12 import dump
from skoots.volumes import open_volume, write_volume

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
SOURCE = {"type": "Synthetic", "shape": [32, 32], "samples_per_volume": 2, "radius": [2.0, 3.0]}
CONFIG: dict[str, Any] = {
    "data": {"train": [SOURCE], "validation": [{**SOURCE, "seed": 9}], "crop_size": [16, 16]},
    "device": "cpu",
    "model": {"backbone": {"type": "UNet", "channels": [4, 8]}},
    "runner": {"key_metric": "test.loss", "image_log_interval": None},
    "train_settings": {"epochs": 2, "batch_size": 2, "display_iters": 1},
    "inference": {"tune": 0},
}
ALL_EPOCHS = 2


def run(
    words: list[str],
    folder: Path,
    out: int | None,
    err: int | None = None,
    before: Callable[[], None] | None = None,
) -> tuple[int, str]:
    """A command in a process of its own: its status, and what it wrote to where ``None`` stands.

    The process is a fork of this one, which has imported everything; the streams are new.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 70
        try:
            os.dup2(write if out is None else out, 1)
            os.dup2(write if err is None else err, 2)
            os.closerange(3, 64) if before is None else os.close(read)
            os.chdir(folder)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            if before is not None:
                before()
            status = main(words)
            try:
                sys.stdout.flush(), sys.stderr.flush()  # as the interpreter does at its end
            except OSError:
                status = 120
        except BaseException:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as told:
        text = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


@pytest.fixture
def closed() -> Iterator[int]:
    """A pipe whose reader is gone, as that of ``| head -1`` or of a ``tee`` that died."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.fixture
def full() -> Iterator[int]:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    handle = os.open("/dev/full", os.O_WRONLY)
    yield handle
    os.close(handle)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, and a run that has been trained, in this process, so that forks of it are quick."""
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "tiny.yaml").write_text(dump(CONFIG))
    assert main(["train", str(folder / "tiny.yaml"), "--runs", str(folder / "runs"), "-q"]) == 0
    labels = np.zeros((6, 16, 16), np.uint16)
    labels[1:4, 2:6, 3:12] = 3
    (folder / "data").mkdir()
    write_volume(folder / "data" / "a.tif", labels * 100)
    write_volume(folder / "data" / "a.labels.tif", labels)
    np.save(folder / "same.npy", labels)
    return folder


def epochs_of(folder: Path) -> list[int]:
    return [len(path.read_text().splitlines()) - 1 for path in folder.glob("*/*/learning_stats.csv")]


# Trainings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", ["stderr", "both"])
def test_a_training_goes_on_when_nobody_reads(quiet: str, closed: int, folder: Path, tmp_path: Path) -> None:
    out, err = (closed if quiet in (name, "both") else None for name in ("stdout", "stderr"))
    status, told = run(["train", "tiny.yaml", "--runs", str(tmp_path)], folder, out, err)
    assert status == 0 and "Traceback" not in told
    assert epochs_of(tmp_path) == [ALL_EPOCHS]
    (log,) = tmp_path.glob("*/*/train.log")
    lines = log.read_text()
    assert f"epoch {ALL_EPOCHS}/{ALL_EPOCHS}" in lines
    assert lines.count("Nobody reads what is shown any more") == 1


def test_a_training_goes_on_when_the_disk_behind_its_output_is_full(
    full: int, folder: Path, tmp_path: Path
) -> None:
    status, _ = run(["train", "tiny.yaml", "--runs", str(tmp_path)], folder, full, full)
    assert status == 0 and epochs_of(tmp_path) == [ALL_EPOCHS]
    status, told = run(["train", "tiny.yaml", "--runs", str(tmp_path), "-q"], folder, full)
    assert status == 0 and "warning: The summary could not be printed: No space left on device." in told


@pytest.mark.parametrize(("encoding", "name"), [("cp1252", "細胞"), ("latin-1", "Zellkörper-β")])
def test_a_training_ends_well_in_any_encoding(encoding: str, name: str, folder: Path, tmp_path: Path) -> None:
    def encode() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding, errors="strict")  # type: ignore[union-attr]

    words = ["train", "tiny.yaml", "--runs", str(tmp_path), f"metadata.experiment={name}"]
    status, told = run(words, folder, None, before=encode)
    assert status == 0 and "Traceback" not in told
    assert "Next: skoots segment" in told and epochs_of(tmp_path) == [ALL_EPOCHS]


# Results ----------------------------------------------------------------------------------------------------


PRINTED = [
    ["list"],
    ["list", "heads"],
    ["inspect", "runs/tiny"],
    ["inspect", "runs/tiny", "--config"],
    ["check", "tiny.yaml"],
    ["evaluate", "data/a.labels.tif", "same.npy", "--json"],
    ["--help"],
    ["train", "--help"],
    ["--version"],
]


@pytest.mark.parametrize("words", PRINTED, ids=" ".join)
def test_a_result_that_cannot_be_printed_is_said(words: list[str], full: int, folder: Path) -> None:
    status, told = run(words, folder, full)
    assert status == 2
    assert told.splitlines()[-1] == (
        "skoots: The result could not be printed: No space left on device. Make room, or send it elsewhere."
    )
    assert "Traceback" not in told and "Exception ignored" not in told


@pytest.mark.parametrize("words", PRINTED, ids=" ".join)
def test_a_reader_that_has_had_enough_ends_a_command_quietly(
    words: list[str], closed: int, folder: Path
) -> None:
    status, told = run(words, folder, closed)
    assert status == 141 and (not told or words[0] == "check")


# What the system refuses, in every verb ---------------------------------------------------------------------


def verbs(out: Path) -> dict[str, list[str]]:
    """Every verb that writes, by what it writes."""
    snapshot = ["-s", "runs/tiny", "-q", "--voxel-size", "1,1", "-o"]
    return {
        "train": ["train", "tiny.yaml", "--runs", f"{out}/runs"],
        "tiff": ["segment", "flat.npy", *snapshot, f"{out}/s.tif", "--maps"],
        "zarr": ["segment", "flat.npy", *snapshot, f"{out}/s.zarr", "--maps"],
        "npy": ["segment", "flat.npy", *snapshot, f"{out}/s.npy"],
        "hdf5": ["segment", "flat.npy", *snapshot, f"{out}/s.h5:/x"],
        "publish": ["publish", "runs/tiny", "-o", f"{out}/p.pt"],
        "tune": ["tune", "-s", "runs/tiny", "-o", f"{out}/t.pt", "--seconds", "0", "-q"],
        "plan": ["plan", "data", "-o", f"{out}/p.yaml", "--device", "cpu"],
        "preview": ["preview", "tiny.yaml", "-o", f"{out}/p.png"],
        "skeletonize": ["skeletonize", str(out), "--threads", "1"],
        "import": ["import", "old.trch", "-o", f"{out}/i.pt"],
        "import-config": ["import-config", "old.yml", "-o", f"{out}/n.yaml"],
    }


@pytest.fixture
def out(folder: Path, tmp_path: Path) -> Path:
    np.save(folder / "flat.npy", np.random.default_rng(0).integers(0, 999, (64, 64), np.uint16))
    (folder / "old.yml").write_text("TRAIN:\n  LEARNING_RATE: 0.001\n")
    write_model(folder / "old.trch", random_weights())
    for path in (folder / "data").glob("a.*tif"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def small_files(limit: int) -> Callable[[], None]:
    def begin() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return begin


def few_open_files(spare: int) -> Callable[[], None]:
    def begin() -> None:
        import resource

        limit = len(os.listdir("/proc/self/fd")) - 1 + spare
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    return begin


def left_in(out: Path) -> list[str]:
    return [p.name for p in out.rglob("*") if p.is_file() and not p.name.startswith("a.")]


@pytest.mark.parametrize("verb", verbs(Path()))
def test_a_full_disk_is_one_sentence_and_leaves_nothing(verb: str, folder: Path, out: Path) -> None:
    status, told = run(verbs(out)[verb], folder, None, before=small_files(0))
    assert status == 2 and "Traceback" not in told
    last = told.splitlines()[-1]
    assert "File too large: there is no space left" in last and "Make room" in last
    assert left_in(out) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files cannot be counted here")
@pytest.mark.parametrize("spare", [0, 2])
@pytest.mark.parametrize("verb", sorted(verbs(Path())))
def test_few_open_files_are_one_sentence_and_leave_nothing(
    verb: str, spare: int, folder: Path, out: Path
) -> None:
    status, told = run(verbs(out)[verb], folder, None, before=few_open_files(spare))
    if verb == "zarr" and status == -signal.SIGABRT:
        pytest.xfail("tensorstore aborts where one of its threads cannot open a file")
    assert status in (0, 2) and "Traceback" not in told
    if status == 2:
        assert "Too many open files" in told.splitlines()[-1] and "Make room" not in told
        assert left_in(out) == []
    assert not [path for path in out.rglob(".*.partial")]


def test_an_hdf5_file_keeps_its_other_data_when_the_disk_is_full(folder: Path, out: Path) -> None:
    write_volume(f"{out}/s.h5:/kept", np.arange(4096, dtype=np.int32).reshape(64, 64))
    before = (out / "s.h5").read_bytes()
    size = len(before) + 500
    status, told = run(verbs(out)["hdf5"], folder, None, before=small_files(size))
    assert status == 2 and "s.h5:/x cannot be written: File too large" in told
    assert (out / "s.h5").read_bytes() == before and os.listdir(out).count("s.h5") == 1
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    assert open_volume(f"{out}/s.h5:/kept").read_all()[-1, -1] == 4095


def test_training_goes_on_without_a_place_for_skeletons(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skoots.data import skeleton_file

    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(skeleton_file, "replacing", refuse)
    for name in ("a.tif", "a.labels.tif"):
        (out / name.replace("a", "b", 1)).write_bytes((out / name).read_bytes())
    source = [{"path": str(out), "samples_per_volume": 2}]
    config = {**CONFIG, "data": {"train": source, "validation": source, "crop_size": [4, 16, 16]}}
    config["train_settings"] = {**CONFIG["train_settings"], "epochs": 1}
    (folder / "folder.yaml").write_text(dump(config))
    status, told = run(["train", "folder.yaml", "--runs", f"{out}/runs"], folder, None)
    assert status == 0, told
    assert told.count("Skeletons are not kept") == 1 and "Make room" not in told
    status, told = run(["skeletonize", str(out), "--threads", "1"], folder, None)
    assert status == 2
    assert told.splitlines()[-1].endswith(
        "Read-only file system. Change its permissions or choose another folder."
    )
