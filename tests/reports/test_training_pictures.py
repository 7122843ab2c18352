"""Pictures of a network in training, at pixels where the right colour is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.io import imread

from skoots.reports.figures import FALSE, HIT, MISSED, id_colours, longest_vector, vector_wheel
from skoots.reports.training_pictures import (
    BESIDE,
    TITLES,
    UNKNOWN,
    colour_wheel,
    training_pictures,
    write_training_sheet,
)

SHAPE = (3, 12, 16)
SHOWN = 1
SCALE, SIGMA = (2.0, 4.0, 4.0), (3.0, 3.0, 3.0)


def window(ndim: int = 3) -> dict[str, Any]:
    """Two boxes in the middle section, in an image of one grey, and what a perfect network makes of them."""
    labels = np.zeros(SHAPE, np.int32)
    labels[SHOWN:, 2:8, 2:7] = 1
    labels[SHOWN, 2:8, 9:14] = 2
    if ndim == 2:
        labels = labels[SHOWN]
    offset = np.zeros((ndim, *labels.shape), np.float32)
    offset[-1] = np.where(labels == 1, 2.0, np.where(labels == 2, -2.0, 0.0))
    skeleton = np.zeros(labels.shape, np.float32)
    skeleton[..., 5, 3:6] = skeleton[..., 5, 10:13] = 1
    scale = np.reshape(SCALE[-ndim:], (-1, *(1,) * ndim))
    return {
        "image": np.zeros((1, *labels.shape), np.float32),
        "labels": labels,
        "valid": np.ones(labels.shape, bool),
        "offset": offset,
        "maps": {
            "semantic": (labels > 0)[None].astype(np.float32),
            "skeleton": skeleton[None],
            "vector": (offset / scale).astype(np.float32),
        },
        "voxel_size": (1.0,) * ndim,
        "threshold": 0.5,
        "skeleton": skeleton,
        "instances": np.where(labels == 1, 5, np.where(labels == 2, 3, 0)),
        "scale": SCALE[-ndim:],
        "sigma": SIGMA[-ndim:],
    }


def halves(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    width = (picture.shape[1] - BESIDE) // 2
    assert (picture[:, width:-width] == 255).all()
    return picture[:, :width], picture[:, -width:]


def tinted(colour: tuple[int, int, int]) -> list[int]:
    """As it shows over black."""
    return np.rint(0.6 * np.asarray(colour)).astype(int).tolist()


def colours_in(picture: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, picture.reshape(-1, 3).tolist()))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_perfect_prediction(ndim: int) -> None:
    seen = window(ndim)
    pictures = training_pictures(**seen)
    assert list(pictures) == list(TITLES)
    for name, titles in TITLES.items():
        width = 16 * len(titles) + BESIDE * (len(titles) - 1)
        assert pictures[name].shape == (12, width, 3) and pictures[name].dtype == np.uint8
    assert colours_in(pictures["semantic"]) == {(0, 0, 0), tuple(tinted(HIT))}
    assert np.array_equal(pictures["instances"], pictures["truth"])
    assert colours_in(pictures["embedding"]) == {(0, 0, 0), (255, 255, 255)}
    for name in ("vectors", "skeletons"):
        predicted, true = halves(pictures[name])
        assert np.array_equal(predicted, true) and predicted.max() == 255
    foreground = seen["labels"].reshape(-1, 12, 16)[SHOWN if ndim == 3 else 0] > 0
    assert np.array_equal(pictures["semantic"].any(-1), foreground)
    assert np.array_equal(pictures["embedding"].any(-1), foreground)


def test_truth_and_decoded_objects_have_the_colours_of_their_ids() -> None:
    seen = window()
    seen["instances"][:, 10, 2] = 9  # nothing true is there
    pictures = training_pictures(**seen)
    for id, row, column in ((1, 2, 2), (2, 2, 9)):
        for name in ("truth", "instances"):
            assert pictures[name][row, column].tolist() == id_colours(np.array(id)).tolist()
    assert pictures["truth"][10, 2].max() == 0
    assert tuple(pictures["instances"][10, 2]) not in {tuple(id_colours(np.array(id))) for id in (1, 2)}


def test_hit_false_and_missed() -> None:
    seen = window()
    semantic = seen["maps"]["semantic"]
    semantic[0, SHOWN, 3, 3] = 0.6
    semantic[0, SHOWN, 3, 4], semantic[0, SHOWN, 10, 2] = 0.4, 0.7
    picture = training_pictures(**seen)["semantic"]
    assert [picture[3, 3].tolist(), picture[3, 4].tolist(), picture[10, 2].tolist()] == [
        tinted(HIT),
        tinted(MISSED),
        tinted(FALSE),
    ]
    picture = training_pictures(**{**seen, "threshold": 0.65})["semantic"]
    assert picture[3, 3].tolist() == tinted(MISSED)


def test_opposite_vectors_have_opposite_hues() -> None:
    """The first object points right and the second left; the prediction has it the other way round."""
    seen = window()
    seen["maps"]["vector"] *= -1
    predicted, true = halves(training_pictures(**seen)["vectors"])
    red, cyan = true[4, 4].astype(int), true[4, 11].astype(int)
    assert red[0] > 200 and red[1] == red[2] < 40 and cyan[1] == cyan[2] > 200 and cyan[0] < 40
    assert predicted[4, 4].tolist() == cyan.tolist() and predicted[4, 11].tolist() == red.tolist()


def test_predicted_vectors_are_as_bright_as_true_ones_of_their_length() -> None:
    seen = window()
    seen["maps"]["vector"] /= 2
    predicted, true = halves(training_pictures(**seen)["vectors"])
    assert np.abs(predicted.astype(int) - true / 2).max() <= 1
    seen["maps"]["semantic"][:] = 0
    seen["maps"]["vector"][:] = 1
    predicted, _ = halves(training_pictures(**seen)["vectors"])
    assert predicted[10, 2].max() == 0  # neither truth nor prediction has an object there


def test_the_embedding_is_the_published_gaussian() -> None:
    seen = window()
    seen["maps"]["vector"][0, SHOWN, 4, 4] += 1.5 / SCALE[0]
    seen["maps"]["vector"][2, SHOWN, 4, 4] += 2.0 / SCALE[2]
    probability = np.exp(-(1.5**2 + 2.0**2) / (2 * 3.0**2))
    red, green, blue = training_pictures(**seen)["embedding"][4, 4].astype(int)
    assert red + green + blue == pytest.approx(3 * 255 * probability, abs=1)


def test_what_is_not_known_is_grey_where_it_is_compared() -> None:
    seen = window()
    seen["valid"][SHOWN, 3, 3] = False
    pictures = training_pictures(**seen)
    for name in ("truth", "semantic", "embedding"):
        assert tuple(pictures[name][3, 3]) == UNKNOWN
    for name in ("vectors", "skeletons"):
        predicted, true = halves(pictures[name])
        assert tuple(true[3, 3]) == UNKNOWN and tuple(predicted[3, 3]) != UNKNOWN


@pytest.mark.parametrize(
    ("changes", "maps", "gone"),
    [
        (
            {"scale": None, "sigma": None, "instances": None},
            {"vector"},
            {"vectors", "embedding", "instances"},
        ),
        ({"instances": None}, {"semantic"}, {"semantic", "instances"}),
        ({"instances": None, "skeleton": None}, {"skeleton"}, {"skeletons", "instances"}),
        ({"sigma": None}, set(), {"embedding"}),
    ],
)
def test_what_a_model_lacks_is_left_out(changes: dict[str, Any], maps: set[str], gone: set[str]) -> None:
    seen = {**window(), **changes}
    seen["maps"] = {name: values for name, values in seen["maps"].items() if name not in maps}
    assert set(TITLES) - set(training_pictures(**seen)) == gone


def test_pictures_are_in_proportion() -> None:
    pictures = training_pictures(**{**window(), "voxel_size": (5.0, 1.0, 2.0)})
    assert pictures["image"].shape == (12, 32, 3)
    assert pictures["vectors"].shape == (12, 64 + BESIDE, 3)
    assert np.array_equal(*halves(pictures["vectors"]))


def test_the_key_shows_the_colours_of_the_wheel() -> None:
    key = colour_wheel(65)
    assert key.shape == (65, 65, 3) and (key[0, 0] == 255).all() and key[32, 32].max() == 0
    right = vector_wheel(np.array([0.0, 1.0]).reshape(2, 1, 1), longest=1.0)[0, 0]
    assert key[32, 64].tolist() == right.tolist()
    assert longest_vector(np.zeros((2, 3, 3))) == 1.0


def test_the_sheet_holds_every_picture(tmp_path: Path) -> None:
    pictures = {
        name: np.full((12, 16 * len(titles) + BESIDE * (len(titles) - 1), 3), 40 + 20 * number, np.uint8)
        for number, (name, titles) in enumerate(TITLES.items())
    }
    sheet = imread(write_training_sheet(tmp_path / "figures" / "a.png", pictures, "epoch 3"))[..., :3]
    assert sheet.shape[1] == pytest.approx(150 * (5 * 3.28 + 0.08), abs=2)
    for number, titles in enumerate(TITLES.values()):
        area = (sheet == 40 + 20 * number).all(axis=-1).sum()
        assert area == pytest.approx(len(titles) * 480 * 360, rel=0.03)
    few = {name: pictures[name] for name in ("image", "truth")}
    sheet = imread(write_training_sheet(tmp_path / "b.png", few))[..., :3]
    assert sheet.shape[1] == pytest.approx(150 * (2 * 3.28 + 0.08), abs=2)
