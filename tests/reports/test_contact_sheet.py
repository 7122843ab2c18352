"""The sheet of samples: its columns, and colours at known places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.io import imread

from skoots.reports.contact_sheet import ShownSample, write_contact_sheet
from skoots.reports.figures import id_colours

WIDTH, TITLE, CAPTION, GAP = 480, 48, 48, 12  # dots


def sample(**changes: Any) -> ShownSample:
    """A square object in the second of three sections."""
    labels = np.zeros((3, 12, 12), np.int32)
    labels[1, 2:8, 2:8] = 4
    inside = (labels > 0)[None].astype(np.float32)
    offset = np.zeros((3, 3, 12, 12), np.float32)
    offset[2] = 3 * inside[0]
    skeleton = np.zeros_like(inside)
    skeleton[0, 1, 4:6, 4:6] = 1
    values = {
        "image": np.zeros((1, 3, 12, 12), np.float32),
        "labels": labels,
        "valid": np.ones(labels.shape, bool),
        "targets": {"offset": offset, "foreground": inside, "semantic": inside, "skeleton": skeleton},
        "voxel_size": (2.0, 1.0, 1.0),
        "caption": "a from here",
    }
    return ShownSample(**{**values, **changes})


def cells(path: Path, columns: int, rows: int) -> list[list[np.ndarray]]:
    """The pictures of a sheet of square ones with a caption over each row and titles over the first."""
    sheet = imread(path)[..., :3]
    found = []
    top = 0
    for row in range(rows):
        top += CAPTION + (TITLE if row == 0 else GAP)
        lefts = [GAP + column * (WIDTH + GAP) for column in range(columns)]
        found.append([sheet[top : top + WIDTH, left : left + WIDTH] for left in lefts])
        top += WIDTH
    return found


def at(cell: np.ndarray, row: int, column: int) -> list[int]:
    """The colour of a voxel of 12 x 12."""
    return cell[int((row + 0.5) * 40), int((column + 0.5) * 40)].tolist()


def test_columns_show_image_labels_vectors_and_skeleton(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sheet.png"
    assert write_contact_sheet(path, [sample()]) == ["image", "labels", "offset", "skeleton"]
    ((image, labels, offset, skeleton),) = cells(path, 4, 1)
    colour = id_colours(np.array(4)).tolist()
    assert at(image, 5, 5) == at(image, 0, 0) == at(labels, 0, 0) == at(offset, 0, 0) == [0, 0, 0]
    assert at(labels, 2, 2) == colour and at(skeleton, 4, 4) == colour
    assert at(skeleton, 2, 2) == [0, 0, 0]
    red, green, blue = at(offset, 5, 5)
    assert red == 255 and green == blue < 40


def test_rows_share_one_scale_of_grey_and_of_length(tmp_path: Path) -> None:
    bright = np.linspace(0, 1, 12, dtype=np.float32) * np.ones((1, 3, 12, 1), np.float32)
    half = sample().targets["offset"] / 2
    rows = [
        sample(image=bright),
        sample(image=bright / 2, targets={**sample().targets, "offset": half}),
    ]
    write_contact_sheet(tmp_path / "sheet.png", rows)
    (first, second) = cells(tmp_path / "sheet.png", 4, 2)
    assert at(first[0], 0, 11) == [255] * 3
    assert at(second[0], 0, 11)[0] == pytest.approx(127, abs=3)
    assert at(second[2], 5, 5)[0] == pytest.approx(127, abs=2)


def test_targets_of_other_heads_and_unknown_voxels_have_columns(tmp_path: Path) -> None:
    distance = np.zeros((1, 3, 12, 12), np.float32)
    distance[0, 1, 3] = 8.0
    border = np.zeros((2, 3, 12, 12), np.float32)
    border[1, 1, 9] = 1.0
    valid = np.ones((3, 12, 12), bool)
    valid[1, :2] = False
    targets = {"distance": distance, "border": border}
    columns = write_contact_sheet(tmp_path / "a.png", [sample(), sample(valid=valid)])
    assert columns[-1] == "valid"
    assert cells(tmp_path / "a.png", 5, 2)[0][4].min() == 255
    valid_cell = cells(tmp_path / "a.png", 5, 2)[1][4]
    assert (at(valid_cell, 1, 5), at(valid_cell, 2, 5)) == ([0] * 3, [255] * 3)
    columns = write_contact_sheet(tmp_path / "b.png", [sample(targets=targets)])
    assert columns == ["image", "labels", "distance, 0 to 8", "border 1", "border 2"]
    ((_, _, shown, first, second),) = cells(tmp_path / "b.png", 5, 1)
    assert (at(shown, 3, 0), at(shown, 4, 0)) == ([255] * 3, [0] * 3)
    assert first.max() == 0 and at(second, 9, 0) == [255] * 3


def test_a_map_that_is_not_the_foreground_of_every_sample_is_shown(tmp_path: Path) -> None:
    nearly = (sample().labels > 0)[None].astype(np.float32)
    nearly[0, 1, 0, 0] = 1
    columns = write_contact_sheet(
        tmp_path / "a.png", [sample(), sample(targets={**sample().targets, "semantic": nearly})]
    )
    assert columns == ["image", "labels", "offset", "semantic", "skeleton"]
    soft = {"semantic": (sample().labels > 0)[None] * np.float32(0.5)}
    assert write_contact_sheet(tmp_path / "b.png", [sample(targets=soft)])[2] == "semantic"


def test_the_caption_says_what_is_shown() -> None:
    assert sample().line == "a from here, section 2 of 3; 1 object"
    flat = sample(labels=np.array([[1, 2], [0, 2]]))
    assert flat.line == "a from here; 2 objects"


def test_planes_in_colour(tmp_path: Path) -> None:
    image = np.zeros((3, 12, 12), np.float32)
    image[1] = 1.0
    flat = sample(
        image=image,
        labels=np.zeros((12, 12), np.int32),
        valid=np.ones((12, 12), bool),
        targets={"offset": np.zeros((2, 12, 12), np.float32)},
        voxel_size=(1.0, 1.0),
    )
    assert write_contact_sheet(tmp_path / "a.png", [flat]) == ["image", "labels", "offset"]
    assert at(cells(tmp_path / "a.png", 3, 1)[0][0], 3, 3) == [0, 255, 0]
