"""The real command line on real files: the whole walk, Ctrl-C, and what may be wrong with the input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import skoots
from skoots.cli.main import main
from skoots.config import load_config
from skoots.config.yaml12 import dump
from skoots.synthetic import make_volume
from skoots.volumes import open_volume, write_volume

SHAPE = (16, 32, 32)
VOXEL_SIZE = (2.0, 1.0, 1.0)
PACKAGE = Path(skoots.__file__).parents[1]


def write_pair(folder: Path, name: str, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image, labels = make_volume(SHAPE, seed)
    write_volume(folder / f"{name}.tif", (image * 255).astype(np.uint8), voxel_size=VOXEL_SIZE)
    write_volume(folder / f"{name}.labels.tif", labels.astype(np.uint16), voxel_size=VOXEL_SIZE)


def write_tiny_config(folder: Path, **data: Any) -> Path:
    """A config of seconds beside its data; returns the file."""
    config = {
        "data": {
            "train": [{"path": str(folder / "train"), "samples_per_volume": 2}],
            "crop_size": [8, 16, 16],
            **data,
        },
        "model": {"backbone": {"type": "UNet", "channels": [4, 8]}},
        "runner": {"eval_interval": 1},
        "train_settings": {"batch_size": 2, "epochs": 1},
    }
    path = folder / "tiny.yaml"
    path.write_text(dump(config))
    return path


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "skoots", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def only_run(folder: Path) -> Path:
    (run,) = folder.glob("runs/tiny/RUN_*")
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with a training in it, and what the command said on stdout and stderr."""
    folder = tmp_path_factory.mktemp("walk")
    write_pair(folder / "train", "a", 1)
    write_pair(folder / "validation", "b", 2)
    config = write_tiny_config(folder, validation=[str(folder / "validation")])
    process = start(folder, "train", config.name, "train_settings.epochs=2")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return folder, out, err


@pytest.fixture
def in_walk(trained: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained[0])
    return trained[0]


# The walk ---------------------------------------------------------------------------------------------------


def test_train_leaves_a_run_and_says_where(trained: tuple[Path, str, str]) -> None:
    folder, out, err = trained
    run = only_run(folder)
    assert {"pytorch_config.yaml", "snapshot-latest.pt", "learning_stats.csv", "train.log"} <= set(
        os.listdir(run)
    )
    assert load_config(run / "pytorch_config.yaml").train_settings.epochs == 2
    assert "Trained 2 epochs" in out and "connected components" in out
    assert f"Next: skoots segment VOLUME --snapshot {run.relative_to(folder)}" in out
    assert "epoch 2/2: loss" in err
    assert "\r" not in err  # no progress bar outside a terminal


