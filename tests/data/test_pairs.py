"""What lies in a folder."""

from __future__ import annotations

import re

import pytest

from skoots.data.pairs import find_images, find_labels, find_pairs
from skoots.errors import VolumeError


@pytest.fixture
def folder(tmp_path):
    def fill(*names):
        for name in names:
            (tmp_path / name).touch()
        return tmp_path

    return fill


def test_pairs_by_name_in_order(folder):
    path = folder(
        "b.tif",
        "b.labels.tif",
        "a.ome.tif",
        "a.label.tiff",
        "c.d.npy",
        "c.d.labels.npy",
        "e.TIF",
        "e.labels.tif",
        "b.skeletons.trch",
        "notes.txt",
        ".hidden.tif",
        "alone.tif",
    )
    (path / "z.zarr").mkdir(), (path / "z.labels.ome.zarr").mkdir()
    pairs = find_pairs(path)
    assert [pair.name for pair in pairs] == ["a", "b", "c.d", "e", "z"]
    assert [pair.image.name for pair in pairs] == ["a.ome.tif", "b.tif", "c.d.npy", "e.TIF", "z.zarr"]
    assert pairs[0].labels.name == "a.label.tiff" and pairs[4].labels.name == "z.labels.ome.zarr"
    assert pairs[1].skeletons == path / "b.skeletons.trch"


@pytest.mark.parametrize(
    "names, sentence",
    [
        (
            ["a.tif", "b.tif"],
            "{} holds 2 images and no labels; training needs for instance a.labels.tif beside a.tif.",
        ),
        (["notes.txt"], "{} holds no images; expected NAME.tif with NAME.labels.tif"),
        (["a.labels.tif"], "a.labels.tif has no image beside it; expected {}/a.tif."),
        (["a.tif", "a.npy", "a.labels.tif"], "{0}/a.npy and {0}/a.tif are both images of 'a'; keep one."),
        (["a.tif", "a.label.tif", "a.labels.tif"], "are both labels of 'a'; keep one."),
    ],
)
def test_what_is_wrong_with_a_folder(folder, names, sentence):
    path = folder(*names)
    with pytest.raises(VolumeError, match=re.escape(sentence.format(path))):
        find_pairs(path)


def test_a_missing_folder_and_one_like_it(tmp_path):
    (tmp_path / "training").mkdir()
    with pytest.raises(VolumeError, match=r"trainnig does not exist\. Did you mean .*training\?"):
        find_pairs(tmp_path / "trainnig")
    with pytest.raises(VolumeError, match=r"nowhere/at/all does not exist\.$"):
        find_pairs("/nowhere/at/all")


def test_what_segmenting_wrote_is_no_image(folder):
    path = folder("a.tif", "a.segmentation.tif", "a.segmentation.vector.tif", "b.segmentation.npy")
    assert find_images(path) == {"a": path / "a.tif"}
    folder("a.labels.tif", "a.segmentation.labels.tif")
    assert find_labels(path) == {
        "a": path / "a.labels.tif",
        "a.segmentation": path / "a.segmentation.labels.tif",
    }
