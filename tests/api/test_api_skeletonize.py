"""``skeletonize``: every labelled volume of a folder, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api import skeletonize
from skoots.data.skeleton_file import read_content
from skoots.errors import VolumeError
from skoots.skeletons import skeletonize as trace
from skoots.volumes import write_volume

Make = Callable[..., Any]


def test_every_volume_of_a_folder_is_reported(write_pair: Make, tmp_path: Path) -> None:
    truths = {"a": write_pair(tmp_path, "a", 1)[1], "b": write_pair(tmp_path, "b", 2, extension="zarr")[1]}
    report = skeletonize(tmp_path, threads=1, progress=False)
    assert [volume.name for volume in report.volumes] == ["a", "b"]
    for volume in report.volumes:
        assert volume.path == tmp_path / f"{volume.name}.skeletons.trch" and volume.path.is_file()
        assert volume.objects == len(np.unique(truths[volume.name])) - 1
        assert volume.traced and volume.seconds > 0
        expected = trace(truths[volume.name], (2.0, 1.0, 1.0))
        assert np.array_equal(read_content(volume.path)["points"], expected.points)


def test_what_fits_its_labels_is_kept(write_pair: Make, tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 1)
    write_pair(tmp_path, "b", 2)
    skeletonize(tmp_path, progress=False)
    before = (tmp_path / "a.skeletons.trch").stat().st_mtime_ns
    _, labels = write_pair(tmp_path / "other", "b", 3)
    write_volume(tmp_path / "b.labels.tif", labels, (2.0, 1.0, 1.0), overwrite=True)
    assert [volume.traced for volume in skeletonize(tmp_path, progress=False).volumes] == [False, True]
    assert (tmp_path / "a.skeletons.trch").stat().st_mtime_ns == before
    assert [volume.traced for volume in skeletonize(tmp_path, progress=False).volumes] == [False, False]
    assert [v.traced for v in skeletonize(tmp_path, overwrite=True, progress=False).volumes] == [True, True]
    stated = skeletonize(tmp_path, voxel_size=(9.0, 1.0, 1.0), progress=False)
    assert [volume.traced for volume in stated.volumes] == [True, True]


@pytest.mark.parametrize("ids", [(1, 2, 3), (7, 70000, 12)])
def test_pairs_whose_skeletons_touch_are_counted(ids: tuple[int, ...], tmp_path: Path) -> None:
    """Three lines of one voxel: the first two side by side, the third apart."""
    labels = np.zeros((3, 12, 12), np.int32)
    for row, number in zip((2, 3, 8), ids):
        labels[1, row, 2:10] = number
    write_volume(tmp_path / "lines.labels.tif", labels)
    write_volume(tmp_path / "lines.tif", (labels > 0).astype(np.uint8))
    (volume,) = skeletonize(tmp_path, progress=False).volumes
    assert (volume.objects, volume.touching) == (3, 1)


def test_training_finds_them(
    write_pair: Make, make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skoots.api import check

    write_pair(tmp_path / "train", "a", 1)
    skeletonize(tmp_path / "train", progress=False)
    monkeypatch.setattr("skoots.data.skeleton_cache.trace_volume", lambda *_: pytest.fail("traced again"))
    report = check(make_config(data={"train": [str(tmp_path / "train")]}))
    assert any("a, 12 x 24 x 24 voxels" in line for line in report.lines)


def test_a_folder_without_pairs_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="holds no images"):
        skeletonize(tmp_path, progress=False)
    with pytest.raises(VolumeError, match=r"gone does not exist"):
        skeletonize(tmp_path / "gone", progress=False)


def test_files_hold_tensors_only(write_pair: Make, tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 1)
    (volume,) = skeletonize(tmp_path, progress=False).volumes
    content = torch.load(volume.path, weights_only=True)
    assert set(content) == {"format", "fingerprint", "ids", "starts", "points", "inscribed"}