def test_segment_then_evaluate(in_walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["segment", "validation/b.tif", "--snapshot", "runs/tiny", "-o", "found.tif", "--maps", "--quiet"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "Next: skoots evaluate LABELS found.tif" in captured.out
    found = open_volume("found.tif")
    assert (found.shape, found.dtype, tuple(found.voxel_size or ())) == (
        SHAPE,
        np.dtype(np.int32),
        VOXEL_SIZE,
    )
    assert open_volume("found.vector.tif").channels == 3

    assert main(["evaluate", "validation/b.labels.tif", "found.tif", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["n_prediction"] == len(np.unique(tifffile.imread("found.tif"))) - 1
    shutil.copyfile("validation/b.labels.tif", "copy.tif")
    assert main(["evaluate", "validation/b.labels.tif", "copy.tif"]) == 0
    table = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines() if line}
    assert (table["F1"], table["mAP"], table["VOI"], table["ARAND"]) == ("1.000", "1.000", "0.000", "0.000")


def test_an_output_that_exists_is_kept(in_walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = in_walk / "kept.tif"
    output.write_bytes(b"precious")
    words = ["segment", "validation/b.tif", "-s", "runs/tiny", "-o", "kept.tif"]
    assert main(words) == 2
    assert "kept.tif" in the_sentence(capsys) and output.read_bytes() == b"precious"
    assert main([*words, "--overwrite"]) == 0
    assert open_volume(output).shape == SHAPE


def test_skeletonize_keeps_what_is_up_to_date(
    in_walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pair(tmp_path, "c", 3)
    assert main(["skeletonize", str(tmp_path)]) == 0
    assert "1 volume traced, 0 up to date already." in capsys.readouterr().out
    assert (tmp_path / "c.skeletons.trch").is_file()
    assert main(["skeletonize", str(tmp_path)]) == 0
    assert "0 volumes traced, 1 up to date already." in capsys.readouterr().out


def test_check_says_what_would_be_trained(in_walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "tiny.yaml"]) == 0
    text = capsys.readouterr().out
    assert "No fault found. Next: skoots train tiny.yaml" in text
    assert "16 x 32 x 32" in text
    assert main(["check", "tiny.yaml", "--print-config"]) == 0
    assert "samples_per_volume: 2" in capsys.readouterr().out


def test_preview_draws_what_would_be_trained_on(in_walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", "tiny.yaml", "-n", "1", "-o", "seen/sheet.png", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out.startswith("1 sample: image, labels, offset, skeleton.")
    assert (in_walk / "seen" / "sheet.png").stat().st_size > 10_000


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair(tmp_path / "train", "a", 1)
    config = write_tiny_config(tmp_path, validation=[str(tmp_path / "train")])
    process = start(tmp_path, "train", config.name, "train_settings.epochs=10000")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/10000"):
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    *before, last = err.splitlines()
    assert all(line.startswith("epoch ") for line in before), err
    assert last.startswith("skoots: stopped by Ctrl-C after ")
    latest = only_run(tmp_path) / "snapshot-latest.pt"
    assert latest.is_file()
    words = last.split("go on with: ")[1].split()
    assert words == ["skoots", "resume", str(only_run(tmp_path).relative_to(tmp_path))]

    done = int(last.split("after ")[1].split()[0])
    assert main(["resume", str(only_run(tmp_path)), f"train_settings.epochs={done + 1}"]) == 0
    assert f"Going on from {latest}, after epoch {done} of {done + 1}" in capsys.readouterr().err


# Bad input --------------------------------------------------------------------------------------------------


def the_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that says what is wrong; nothing but the log may stand before it."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    *logged, sentence = captured.err.splitlines()
    assert all(line.endswith(" traced.") for line in logged), captured.err
    assert sentence.startswith("skoots: "), captured.err
    return sentence


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_all(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.unlink()


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tifffile.imwrite(path, change(tifffile.imread(path)))


def with_nan(image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float32)
    image[3, 4, 5] = np.nan
    return image


BAD_PAIRS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "empty image": (lambda d: (d / "a.tif").write_bytes(b""), ["a.tif", "empty"]),
    "truncated image": (lambda d: halve(d / "a.tif"), ["a.tif"]),
    "truncated labels": (lambda d: halve(d / "a.labels.tif"), ["a.labels.tif"]),
    "labels of another shape": (
        lambda d: rewrite(d / "a.labels.tif", lambda labels: labels[:, :20]),
        ["a.labels.tif", "shape", "(16, 20, 32)", "(16, 32, 32)"],
    ),
    "float labels": (
        lambda d: rewrite(d / "a.labels.tif", lambda labels: labels.astype(np.float32) + 0.5),
        ["a.labels.tif", "float32"],
    ),
    "labels without objects": (
        lambda d: rewrite(d / "a.labels.tif", np.zeros_like),
        ["a.labels.tif", "object"],
    ),
    "NaN in the image": (lambda d: rewrite(d / "a.tif", with_nan), ["a.tif", "NaN"]),
    "an all-zero image": (lambda d: rewrite(d / "a.tif", np.zeros_like), ["a.tif"]),
    "images without labels": (lambda d: (d / "a.labels.tif").unlink(), ["no labels", "a.labels.tif"]),
    "labels without images": (lambda d: (d / "a.tif").unlink(), ["a.labels.tif", "image"]),
    "nothing": (remove_all, ["train", "no images"]),
}


@pytest.mark.parametrize("verb", ["train", "check"])
@pytest.mark.parametrize("fault", BAD_PAIRS)
def test_bad_training_data(
    fault: str, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, words = BAD_PAIRS[fault]
    write_pair(tmp_path / "train", "a", 1)
    spoil(tmp_path / "train")
    config = write_tiny_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path / "train")
    assert main([verb, config.name, "--quiet"] if verb == "train" else [verb, config.name]) == 2
    sentence = the_sentence(capsys)
    assert all(word in sentence for word in words), sentence
    assert before.items() <= contents(tmp_path / "train").items()


BAD_CONFIGS: dict[str, tuple[str, list[str]]] = {
    "a missing folder": ("data: {train: nowhere}", ["nowhere", "does not exist"]),
    "a typo in a key": ("train_settings: {epoch: 5}", ["train_settings.epoch", "epochs"]),
    "a typo deep down": (
        "model: {heads: {vector: {type: VectorHead, scal: 5}}}",
        ["model.heads.vector.scal", "scale"],
    ),
    "an unknown type": (
        "model: {backbone: {type: UNett}}",
        ["model.backbone", "UNett", "Did you mean UNet"],
    ),
    "a syntax error": ("data:\n  train: [a, b\nmodel: {}", ["line 3", "column"]),
    "an unknown metric": ("runner: {key_metric: test.F2}", ["runner.key_metric", "test.F1"]),
    "a number out of range": ("train_settings: {epochs: -3}", ["train_settings.epochs", "-3"]),
    "nothing at all": ("", ["empty"]),
}


@pytest.mark.parametrize("fault", BAD_CONFIGS)
def test_bad_configs(fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, words = BAD_CONFIGS[fault]
    config = tmp_path / "bad.yaml"
    config.write_text(text)
    assert main(["train", str(config), "--runs", str(tmp_path / "runs")]) == 2
    sentence = the_sentence(capsys)
    assert all(word in sentence for word in words), sentence
    assert not list(tmp_path.glob("runs/**/*.pt"))


def test_all_faults_of_a_config_are_named_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("train_settings: {epoch: 5, batch_size: 0}\nmodel: {backbone: {type: UNett}}\n")
    assert main(["check", str(config)]) == 2
    error = capsys.readouterr().err
    assert all(
        path in error for path in ("train_settings.epoch", "train_settings.batch_size", "model.backbone")
    )
    assert "Traceback" not in error


def test_bad_runs_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair(tmp_path / "train", "a", 1)
    (tmp_path / "file").write_text("")
    assert main(["train", str(write_tiny_config(tmp_path)), "--runs", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in the_sentence(capsys)


def write_empty(path: Path) -> str:
    path.write_bytes(b"")
    return str(path)


def write_truncated(path: Path) -> str:
    tifffile.imwrite(path, np.ones(SHAPE, np.uint8))
    halve(path)
    return str(path)


def write_nan(path: Path) -> str:
    tifffile.imwrite(path, with_nan(np.random.default_rng(0).random(SHAPE, np.float32)))
    return str(path)


def write_zeros(path: Path) -> str:
    tifffile.imwrite(path, np.zeros(SHAPE, np.uint8))
    return str(path)


def write_plane(path: Path) -> str:
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8))
    return str(path)


@pytest.mark.parametrize("make", [str, write_empty, write_truncated, write_nan, write_zeros, write_plane])
def test_segment_names_a_bad_volume(
    make: Callable[[Path], str], in_walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = make(tmp_path / "bad.tif")
    assert main(["segment", volume, "-s", "runs/tiny", "--voxel-size", "2,1,1"]) == 2
    assert "bad.tif" in the_sentence(capsys)
    assert not list(tmp_path.glob("*segmentation*"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-s", "nowhere"], "nowhere"),
        (["-s", "runs/tiny:077"], "runs/tiny:077"),
        (["-s", "tiny.yaml"], "tiny.yaml"),
        (["-s", "validation"], "validation"),
        (["-s", "runs/tiny", "-o", "tiny.yaml/out.tif"], "tiny.yaml"),
        (["-s", "runs/tiny", "-o", "out.png"], "out.png"),
        (["-s", "runs/tiny", "--set", "min_sise=5"], "min_sise"),
        (["-s", "runs/tiny", "--set", "skeleton_threshold=3"], "skeleton_threshold"),
        (["-s", "runs/tiny", "--tile", "8,8"], "tile"),
        (["-s", "runs/tiny", "--voxel-size", "1,1"], "1"),
        (["-s", "runs/tiny", "--device", "abacus"], "abacus"),
        (["-s", "runs/tiny", "--plugin", "./nowhere.py"], "nowhere.py"),
    ],
)
def test_segment_names_a_bad_word(
    words: list[str], part: str, in_walk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(in_walk)
    assert main(["segment", "validation/b.tif", *words, "-q"]) == 2
    assert part in the_sentence(capsys)
    assert contents(in_walk) == before


def test_segment_refuses_a_snapshot_that_is_none(
    in_walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    foreign = tmp_path / "foreign.pt"
    torch.save({"weights": torch.zeros(3)}, foreign)
    cut = tmp_path / "cut.pt"
    cut.write_bytes((only_run(in_walk) / "snapshot-latest.pt").read_bytes())
    halve(cut)
    for snapshot in (foreign, cut):
        assert main(["segment", "validation/b.tif", "-s", str(snapshot)]) == 2
        assert str(snapshot) in the_sentence(capsys)


def test_evaluate_refuses_what_cannot_be_compared(
    in_walk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, np.ones((5, 32, 32), np.uint16))
    floats = tmp_path / "floats.tif"
    tifffile.imwrite(floats, np.full(SHAPE, 0.5, np.float32))
    for prediction, part in (
        (other, "shape"),
        (floats, "float32"),
        (tmp_path / "gone.tif", "does not exist"),
    ):
        assert main(["evaluate", "validation/b.labels.tif", str(prediction)]) == 2
        sentence = the_sentence(capsys)
        assert part in sentence and str(prediction) in sentence


def test_small_volumes_are_padded_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "train", "a", 1)
    monkeypatch.chdir(tmp_path)
    config = write_tiny_config(tmp_path, crop_size=[24, 16, 16])
    assert main(["train", config.name, "train_settings.epochs=2", "--quiet"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert "padded" in warning


def test_a_volume_smaller_than_the_stride_is_segmented(in_walk: Path, tmp_path: Path) -> None:
    speck = tmp_path / "speck.tif"
    write_volume(speck, np.array([[[3, 9, 4]]], np.uint8), voxel_size=VOXEL_SIZE)
    assert main(["segment", str(speck), "-s", "runs/tiny", "-q"]) == 0
    assert open_volume(tmp_path / "speck.segmentation.tif").shape == (1, 1, 3)
