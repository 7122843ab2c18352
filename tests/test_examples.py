"""The examples do what they say."""

from __future__ import annotations

import csv
import importlib.util
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from skoots.api import TrainingOutcome, segment, train
from skoots.errors import ConfigError
from skoots.instances import DECODERS, Decoder, label_components
from skoots.models.heads.base import HEADS
from skoots.registry import load_plugin
from skoots.snapshots import read_snapshot
from skoots.synthetic import make_volume
from skoots.testing import DecoderContract
from skoots.volumes import open_volume, write_volume

ROOT = Path(__file__).parents[1]
HEAD = ROOT / "examples" / "custom_head.py"
DECODER = ROOT / "examples" / "custom_decoder.py"
LOOP = ROOT / "examples" / "plain_training_loop.py"
TINY_3D = (
    "data.train=[{type: Synthetic, shape: [16, 32, 32], radius: [2.0, 3.0], samples_per_volume: 4, seed: 1}]",
    "data.validation=[{type: Synthetic, shape: [16, 32, 32], radius: [2.0, 3.0], seed: 2}]",
    "data.test=[]",
    "data.crop_size=[8, 16, 16]",
    "train_settings.epochs=3",
    "device=cpu",
)
TINY_2D = tuple(word.replace("16, 32, 32", "32, 32").replace("8, 16, 16", "16, 16") for word in TINY_3D)


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)


# A head of one's own ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_rim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingOutcome]:
    yield train(
        ROOT / "examples" / "custom_head.yaml", TINY_3D, runs=tmp_path_factory.mktemp("runs"), progress=False
    )


def test_the_head_is_about_thirty_lines() -> None:
    code = [line for line in HEAD.read_text().split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) - sum(line.startswith(("from ", "import ")) for line in code) <= 35


def test_the_head_is_trained_and_logged_beside_the_three(with_rim: TrainingOutcome) -> None:
    with open(with_rim.run_folder / "learning_stats.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for head in ("vector", "semantic", "skeleton", "rim"):
        assert all(float(row[f"train.loss.{head}"]) > 0 for row in rows)
        assert f"test.loss.{head}" in with_rim.metrics
    last = {name: float(value) for name, value in rows[-1].items() if value}
    parts = [last[f"train.loss.{head}"] for head in ("vector", "semantic", "skeleton")]
    assert last["train.loss"] == pytest.approx(sum(parts) + 0.5 * last["train.loss.rim"], rel=1e-5)
    net = read_snapshot(with_rim.latest_snapshot)["net"]
    assert any(name.startswith("heads.rim.") for name in net)


def test_its_map_is_written(with_rim: TrainingOutcome, tmp_path: Path) -> None:
    image, _ = make_volume((12, 24, 24), 5, radius=(2.0, 3.0))
    write_volume(tmp_path / "cell.tif", image)
    result = segment(
        tmp_path / "cell.tif", with_rim.run_folder, maps=True, plugins=[str(HEAD)], progress=False
    )
    assert set(result.maps) == {"vector", "semantic", "skeleton", "rim"}
    rim = open_volume(result.maps["rim"]).read_all()
    assert rim.reshape(image.shape).std() > 0 and rim.min() >= 0 and rim.max() <= 1
    with pytest.raises(ConfigError, match=r"custom_head\.py' is code that this config asks for"):
        segment(tmp_path / "cell.tif", with_rim.run_folder, tmp_path / "again.tif", progress=False)


def test_a_decoder_of_one_s_own_reads_its_map(with_rim: TrainingOutcome, tmp_path: Path) -> None:
    image, _ = make_volume((12, 24, 24), 5, radius=(2.0, 3.0))
    write_volume(tmp_path / "cell.tif", image)
    thresholds = {"semantic_threshold": 0.3, "rim_threshold": 0.4}
    result = segment(
        tmp_path / "cell.tif",
        with_rim.run_folder,
        maps=True,
        plugins=[str(HEAD), str(DECODER)],
        decoding={"type": "RimDecoder", "min_size": 2, **thresholds},
        progress=False,
    )
    maps = {name: open_volume(result.maps[name]).read_all() for name in ("semantic", "rim")}
    level = {name: np.rint(values.reshape(image.shape) * 255) / 255 for name, values in maps.items()}
    expected = label_components((level["semantic"] > 0.3) & ~(level["rim"] > 0.4), min_size=2)
    assert np.array_equal(open_volume(result.output).read_all(), expected) and expected.any()


class TestRimDecoder(DecoderContract):
    def make(self) -> Decoder:
        load_plugin(str(DECODER))
        return DECODERS.build("RimDecoder")

    def values(self, spatial_dims: int) -> dict[str, np.ndarray]:
        rim = np.random.default_rng(0).random((1, *(12,) * spatial_dims)) < 0.3
        return {"semantic": np.ones(rim.shape), "rim": rim}


@pytest.mark.parametrize("dims", [2, 3])
def test_its_target_is_the_rim_of_every_object(dims: int, with_rim: TrainingOutcome) -> None:
    """Against brute force over all neighbours."""
    from skoots.testing import example_batch

    batch = example_batch(dims)
    head = HEADS.build("RimHead", in_channels=4, spatial_dims=dims)
    target = head.targets(batch)["rim"][:, 0].numpy()
    for labels, rim in zip(batch.labels.numpy(), target):
        padded = np.pad(labels, 1, mode="edge")
        expected = np.zeros(labels.shape, bool)
        for step in np.ndindex(*(3,) * dims):
            window = tuple(slice(s, s + n) for s, n in zip(step, labels.shape))
            expected |= padded[window] != labels
        assert np.array_equal(rim > 0, expected & (labels > 0)) and rim.any()


# A loop of one's own ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_loop() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_training_loop", LOOP)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("config", "overrides"), [("unet3d", TINY_3D), ("unet2d", TINY_2D)])
def test_the_bare_loop_and_the_runner_reach_the_same_loss(
    config: str, overrides: tuple[str, ...], plain_loop: Any, tmp_path: Path
) -> None:
    path = ROOT / "model_configs" / f"{config}.yaml"
    words = [*overrides, "data.validation=[]"]  # the bare loop does not validate
    plain = plain_loop.train_plainly(path, words)
    outcome = train(path, words, runs=tmp_path, progress=False)
    history = read_snapshot(outcome.latest_snapshot)["history"]
    assert plain == pytest.approx([epoch["train.loss"] for epoch in history], rel=1e-6)
    assert len(plain) == 3 and plain[0] != plain[1]


def test_the_bare_loop_runs_as_a_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(LOOP), str(ROOT / "model_configs" / "unet2d.yaml"), *TINY_2D, "train_settings.epochs=1"]
    monkeypatch.setattr("sys.argv", words)
    runpy.run_path(str(LOOP), run_name="__main__")
    assert capsys.readouterr().out.startswith("epoch 1: loss ")


# Snapshots --------------------------------------------------------------------------------------------------


def test_the_walk_through_snapshots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ROOT / "examples" / "snapshots.py"
    monkeypatch.setattr("sys.argv", [str(script), str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "went on to epoch 6 in the same folder: True"
    assert lines[2].startswith("branched off after epoch 2 into RUN_")
    for line in lines[3:6]:
        now, then = line.split(": loss ")[1].split(", then ")
        assert now == then
    assert lines[6].startswith("mito.pt: ") and (tmp_path / "mito.pt").is_file()
