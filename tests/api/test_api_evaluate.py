"""``evaluate``: files, folders, blocks, and voxels that do not count."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skoots.api import evaluate
from skoots.errors import VolumeError
from skoots.metrics import contingency, score, stack
from skoots.synthetic import make_volume
from skoots.volumes import write_volume

SHAPE = (12, 24, 24)


def true_and_predicted(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the same with an object lost, one split, one shifted, and other numbers."""
    truth = make_volume(SHAPE, seed, radius=(2.0, 3.0))[1].astype(np.int32)
    found = np.roll(truth, 1, axis=2)
    found[found == 2] = 0
    found[6:][found[6:] == 3] = 90
    return truth, np.where(found > 0, found + 7, 0).astype(np.int32)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, list[tuple[np.ndarray, np.ndarray]]]:
    """Two folders of three volumes in several formats, and their arrays."""
    truths, predictions = tmp_path / "truth", tmp_path / "found"
    truths.mkdir()
    predictions.mkdir()
    pairs = [true_and_predicted(seed) for seed in (1, 2, 3)]
    names = [
        ("a", "labels.tif", "segmentation.tif"),
        ("b", "label.zarr", "tif"),
        ("c", "labels.npy", "segmentation.zarr"),
    ]
    for (name, true_end, found_end), (truth, found) in zip(names, pairs):
        write_volume(truths / f"{name}.{true_end}", truth)
        write_volume(truths / f"{name}.tif", truth)  # the image: not to be taken for labels
        write_volume(predictions / f"{name}.{found_end}", found)
    write_volume(predictions / "d.segmentation.tif", pairs[0][1])  # of a volume without truth: not asked for
    return truths, predictions, pairs


def test_two_files(folders: Any) -> None:
    truths, predictions, pairs = folders
    result = evaluate(truths / "a.labels.tif", predictions / "a.segmentation.tif")
    assert result.scores == pytest.approx(score(contingency(*pairs[0])), nan_ok=True)
    assert 0 < result.scores["F1"] < 1
    assert (result.truth, result.prediction) == (
        str(truths / "a.labels.tif"),
        str(predictions / "a.segmentation.tif"),
    )
    assert result.volumes == 1


def test_folders_are_paired_by_name_and_pooled(folders: Any) -> None:
    truths, predictions, pairs = folders
    result = evaluate(truths, predictions)
    assert result.volumes == 3
    assert result.scores == pytest.approx(score(stack(contingency(*pair) for pair in pairs)), nan_ok=True)
    assert result.scores["n_truth"] == sum(len(np.unique(truth)) - 1 for truth, _ in pairs)


def test_zarr_stores_are_volumes_not_folders(folders: Any) -> None:
    truths, predictions, pairs = folders
    result = evaluate(truths / "b.label.zarr", predictions / "b.tif")
    assert result.volumes == 1 and result.scores == pytest.approx(score(contingency(*pairs[1])), nan_ok=True)


def test_a_volume_without_prediction_is_named(folders: Any) -> None:
    truths, predictions, _ = folders
    (predictions / "a.segmentation.tif").unlink()
    with pytest.raises(VolumeError, match=r"found holds no prediction of a; expected a\.segmentation\.tif"):
        evaluate(truths, predictions)
    with pytest.raises(VolumeError, match=r"found holds no labels; expected NAME\.labels\.tif"):
        evaluate(predictions, truths)


@pytest.mark.parametrize("voxels", [1, 1000, 24 * 24 * 5, 10**9])
def test_blocks_change_nothing(voxels: int, folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    truths, predictions, pairs = folders
    module = importlib.import_module("skoots.api.evaluate")  # the verb of the same name hides it
    monkeypatch.setattr(module, "VOXELS_AT_ONCE", voxels)
    expected = score(stack(contingency(*pair).drop_small(60) for pair in pairs))
    assert evaluate(truths, predictions, min_size=60).scores == pytest.approx(expected, nan_ok=True)


def test_small_predictions_are_dropped_first(folders: Any) -> None:
    truths, predictions, pairs = folders
    truth, found = pairs[0]
    sizes = np.bincount(found.ravel())
    limit = int(np.sort(sizes[sizes > 0])[2])
    kept = np.where(sizes[found] >= limit, found, 0)
    result = evaluate(truths / "a.labels.tif", predictions / "a.segmentation.tif", min_size=limit)
    assert result.scores == pytest.approx(score(contingency(truth, kept)), nan_ok=True)
    assert result.scores["n_prediction"] < len(np.unique(found)) - 1


@pytest.mark.parametrize("ignore", [99, -1])
def test_unknown_voxels_do_not_count(ignore: int, tmp_path: Path) -> None:
    truth, found = true_and_predicted(1)
    unknown = np.zeros(SHAPE, bool)
    unknown[:, 5:15, 8:] = True
    write_volume(tmp_path / "truth.npy", np.where(unknown, ignore, truth).astype(np.int32))
    write_volume(tmp_path / "found.npy", found)
    result = evaluate(tmp_path / "truth.npy", tmp_path / "found.npy", ignore_label=ignore)
    assert result.scores == pytest.approx(score(contingency(truth[~unknown], found[~unknown])), nan_ok=True)
    babble = np.where(unknown, np.arange(found.size).reshape(SHAPE), found).astype(np.int32)
    write_volume(tmp_path / "babble.npy", babble)
    assert evaluate(
        tmp_path / "truth.npy", tmp_path / "babble.npy", ignore_label=ignore
    ).scores == pytest.approx(result.scores, nan_ok=True)


def test_volumes_that_cannot_be_compared_are_named(folders: Any, tmp_path: Path) -> None:
    truths, _, _ = folders
    write_volume(tmp_path / "short.tif", np.ones((5, 24, 24), np.uint8))
    with pytest.raises(
        VolumeError, match=r"a\.labels\.tif has shape \(12, 24, 24\) and .*short\.tif has \(5, 24, 24\)"
    ):
        evaluate(truths / "a.labels.tif", tmp_path / "short.tif")
    write_volume(tmp_path / "floats.tif", np.ones(SHAPE, np.float32))
    with pytest.raises(VolumeError, match=r"floats\.tif is float32"):
        evaluate(truths / "a.labels.tif", tmp_path / "floats.tif")
    write_volume(tmp_path / "below.npy", np.full(SHAPE, -1, np.int32))
    with pytest.raises(VolumeError, match="negative label -1"):
        evaluate(truths / "a.labels.tif", tmp_path / "below.npy", ignore_label=-1)
    with pytest.raises(VolumeError, match=r"gone\.tif does not exist"):
        evaluate(truths / "a.labels.tif", tmp_path / "gone.tif")


def test_perfect_and_empty_predictions(tmp_path: Path, write_pair: Callable[..., Any]) -> None:
    _, labels = write_pair(tmp_path, "cell", 1)
    perfect = evaluate(tmp_path / "cell.labels.tif", tmp_path / "cell.labels.tif").scores
    assert (perfect["F1"], perfect["mAP"], perfect["VOI"], perfect["ARAND"]) == (1.0, 1.0, 0.0, 0.0)
    write_volume(tmp_path / "nothing.tif", np.zeros_like(labels))
    nothing = evaluate(tmp_path / "cell.labels.tif", tmp_path / "nothing.tif").scores
    assert (nothing["F1"], nothing["recall"], nothing["n_prediction"]) == (0.0, 0.0, 0.0)
