"""``plan``: from a folder to a config that says why, loads and trains."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api import check, plan, train
from skoots.api.planning.measured import measure
from skoots.config import load_config
from skoots.config.yaml12 import parse
from skoots.data.sources import Folder, Reading
from skoots.errors import SkootsError, VolumeError
from skoots.geometry import Box
from skoots.snapshots import read_snapshot
from skoots.synthetic import make_volume
from skoots.volumes import write_volume

MODULE = importlib.import_module("skoots.api.plan")  # the package has the verb under this name
QUICK = [
    "train_settings.epochs=1",
    "train_settings.batch_size=1",
    "data.train.0.samples_per_volume=2",
    "device=cpu",
]


def write_pairs(
    folder: Path,
    shape: Sequence[int],
    count: int = 1,
    voxel_size: Sequence[float] | None = None,
    radius: tuple[float, float] = (2.0, 3.0),
    objects: Any = "tubes",
    bright: bool = False,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image, labels = make_volume(shape, 10 + i, objects, radius=radius)
        grey = (np.exp(6 * image) if bright else 200 * image).astype(np.uint16)
        write_volume(folder / f"v{i}.tif", grey, voxel_size)
        write_volume(folder / f"v{i}.labels.tif", labels.astype(np.uint16), voxel_size)
    return folder


FOLDERS: dict[str, dict[str, Any]] = {
    "isotropic": {"shape": (16, 28, 28), "voxel_size": (10.0, 10.0, 10.0)},
    "anisotropic": {"shape": (8, 36, 32), "voxel_size": (40.0, 10.0, 10.0), "count": 3},
    "flat": {"shape": (64, 56), "voxel_size": (1.0, 1.0), "objects": "blobs", "bright": True},
    "large objects": {"shape": (72, 80), "count": 2, "objects": "blobs", "radius": (14.0, 18.0)},
    "one section": {"shape": (3, 40, 40), "voxel_size": (1.0, 1.0, 1.0)},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_plan_loads_checks_and_trains(name: str, tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", **FOLDERS[name])
    planned = plan(folder, device="cpu", memory=0.1)
    path = tmp_path / "plan.yaml"
    planned.write(path)
    value, faults = parse(path.read_text(encoding="utf-8"))
    assert value == planned.config and faults == []
    assert load_config(path) == load_config(planned.config)
    lines = check(path, ["device=cpu"]).lines
    assert any(line.startswith("validation: ") for line in lines)
    outcome = train(path, QUICK, runs=tmp_path / "runs", progress=False)
    assert read_snapshot(outcome.latest_snapshot)["epoch"] == 1
    assert planned.config["runner"]["key_metric"] in outcome.metrics
    assert outcome.test_scores is not None and outcome.test_scores["n_truth"] > 0


def test_every_comment_of_the_file_is_a_reason(tmp_path: Path) -> None:
    planned = plan(write_pairs(tmp_path / "data", **FOLDERS["isotropic"]), device="cpu")
    text = " ".join(planned.text("mine.yaml").replace("#", " ").split())
    assert "skoots check mine.yaml" in text and "skoots train mine.yaml" in text
    for sentence in [*planned.facts, *planned.warnings, *(d.reason for d in planned.decisions)]:
        assert " ".join(sentence.replace("#", " ").split()) in text
    keys = {decision.key for decision in planned.decisions if decision.reason}
    assert {
        "data.train", "data.validation", "data.crop_size", "data.object_rate", "data.normalize",
        "model.backbone.channels", "model.backbone.strides", "model.heads.vector.scale",
        "model.heads.vector.sigma",
        "model.heads.skeleton", "model.heads.boundary", "runner.key_metric", "runner.eval_interval",
        "train_settings.batch_size", "train_settings.epochs",
    } <= keys  # fmt: skip


def test_the_scale_is_what_auto_would_be(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", (16, 28, 28), voxel_size=(10.0, 10.0, 10.0))
    other = write_pairs(tmp_path / "other", (16, 28, 28), voxel_size=(10.0, 10.0, 10.0))
    planned = plan(folder, validation=other, device="cpu")
    scale = planned.config["model"]["heads"]["vector"]["scale"]
    report = check({"data": {"train": [str(folder)]}, "device": "cpu"})
    assert report.config.model.heads["vector"]["scale"] == scale
    assert planned.config["data"]["validation"] == [{"path": str(other)}]
    (source,) = planned.config["data"]["train"]
    assert set(source) == {"path", "samples_per_volume"} and source["path"] == str(folder)


def test_voxel_size_is_written_only_where_the_files_are_silent(tmp_path: Path) -> None:
    stated = plan(write_pairs(tmp_path / "a", (24, 24), voxel_size=(2.0, 1.0)), device="cpu")
    assert "voxel_size" not in stated.config["data"] and stated.warnings == []
    assert "in proportion 2 x 1" in stated.facts[0]
    silent = plan(write_pairs(tmp_path / "b", (24, 24)), device="cpu")
    assert silent.config["data"]["voxel_size"] == [1.0, 1.0]
    (warning,) = silent.warnings
    assert "v0.tif" in warning and "--voxel-size" in warning and "Note: " in silent.text("x.yaml")
    given = plan(tmp_path / "b", voxel_size=(3.0, 1.0), device="cpu")
    assert given.config["data"]["voxel_size"] == [3.0, 1.0] and given.warnings == []


def test_coarse_axes_are_halved_later(tmp_path: Path) -> None:
    coarse = plan(
        write_pairs(tmp_path / "a", (12, 40, 40), voxel_size=(50.0, 10.0, 10.0)), device="cpu"
    ).config
    assert coarse["model"]["backbone"]["strides"][:2] == [[1, 2, 2], [1, 2, 2]]
    assert coarse["model"]["backbone"]["kernels"][0] == [1, 3, 3]


def test_bright_tails_are_compressed(tmp_path: Path) -> None:
    even = plan(write_pairs(tmp_path / "a", (40, 40)), device="cpu").config
    tail = plan(write_pairs(tmp_path / "b", (40, 40), bright=True), device="cpu").config
    assert (even["data"]["normalize"], tail["data"]["normalize"]) == ("zscore", "asinh")


def test_larger_objects_get_more_depth_and_larger_vectors(tmp_path: Path) -> None:
    small = plan(
        write_pairs(tmp_path / "a", (160, 160), objects="blobs", radius=(3.0, 4.0)), device="cpu"
    ).config
    large = plan(
        write_pairs(tmp_path / "b", (160, 160), objects="blobs", radius=(20.0, 26.0)), device="cpu"
    ).config
    small_model, large_model = small["model"], large["model"]
    assert len(large_model["backbone"]["channels"]) > len(small_model["backbone"]["channels"])
    assert min(large_model["heads"]["vector"]["scale"]) > 3 * max(small_model["heads"]["vector"]["scale"])
    assert large_model["heads"]["vector"]["sigma"] > small_model["heads"]["vector"]["sigma"]


def test_memory_and_epochs_are_heeded(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", (48, 48, 48), voxel_size=(1.0, 1.0, 1.0))
    small, large = (plan(folder, memory=gigabytes, epochs=7, device="cpu") for gigabytes in (0.03, 0.3))
    voxels = [
        np.prod(p.config["data"]["crop_size"]) * p.config["train_settings"]["batch_size"]
        for p in (small, large)
    ]
    assert voxels[0] < voxels[1]
    assert small.config["train_settings"]["epochs"] == 7
    assert [epoch for _, epoch in small.config["model"]["heads"]["vector"]["sigma_decay"]] == [2, 4, 5]
    with pytest.raises(SkootsError, match="--memory"):
        plan(folder, memory=0.0001, device="cpu")


def test_what_fills_the_memory_is_read_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pairs(tmp_path / "data", (24, 24), count=3)
    monkeypatch.setattr("skoots.api.planning.measured.free_memory", lambda device: 1000)
    planned = plan(folder, validation=folder, test=folder, memory=0.1, device="cpu").config["data"]
    for section in ("train", "validation", "test"):
        assert all(source["store"] == "disk" for source in planned[section])


def test_a_large_folder_to_validate_on_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pairs(tmp_path / "data", (24, 24))
    large = write_pairs(tmp_path / "large", (80, 80))
    monkeypatch.setattr("skoots.api.planning.measured.free_memory", lambda device: 10_000)
    stored = Folder.__init__
    asked = []

    def spied(self: Folder, path: str, *args: Any, **keywords: Any) -> None:
        asked.append((path, keywords["store"]))
        stored(self, path, *args, **keywords)

    monkeypatch.setattr(Folder, "__init__", spied)
    planned = plan(folder, validation=large, memory=0.1, device="cpu").config["data"]
    assert planned["validation"] == [{"path": str(large), "store": "disk"}]
    assert (str(large), "disk") in asked and (str(large), "memory") not in asked


def test_the_parts_of_a_divided_volume_are_traced_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_pairs(tmp_path / "data", **FOLDERS["isotropic"])
    config = plan(folder, memory=0.1, device="cpu").config
    with caplog.at_level("INFO"):
        check(config, QUICK)
        assert caplog.text.count("traced") == 2
        check(config, QUICK)
        assert caplog.text.count("traced") == 2


def test_check_counts_whole_batches(tmp_path: Path) -> None:
    source = {"type": "Synthetic", "shape": [24, 24], "samples_per_volume": 7, "radius": [2.0, 3.0]}
    config = {
        "data": {"train": [source], "crop_size": [16, 16]},
        "device": "cpu",
        "model": {"backbone": {"type": "UNet", "channels": [4, 8]}},
    }
    for batch, steps in ((2, 3), (7, 1), (100, 1)):
        lines = check(config, [f"train_settings.batch_size={batch}"]).lines
        assert any(f"7 samples of 16 x 16 voxels, {steps} steps." in line for line in lines)


def test_crops_keep_to_what_is_labelled(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", (30, 40))
    _, labels = make_volume((30, 40), 10, radius=(2.0, 3.0))
    labels = labels.astype(np.int16)
    labels[:10], labels[:, 33:] = -1, -1
    write_volume(folder / "v0.labels.tif", labels, overwrite=True)
    data = measure(folder, folder, None, Reading(ignore_label=-1), 0)
    assert data.known == [Box((10, 0), (30, 33))] and data.voxels == 20 * 33


def test_gpus_get_wider_networks_and_more_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pairs(tmp_path / "data", (24, 40, 40), voxel_size=(1.0, 1.0, 1.0))
    monkeypatch.setattr(MODULE, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(MODULE, "free_memory", lambda device: 10**10)
    planned = plan(folder)
    assert planned.config["model"]["backbone"]["channels"][0] == 32
    assert planned.config["train_settings"]["epochs"] == 300
    crop = next(d.reason for d in planned.decisions if d.key == "data.crop_size")
    assert "8 GB, 80 % of what is free on cuda" in crop


def test_unknown_voxels_are_learnt_of(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", (30, 30))
    _, labels = make_volume((30, 30), 10, radius=(2.0, 3.0))
    labels = labels.astype(np.int16)
    labels[:5] = -1
    write_volume(folder / "v0.labels.tif", labels, overwrite=True)
    with pytest.raises(VolumeError, match="ignore_label"):
        plan(folder, device="cpu")
    planned = plan(folder, ignore_label=-1, device="cpu")
    assert planned.config["data"]["ignore_label"] == -1
    share = 100 * (labels > 0).sum() / (labels >= 0).sum()
    assert any(f"{share:.0f} % foreground" in fact for fact in planned.facts)


def test_faults_of_the_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="does not exist"):
        plan(tmp_path / "gone")
    folder = write_pairs(tmp_path / "a", (24, 24))
    other = write_pairs(tmp_path / "b", (8, 24, 24))
    for place in ("validation", "test"):
        with pytest.raises(VolumeError, match=r"3D and .* 2D"):
            plan(folder, **{place: other}, device="cpu")


def test_a_config_is_not_overwritten(tmp_path: Path) -> None:
    planned = plan(write_pairs(tmp_path / "data", (24, 24)), device="cpu")
    path = tmp_path / "plan.yaml"
    path.write_text("mine")
    with pytest.raises(SkootsError, match=r"plan\.yaml exists; .* --overwrite"):
        planned.write(path)
    assert path.read_text() == "mine"
    planned.write(path, overwrite=True)
    assert parse(path.read_text())[0] == planned.config
    with pytest.raises(SkootsError, match="cannot be written"):
        planned.write(tmp_path / "gone" / "plan.yaml")


def test_channels_and_a_volume_that_cannot_be_divided(tmp_path: Path) -> None:
    """Three channels, and one object in a corner: nothing is held out, and the plan trains all the same."""
    labels = np.zeros((48, 48), np.uint8)
    labels[1:7, 1:7] = 1
    rng = np.random.default_rng(0)
    image = np.stack([labels * 100 + rng.integers(0, 50, labels.shape) for _ in range(3)]).astype(np.uint8)
    folder = tmp_path / "data"
    folder.mkdir()
    write_volume(folder / "one.tif", image, (1.0, 1.0), channels=3)
    write_volume(folder / "one.labels.tif", labels, (1.0, 1.0))
    planned = plan(folder, device="cpu", memory=0.05, epochs=1)
    assert planned.config["data"]["validation"] == []
    assert planned.config["runner"]["key_metric"] == "test.loss"
    path = tmp_path / "plan.yaml"
    planned.write(path)
    outcome = train(path, QUICK, runs=tmp_path / "runs", progress=False)
    assert outcome.best_snapshot is None and read_snapshot(outcome.latest_snapshot)["epoch"] == 1
