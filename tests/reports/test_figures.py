"""Figures: colours at known pixels, sizes of files, curves that are drawn."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from skimage.io import imread
from skimage.segmentation import find_boundaries

from skoots.errors import SkootsError
from skoots.reports import figures
from skoots.reports.figures import (
    FALSE,
    HIT,
    MISSED,
    colour_by_match,
    heat,
    id_colours,
    middle_slice,
    overlay,
    semantic_overlay,
    to_rgb,
    training_curves,
    vector_wheel,
    write_panels,
    write_prediction_figure,
)


def test_middle_slice():
    volume = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    assert np.array_equal(middle_slice(volume), volume[2])
    assert np.array_equal(middle_slice(volume, axis=1), volume[:, 3])
    assert np.array_equal(middle_slice(volume[0]), volume[0])


def test_colours_last_and_neighbours_differ():
    colours = id_colours(np.arange(400)).astype(int)
    assert np.array_equal(id_colours(np.array([[7, 0]])), colours[[7, 0]][None])
    assert colours[0].tolist() == [0, 0, 0]
    steps = np.abs(np.diff(colours, axis=0)).sum(axis=1)
    assert steps.min() > 100
    assert len(np.unique(colours[1:200], axis=0)) == 199
    assert colours[1:].max(axis=1).min() > 200


def test_hsv_as_in_the_standard_library():
    hsv = np.random.default_rng(0).random((3, 50))
    expected = [[255 * v for v in colorsys.hsv_to_rgb(*row)] for row in hsv.T]
    assert np.allclose(figures.hsv_to_rgb(*hsv), expected, atol=0.51)


def test_overlay_tints_inside_and_draws_boundaries():
    image, labels = np.full((9, 12), 100, np.uint8), np.zeros((9, 12), int)
    labels[1:8, 1:6], labels[1:8, 6:11] = 3, 4
    picture = overlay(image, labels, opacity=0.5)
    assert picture.dtype == np.uint8 and picture.shape == (9, 12, 3)
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert picture[4, 5].tolist() == id_colours(np.array(3)).tolist()
    assert picture[4, 6].tolist() == id_colours(np.array(4)).tolist()
    assert np.allclose(picture[4, 3], (100 + id_colours(np.array(3)).astype(float)) / 2, atol=0.51)


def test_boundaries_as_in_scikit_image():
    labels = np.kron(np.random.default_rng(1).integers(0, 4, (6, 6)), np.ones((4, 4), int))
    assert np.array_equal(figures.boundaries(labels), find_boundaries(labels, connectivity=1, mode="inner"))


def test_semantic_overlay():
    picture = semantic_overlay(np.array([[0, 5, 0, 5]]), np.array([[0, 0, 9, 9]]))
    assert picture.tolist() == [[[0, 0, 0], list(MISSED), list(FALSE), list(HIT)]]


def test_vector_wheel():
    right, left, still = (0, 1), (0, -1), (0, 0)
    vectors = np.array([right, left, still], float).T[:, None, :]
    picture = vector_wheel(vectors)
    red, cyan, black = picture[0].tolist()
    assert red[0] == 255 and red[1] == red[2] < 40
    assert cyan[1] == cyan[2] == 255 and cyan[0] < 40
    assert black == [0, 0, 0]
    three = np.concatenate([np.full((1, 1, 3), 9.0), vectors])
    assert np.array_equal(vector_wheel(three), picture)
    assert vector_wheel(np.zeros((2, 4, 5))).max() == 0


def test_heat():
    assert heat(np.array([[0, 1 / 3, 2 / 3, 1, 7, np.nan]])).tolist() == [
        [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255], [255, 255, 255], [0, 0, 0]]
    ]


def test_contrast_is_stretched_except_for_bytes():
    ramp = np.arange(1000, 2000, dtype=np.uint16).reshape(20, 50)
    assert (to_rgb(ramp).min(), to_rgb(ramp).max()) == (0, 255)
    assert to_rgb(ramp)[10, 0].tolist() == [128] * 3
    assert to_rgb(np.full((2, 2), 9, np.uint8)).tolist() == [[[9] * 3] * 2] * 2
    assert to_rgb(np.full((2, 2), 9.0)).max() == 0


def test_matched_predictions_take_the_colour_of_the_truth():
    truth = np.array([[7, 7, 7, 0, 9, 9, 0, 0]])
    prediction = np.array([[1, 1, 1, 1, 2, 3, 4, 0]])
    recoloured = colour_by_match(truth, prediction)[0].tolist()
    assert recoloured[:4] == [7] * 4
    assert recoloured[7] == 0
    halves, spurious = sorted(recoloured[4:6]), recoloured[6]
    assert halves[0] == 9 and halves[1] > 9 and spurious > 9 and spurious != halves[1]


def test_panels_show_their_pictures_in_order(tmp_path):
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    panels = [(name, np.full((10, 20, 3), colour, np.uint8)) for name, colour in zip("abc", colours)]
    sheet = imread(write_panels(tmp_path / "new" / "sheet.png", panels, columns=2))[..., :3]
    seen = [np.argwhere((sheet == colour).all(axis=-1)) for colour in colours]
    for where in seen:
        height, width = np.ptp(where, axis=0) + 1
        assert width == pytest.approx(480, abs=3) and width / height == pytest.approx(2, rel=0.03)
    first, second, third = (where.mean(axis=0) for where in seen)
    assert first[0] == pytest.approx(second[0], abs=1) and second[1] > first[1]
    assert first[1] == pytest.approx(third[1], abs=1) and third[0] > first[0]
    assert (sheet[:20].min(axis=(1, 2)) == 255).any() and sheet[: int(first[0])].min() == 0  # a title above


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("with_truth", [True, False])
def test_prediction_figure(tmp_path, ndim, with_truth):
    shape = (4, 12, 16)[-ndim:]
    labels = np.zeros(shape, int)
    labels[..., 3:9, 3:9] = 5
    prediction = np.where(labels, 1, 0)
    image = np.random.default_rng(2).random((1, *shape))
    path = write_prediction_figure(
        tmp_path / "prediction.png",
        image,
        labels if with_truth else None,
        prediction,
        {"skeleton": (labels > 0)[None].astype(np.float32)},
        voxel_size=(3.0, 1.0, 1.0)[-ndim:],
    )
    sheet = imread(path)[..., :3].astype(int)
    columns = 4 if with_truth else 3
    assert sheet.shape[1] == pytest.approx(150 * (columns * 3.28 + 0.08), abs=2)
    rows = 3.2 * 0.75 * (ndim - 1) + 0.32 * (ndim - 1) + 0.08  # 12 x 16, and 4 sections of 3 across 16
    assert sheet.shape[0] == pytest.approx(150 * rows, abs=2)
    colour = id_colours(np.array(5 if with_truth else 1))
    painted = np.argwhere((sheet == colour).all(axis=-1))[:, 1] // (sheet.shape[1] / columns)
    assert set(painted.tolist()) == ({1, 3} if with_truth else {2})


def test_prediction_figure_in_colour(tmp_path):
    image = np.zeros((3, 8, 8), np.uint8)
    image[1] = 222
    empty = np.zeros((8, 8), int)
    sheet = imread(write_prediction_figure(tmp_path / "rgb.png", image, None, empty))[..., :3]
    assert (sheet == (0, 222, 0)).all(axis=-1).mean() > 0.6


def test_curves_are_read_and_grouped(tmp_path):
    table = tmp_path / "learning_stats.csv"
    table.write_text(
        "epoch,lr,train.loss,train.vector.loss,test.F1,test.VOI_split,test.n_truth,test.mine,test.AP50\n"
        "1,.1,2,1,,,,,\n2,.1,1,nan,.5,.3,7,.4,.6\n"
    )
    curves = figures._read_curves(table)
    assert curves["train.loss"] == ([1, 2], [2, 1])
    assert curves["train.vector.loss"] == ([1], [1])
    assert curves["test.F1"] == ([2], [0.5])
    losses, scores, errors = figures._group_curves(curves).values()
    assert list(losses) == ["train.loss", "train.vector.loss"]
    assert (list(scores), list(errors)) == (["test.F1", "test.mine"], ["test.VOI_split"])


def test_training_curves_draw_every_curve(tmp_path):
    table = tmp_path / "learning_stats.csv"
    rows = [f"{k},{1 / k},{1 - 1 / k}\n" for k in range(1, 60)]
    table.write_text("epoch,train.loss,test.F1\n" + "".join(rows))
    picture = imread(training_curves(tmp_path / "curves.png", table))[..., :3].astype(float)
    assert picture.shape[:2] == (432, 1656)
    colour = id_colours(np.array(1)) * 0.85
    near = np.abs(picture - colour).max(axis=-1) < 25
    left, middle, right = (near[:, part * 552 : (part + 1) * 552].sum() for part in range(3))
    assert left > 300 and middle > 300 and right == 0


def test_missing_and_foreign_tables(tmp_path):
    with pytest.raises(SkootsError, match=r"no\.csv does not exist; a run writes it after its first epoch"):
        training_curves(tmp_path / "a.png", tmp_path / "no.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SkootsError, match=r"other\.csv has no rows with a column 'epoch'"):
        training_curves(tmp_path / "a.png", tmp_path / "other.csv")


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SkootsError, match=r"picture\.png cannot be written: .*Choose another path"):
        write_panels(tmp_path / "file" / "picture.png", [("a", np.zeros((2, 2), np.uint8))])


def test_captions_and_a_footer_are_lines_of_their_own(tmp_path):
    panels = [("", np.full((10, 10, 3), colour, np.uint8)) for colour in (99, 101)]
    plain = imread(write_panels(tmp_path / "a.png", panels, columns=1))[..., 0]
    written = imread(write_panels(tmp_path / "b.png", panels, 1, ["first"], "last"))[..., 0]
    assert len(written) - len(plain) == pytest.approx(2 * 48, abs=2)
    first, second = (np.flatnonzero((written == colour).sum(axis=1) > 400) for colour in (99, 101))
    assert written[: first[0]].min() < 60 and written[second[-1] + 1 :].min() < 60
    assert written[first[-1] + 2 : second[0] - 1].min() == 255
