"""Statistics of a training: measured once, saved in its snapshots, applied again when segmenting."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skoots.api import evaluate_snapshot, publish, segment, train
from skoots.api.build import load_model, open_volumes
from skoots.api.prepare import prepare, training_crops
from skoots.api.segment import make_plan
from skoots.config import load_config
from skoots.data.intensity_record import pool
from skoots.data.normalize import Intensity, measure_intensity
from skoots.data.sources import base as sources_module
from skoots.errors import ConfigError, VolumeError
from skoots.snapshots import read_snapshot
from skoots.volumes import open_volume, write_volume
from skoots.volumes.array import ArrayVolume

Make = Callable[..., Any]


@pytest.fixture
def folder(write_pair: Callable[..., Any], tmp_path: Path) -> Path:
    """Two volumes of different brightness, and one that is held out, brighter still."""
    for name, seed, factor in (("a", 1, 1), ("b", 2, 3), ("held", 3, 5)):
        image, _ = write_pair(tmp_path / "data", name, seed, (12, 24, 24 + 2 * seed))
        bright = image.astype(np.uint16) * factor + 10 * seed
        write_volume(tmp_path / "data" / f"{name}.tif", bright, (2.0, 1.0, 1.0), overwrite=True)
    return tmp_path / "data"


def config_for(make_config: Make, folder: Path, **data: Any) -> Any:
    def source(*names: str) -> Any:
        return {"path": str(folder), "names": list(names), "samples_per_volume": 2}

    held = {"validation": [source("held")], "test": [source("held")]}
    return make_config(data={"train": [source("a", "b")], **held, **data})


@pytest.mark.parametrize("channels", [1, 2])
def test_pooled_statistics_are_those_of_all_voxels_together(channels: int) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(3 * i, 1 + i, (channels, 4, 5, 6 + i)) for i in range(3)]
    measured = [measure_intensity(ArrayVolume("a", a, channels_first=True), "zscore") for a in arrays]
    pooled = pool(measured, [a[0].size for a in arrays])
    together = np.concatenate([a.reshape(channels, -1) for a in arrays], axis=1)
    assert np.allclose(pooled.shift, together.mean(1), rtol=1e-5)
    assert np.allclose(pooled.scale, together.std(1), rtol=1e-5)


def test_one_volume_pools_to_itself() -> None:
    one = Intensity(np.array([3.0], np.float32), np.array([0.5], np.float32), compress=True)
    pooled = pool([one], [77])
    assert (pooled.shift, pooled.scale, pooled.compress) == (3, 0.5, True)


def test_a_snapshot_holds_them_and_segmenting_applies_them(
    make_config: Make, folder: Path, tmp_path: Path
) -> None:
    config = config_for(make_config, folder, normalize_by="training")
    outcome = train(config, runs=tmp_path / "runs", progress=False)
    images = [open_volume(folder / f"{name}.tif").read_all().astype(float).ravel() for name in ("a", "b")]
    mean, deviation = np.concatenate(images).mean(), np.concatenate(images).std()
    stored = read_snapshot(outcome.latest_snapshot)["facts"]["intensity"]
    assert stored["pooled"]["shift"] == pytest.approx([mean], rel=1e-5)
    assert stored["pooled"]["scale"] == pytest.approx([deviation], rel=1e-5)
    assert [v["name"] for v in stored["volumes"]] == ["a", "b"] and stored["kind"] == "zscore"
    assert [v["shift"] for v in stored["volumes"]] == [[pytest.approx(i.mean(), rel=1e-5)] for i in images]

    loaded = load_model(outcome.latest_snapshot, "cpu")
    image = open_volume(folder / "held.tif")
    intensity = make_plan(loaded, image, (2, 1, 1)).intensity
    assert intensity.shift == pytest.approx(mean, rel=1e-5)
    assert intensity.scale == pytest.approx(deviation, rel=1e-5)
    again = evaluate_snapshot(outcome.latest_snapshot)
    assert again.scores == outcome.test_scores
    metrics = read_snapshot(outcome.latest_snapshot)["metrics"]
    assert again.metrics["test.loss"] == pytest.approx(metrics["test.loss"], rel=1e-5)
    shared = publish(outcome.latest_snapshot, tmp_path / "shared.pt")
    numbered = [{**volume, "name": str(i)} for i, volume in enumerate(stored["volumes"], start=1)]
    published = read_snapshot(shared.output)["facts"]["intensity"]
    assert published == {**stored, "volumes": numbered}
    result = segment(folder / "held.tif", tmp_path / "shared.pt", tmp_path / "out.tif", progress=False)
    assert result.output.is_file()


def test_crops_and_validation_are_normalised_as_segmenting_does(make_config: Make, folder: Path) -> None:
    for by in ("training", "volume"):
        data = {"normalize_by": by, "augment": "none", "background": [str(folder / "empty")]}
        empty = np.random.default_rng(0).integers(0, 9, (12, 24, 24), np.uint16)
        write_volume(folder / "empty" / "e.tif", empty, overwrite=True) if (folder / "empty").is_dir() else (
            (folder / "empty").mkdir(),
            write_volume(folder / "empty" / "e.tif", empty),
        )
        prepared = prepare(load_config(config_for(make_config, folder, voxel_size=[2, 1, 1], **data)))
        volumes = [v for v, _ in (*prepared.train, *prepared.validation, *prepared.background)]
        scales = {float(v.intensity.scale[0]) for v in volumes}
        assert len(scales) == (1 if by == "training" else 4)
        sample = training_crops(prepared)[1, 0]
        raw = open_volume(folder / "a.tif").read_all().astype(float)
        lowest = (raw.min() - float(volumes[0].intensity.shift[0])) / float(volumes[0].intensity.scale[0])
        assert sample.image.min() >= lowest - 1e-4
    assert any("shift" in line for line in prepared.decided) is (by == "training")


def test_by_volume_brightness_does_not_matter(make_config: Make, folder: Path, tmp_path: Path) -> None:
    outcome = train(config_for(make_config, folder), runs=tmp_path / "runs", progress=False)
    loaded = load_model(outcome.latest_snapshot, "cpu")
    assert loaded.intensity is not None  # saved all the same
    image = open_volume(folder / "held.tif")
    bright = ArrayVolume("bright", image.read_all() * 4 + 100, image.voxel_size)
    one, two = (make_plan(loaded, v, (2, 1, 1)).intensity.apply(v.read_all()[None]) for v in (image, bright))
    assert np.allclose(one, two, atol=1e-4)
    by_training = make_plan(loaded.normalising_by("training"), bright, (2, 1, 1)).intensity
    assert np.array_equal(by_training.scale, loaded.intensity.pooled.scale)
    found = [
        open_volume(
            segment(
                folder / "held.tif",
                outcome.latest_snapshot,
                tmp_path / f"{by}.tif",
                maps=True,
                normalize_by=by,  # type: ignore[arg-type]
                progress=False,
            ).maps["semantic"]
        ).read_all()
        for by in (None, "volume", "training")
    ]
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[1], found[2])


def test_types_and_nothing_need_no_statistics(make_config: Make, folder: Path, tmp_path: Path) -> None:
    config = config_for(make_config, folder, normalize_by="training", normalize="dtype")
    outcome = train(config, runs=tmp_path / "runs", progress=False)
    loaded = load_model(outcome.latest_snapshot, "cpu")
    image = ArrayVolume("bytes", np.arange(256, dtype=np.uint8).reshape(4, 8, 8))
    applied = make_plan(loaded, image, (2, 1, 1)).intensity.apply(image.read_all()[None])
    assert applied.min() == 0 and applied.max() == 1


def test_another_type_of_voxels_is_said(
    make_config: Make, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_for(make_config, folder, normalize_by="training")
    loaded = load_model(train(config, runs=tmp_path / "runs", progress=False).latest_snapshot, "cpu")
    image = ArrayVolume("bytes.tif", np.zeros((4, 8, 8), np.uint8))
    with caplog.at_level(logging.WARNING):
        make_plan(loaded, image, (2, 1, 1))
    assert "bytes.tif is uint8 and the training was on uint16, whose statistics are applied" in caplog.text
    unknown = dataclasses.replace(loaded, intensity=None)
    with pytest.raises(ConfigError, match=r"data\.normalize_by.*came without the statistics of a training"):
        make_plan(unknown, image, (2, 1, 1))


def test_each_source_is_measured_once(
    make_config: Make, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def spy(volume: Any, *how: Any) -> Intensity:
        measured.append(Path(volume.path).name)
        return measure_intensity(volume, *how)

    monkeypatch.setattr(sources_module, "measure_intensity", spy)
    monkeypatch.setattr("skoots.api.intensity.measure_intensity", spy)
    config = config_for(make_config, folder)
    config["data"]["test"] = []
    train(config, runs=tmp_path / "runs", progress=False)
    assert sorted(measured) == ["a.tif", "b.tif", "held.tif"]
    assert len(open_volumes(load_config(config), "validation")) == 1


@pytest.mark.parametrize("kind, low, high", [("percentile", 1, 99.8), ("asinh", 50, 16)])
def test_percentiles_of_a_training_are_those_of_all_voxels_together(
    make_config: Make, folder: Path, kind: str, low: float, high: float
) -> None:
    prepared = prepare(load_config(config_for(make_config, folder, normalize=kind, normalize_by="training")))
    voxels = np.concatenate([open_volume(folder / f"{name}.tif").read_all().ravel() for name in ("a", "b")])
    shift, other = np.percentile(voxels, [low, high])
    for volume, _ in (*prepared.train, *prepared.validation):
        assert volume.intensity.shift == pytest.approx([shift], rel=1e-5)
        assert volume.intensity.scale == pytest.approx([abs(other - shift)], rel=1e-5)


@pytest.mark.parametrize("section", ["train", "validation", "background", "test"])
def test_statistics_of_one_type_are_not_applied_to_another(
    make_config: Make, folder: Path, tmp_path: Path, section: str
) -> None:
    write = np.random.default_rng(0).integers(0, 99, (12, 24, 24)).astype(np.float32)
    write_volume(tmp_path / "other" / "o.tif", write, (2.0, 1.0, 1.0)) if (tmp_path / "other").is_dir() else (
        (tmp_path / "other").mkdir(),
        write_volume(tmp_path / "other" / "o.tif", write, (2.0, 1.0, 1.0)),
    )
    if section != "background":
        labels = np.zeros((12, 24, 24), np.uint16)
        labels[4:8, 4:8, 4:20] = 1
        write_volume(tmp_path / "other" / "o.labels.tif", labels, (2.0, 1.0, 1.0))
    config = config_for(make_config, folder)
    config["data"][section] = [*config["data"].get(section, []), {"path": str(tmp_path / "other")}]
    prepare(load_config(config))
    config["data"]["normalize_by"] = "training"
    said = r"data\.normalize_by: is \"training\".*different types: .*\.tif is uint16 and .*o\.tif is float32"
    with pytest.raises(ConfigError, match=said):
        prepare(load_config(config))


def test_by_those_of_the_training_a_volume_may_be_of_one_value(
    make_config: Make, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    write_volume(tmp_path / "empty" / "e.tif", np.full((12, 24, 24), 7, np.uint16), (2.0, 1.0, 1.0))
    config = config_for(make_config, folder, background=[str(tmp_path / "empty")])
    with pytest.raises(VolumeError, match=r"e\.tif: every voxel is 7"):
        prepare(load_config(config))
    config["data"]["normalize_by"] = "training"
    prepared = prepare(load_config(config))
    (volume, _), pooled = prepared.background[0], prepared.intensity.pooled
    assert volume.intensity is pooled and pooled.scale > 1
