"""``evaluate``: files, folders, blocks, and voxels that do not count."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from skoots.api import evaluate
from skoots.data.pairs import find_pairs
from skoots.data.predictions import looks_grey
from skoots.data.sources import open_pair
from skoots.errors import VolumeError
from skoots.metrics import contingency, score, stack
from skoots.synthetic import make_volume
from skoots.volumes import write_volume
from skoots.volumes.array import ArrayVolume

SHAPE = (12, 24, 24)


@cache
def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its labels."""
    return make_volume(SHAPE, seed, radius=(2.0, 3.0))


def true_and_predicted(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the same with an object lost, one split, one shifted, and other numbers."""
    truth = scene(seed)[1].astype(np.int32)
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
    shutil.copyfile(tmp_path / "cell.labels.tif", tmp_path / "copy.tif")
    perfect = evaluate(tmp_path / "cell.labels.tif", tmp_path / "copy.tif").scores
    assert (perfect["F1"], perfect["mAP"], perfect["VOI"], perfect["ARAND"]) == (1.0, 1.0, 0.0, 0.0)
    write_volume(tmp_path / "nothing.tif", np.zeros_like(labels))
    nothing = evaluate(tmp_path / "cell.labels.tif", tmp_path / "nothing.tif").scores
    assert (nothing["F1"], nothing["recall"], nothing["n_prediction"]) == (0.0, 0.0, 0.0)


def test_what_was_paired_with_what_is_told(folders: Any) -> None:
    truths, predictions, _ = folders
    result = evaluate(truths, predictions)
    names = [(Path(truth).name, Path(found).name) for truth, found in result.pairs]
    assert names == [
        ("a.labels.tif", "a.segmentation.tif"),
        ("b.label.zarr", "b.tif"),
        ("c.labels.npy", "c.segmentation.zarr"),
    ]
    assert result.left_out == ("d.segmentation.tif: there are no true labels of d",)


def grey(seed: int = 0, dtype: type = np.uint16, smooth: bool = False) -> np.ndarray:
    image = scene(seed)[0]
    image = ndimage.gaussian_filter(image, 1) if smooth else image
    return (np.clip(image, 0, 1).astype(float) * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("smooth", [True, False])
def test_grey_images_do_not_look_like_labels(dtype: type, smooth: bool) -> None:
    for seed in (1, 2):
        assert looks_grey(ArrayVolume("", grey(seed, dtype, smooth)))
        assert looks_grey(ArrayVolume("", grey(seed, dtype, smooth)[6]))
        for labels in true_and_predicted(seed):
            assert not looks_grey(ArrayVolume("", labels)) and not looks_grey(ArrayVolume("", labels[6]))
            assert not looks_grey(ArrayVolume("", (labels > 0).astype(np.uint8) * 255))
    assert not looks_grey(ArrayVolume("", np.zeros(SHAPE, np.uint8)))


@pytest.mark.parametrize("same_folder", [True, False])
@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_missing_prediction_is_never_made_up(tmp_path: Path, same_folder: bool, missing: str) -> None:
    """Neither out of the truth nor out of an image."""
    truths, predictions = tmp_path / "truth", tmp_path / ("truth" if same_folder else "found")
    truths.mkdir()
    predictions.mkdir(exist_ok=True)
    for seed, name in enumerate(("a", "b"), 1):
        truth, found = true_and_predicted(seed)
        write_volume(truths / f"{name}.labels.tif", truth)
        write_volume(predictions / f"{name}.tif", grey(seed))
        if name != missing:
            write_volume(predictions / f"{name}.segmentation.tif", found)
    with pytest.raises(
        VolumeError, match=rf"holds no prediction of {missing}; expected {missing}\.seg"
    ) as error:
        evaluate(truths, predictions)
    why = f"it is the image of {missing}.labels.tif" if same_folder else "it looks like a grey image"
    assert f"{missing}.tif: {why}" in str(error.value)
    if not same_folder:
        os.link(truths / f"{missing}.labels.tif", predictions / f"{missing}.labels.tif")
        with pytest.raises(VolumeError, match=rf"{missing}\.labels\.tif: it is the true labels themselves"):
            evaluate(truths, predictions)


def test_all_missing_predictions_are_named_at_once(folders: Any) -> None:
    truths, predictions, _ = folders
    (predictions / "a.segmentation.tif").unlink()
    (predictions / "b.tif").unlink()
    with pytest.raises(VolumeError, match="holds no prediction of a, b; expected"):
        evaluate(truths, predictions)


def test_two_predictions_of_one_name_are_refused(folders: Any) -> None:
    truths, predictions, pairs = folders
    write_volume(predictions / "a.segmentation.npy", pairs[0][1])
    with pytest.raises(VolumeError, match=r"are both a\.segmentation; keep one of them"):
        evaluate(truths, predictions)


def test_an_image_is_refused_by_its_name_and_said_by_its_looks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth, _ = true_and_predicted(1)
    write_volume(tmp_path / "a.labels.tif", truth)
    write_volume(tmp_path / "a.tif", grey())
    with pytest.raises(VolumeError, match=r"a\.tif is the image of a\.labels\.tif by its name"):
        evaluate(tmp_path / "a.labels.tif", tmp_path / "a.tif")
    write_volume(tmp_path / "found.tif", grey())
    evaluate(tmp_path / "a.labels.tif", tmp_path / "found.tif")
    assert "found.tif looks like a grey image" in caplog.text


def the_same(kind: str, folder: Path, labels: np.ndarray) -> tuple[str, str]:
    """Two names of one array."""
    first, other = folder / "a.labels.tif", folder / "b.tif"
    if kind in ("one name", "symbolic link", "hard link"):
        write_volume(first, labels)
        if kind == "one name":
            return str(first), str(folder / "." / "a.labels.tif")
        (os.link if kind == "hard link" else os.symlink)(first, other)
        return str(first), str(other)
    if kind.startswith("Zarr"):
        write_volume(folder / "a.zarr", labels)
        os.symlink(folder / "a.zarr", folder / "b.zarr")
        level = next((p.parent for p in (folder / "a.zarr").glob("*/.zarray")), None) or next(
            p.parent for p in (folder / "a.zarr").glob("*/zarr.json")
        )
        return str(folder / "a.zarr"), str(level if kind == "Zarr level" else folder / "b.zarr")
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"] = labels
        file["hard"], file["soft"] = file["x"], h5py.SoftLink("/x")
    with h5py.File(folder / "b.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(folder / "a.h5"), "/x")
    names = {"HDF5 hard link": "a.h5:/hard", "HDF5 soft link": "a.h5:/soft", "HDF5 external link": "b.h5:/x"}
    return f"{folder / 'a.h5'}:/x", str(folder / names.get(kind, "a.h5:x"))


@pytest.mark.parametrize(
    "kind",
    [
        *("one name", "symbolic link", "hard link", "Zarr link", "Zarr level"),
        *("HDF5 name", "HDF5 hard link", "HDF5 soft link", "HDF5 external link"),
    ],
)
def test_an_array_is_never_compared_with_itself(kind: str, tmp_path: Path) -> None:
    labels, _ = true_and_predicted(1)
    with pytest.raises(VolumeError, match="are the same array; labels compared with themselves say nothing"):
        evaluate(*the_same(kind, tmp_path, labels))


def test_copies_and_other_data_sets_are_other_arrays(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    labels, _ = true_and_predicted(1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = labels, labels
    assert evaluate(f"{tmp_path / 'a.h5'}:/x", f"{tmp_path / 'a.h5'}:/y").scores["F1"] == 1


def test_labels_that_are_their_own_image_train_nothing(tmp_path: Path) -> None:
    labels, _ = true_and_predicted(1)
    write_volume(tmp_path / "a.tif", labels)
    os.link(tmp_path / "a.tif", tmp_path / "a.labels.tif")
    with pytest.raises(VolumeError, match="are the same array: there are no labels"):
        open_pair(find_pairs(tmp_path)[0])
