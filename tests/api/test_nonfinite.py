"""Networks and images that hold NaN or infinite values: no verb makes results of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api import check, evaluate_snapshot, segment, train
from skoots.api.train import TrainingOutcome
from skoots.errors import SkootsError, VolumeError
from skoots.snapshots import read_snapshot, write_snapshot
from skoots.volumes import write_volume

Make = Callable[..., Any]
SHAPE = (12, 24, 24)


def spoilt(trained: TrainingOutcome, path: Path, value: float, part: str = "") -> Path:
    """The snapshot with some of its weights replaced."""
    state = {
        key: content for key, content in read_snapshot(trained.latest_snapshot).items() if key != "format"
    }
    net = {
        k: torch.full_like(v, value) if part in k and v.is_floating_point() else v
        for k, v in state["net"].items()
    }
    write_snapshot({**state, "net": net}, path)
    return path


@pytest.fixture
def image(tmp_path: Path, write_pair: Make) -> Path:
    write_pair(tmp_path / "data", "a", 7)
    return tmp_path / "data" / "a.tif"


CASES = {
    "all NaN": (math.nan, "", "'vector' gives NaN in its map 'vector'"),
    "all infinite": (math.inf, "", "gives"),
    "NaN in one head": (math.nan, "heads.semantic", "'semantic' gives NaN in its map 'semantic'"),
    "too large for the arithmetic": (3e38, "backbone", "gives NaN"),
    "an infinite bias behind a sigmoid": (math.inf, "heads.semantic.conv.bias", "mean nothing"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("maps", [False, True])
def test_segmenting_names_head_tile_and_weights(
    case: str, maps: bool, trained: TrainingOutcome, image: Path, tmp_path: Path
) -> None:
    value, part, said = CASES[case]
    snapshot, output = spoilt(trained, tmp_path / "s.pt", value, part), tmp_path / "out" / "o.tif"
    output.parent.mkdir()
    with pytest.raises(SkootsError) as error:
        segment(image, snapshot, output, maps=maps, progress=False)
    sentence = str(error.value)
    assert said in sentence and sentence.endswith("Use an earlier snapshot.")
    assert "in the tile from [0, 0, 0] to [" in sentence and str(image) in sentence
    cause = "overflow on the way" if math.isfinite(value) else f"its weights {part}"
    assert cause in sentence
    assert not list(output.parent.iterdir())


def test_an_image_of_one_value_is_no_such_failure(trained: TrainingOutcome, tmp_path: Path) -> None:
    flat = tmp_path / "flat.tif"
    write_volume(flat, np.full(SHAPE, 7, np.uint8), (2.0, 1.0, 1.0))
    with pytest.raises(VolumeError, match="nothing to see"):
        segment(flat, trained.latest_snapshot, tmp_path / "o.tif", progress=False)
    done = segment(flat, trained.latest_snapshot, tmp_path / "o.tif", normalize_by="training", progress=False)
    assert done.output.is_file()


def test_a_later_tile_is_named(trained: TrainingOutcome, tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    image[10, 20, 20] = 1e38
    write_volume(tmp_path / "i.tif", image * 1e-30, (2.0, 1.0, 1.0))
    snapshot = spoilt(trained, tmp_path / "s.pt", 1e30, "backbone")
    with pytest.raises(SkootsError, match=r"in the tile from \[\d+, \d+, \d+\] to .*i\.tif"):
        segment(tmp_path / "i.tif", snapshot, tmp_path / "o.tif", tile=[8, 8, 8], progress=False)


@pytest.mark.parametrize("case", ["all NaN", "NaN in one head"])
def test_a_snapshot_is_not_scored(case: str, trained: TrainingOutcome, tmp_path: Path) -> None:
    value, part, said = CASES[case]
    with pytest.raises(SkootsError, match=said):
        evaluate_snapshot(spoilt(trained, tmp_path / "s.pt", value, part))


@pytest.mark.parametrize(
    "normalize, by, where",
    [
        *(
            (kind, by, "train")
            for kind in ("zscore", "percentile", "asinh", "dtype", "none")
            for by in ("volume", "training")
        ),
        *(("none", "volume", where) for where in ("validation", "test", "background")),
        *(("zscore", "training", where) for where in ("validation", "test", "background")),
    ],
)
def test_a_voxel_that_is_no_number_is_named_before_training(
    normalize: str, by: str, where: str, make_config: Make, write_pair: Make, tmp_path: Path
) -> None:
    value, said = (math.nan, "a NaN") if by == "volume" else (math.inf, "an infinite")
    for name in ("good", "bad"):
        image, _ = write_pair(tmp_path / name, "v", 3)
        image = image.astype(np.float32)
        if name == "bad":
            image[4, 5, 6] = value
        write_volume(tmp_path / name / "v.tif", image, (2.0, 1.0, 1.0), overwrite=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad" / "v.tif").replace(tmp_path / "empty" / "v.tif") if where == "background" else None
    good = {"path": str(tmp_path / "good"), "samples_per_volume": 2}
    bad = str(tmp_path / ("empty" if where == "background" else "bad"))
    data = {"train": [good], "normalize": normalize, "normalize_by": by, "augment": "none"}
    config = make_config(data={**data, where: [{"path": bad, "samples_per_volume": 2}]})
    with pytest.raises(VolumeError, match=rf"v\.tif holds {said} voxel at \[4, 5, 6\]"):
        check(config)
    if where in ("train", "background"):
        with pytest.raises(VolumeError, match=rf"v\.tif holds {said} voxel at \[4, 5, 6\]"):
            train(config, runs=tmp_path / "runs", progress=False)


@pytest.mark.parametrize("value, said", [(math.nan, "a NaN"), (-math.inf, "an infinite")])
@pytest.mark.parametrize("by", ["volume", "training"])
def test_a_voxel_that_is_no_number_is_named_when_segmenting(
    value: float, said: str, by: Any, trained: TrainingOutcome, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).random(SHAPE)
    image[7, 8, 9] = value
    write_volume(tmp_path / "i.npy", image)
    with pytest.raises(VolumeError, match=rf"i\.npy holds {said} voxel at \[7, 8, 9\]"):
        segment(
            tmp_path / "i.npy", trained.latest_snapshot, tmp_path / "o.tif", normalize_by=by, progress=False
        )
    assert not (tmp_path / "o.tif").exists()
