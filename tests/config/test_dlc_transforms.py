"""The transforms of DeepLabCut's ``data`` section."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from skoots.api.build import build_augmentations
from skoots.config import load_config
from skoots.config.yaml12 import parse
from skoots.data.augment import Frame, Sequential
from skoots.data.sources import DATASETS, Folder
from skoots.errors import ConfigError

PAGE = Path(__file__).parent / "dlc_page" / "detector.yaml"
AFFINE = {"p": 0.9, "rotation": 30, "scaling": [0.5, 1.25], "translation": 40}
FLIP = {"type": "Flip", "rate": 0.5, "axes": ["x"]}
IN_OUR_WORDS = {
    "type": "Affine", "rate": 0.9, "degrees": 30.0, "scale": [0.5, 1.25], "translate": 40.0,
}  # fmt: skip


def page() -> dict[str, Any]:
    """The page's own ``data``, which it shows for a detector and says to be the same for any model."""
    tree, faults = parse(PAGE.read_text())
    assert not faults
    return tree["detector"]["data"]


def said(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config({"data": data})
    return [str(fault) for fault in caught.value.faults]


def test_the_page_s_own_block() -> None:
    data = load_config({"data": page()}).data
    assert (data.train, data.augment, data.normalize) == ([], [FLIP, IN_OUR_WORDS], "zscore")
    assert data.augment == load_config(load_config({"data": page()}).resolved()).data.augment


def test_a_data_set_stands_beside_the_transforms() -> None:
    source = {"path": "cells", "samples_per_volume": 4}
    for train in ({**source, "hflip": True}, [{**source, "hflip": True}]):
        data = load_config({"data": {"train": train}}).data
        assert data.train == [{"type": "Folder", **source}] and data.augment == [FLIP]
    data = load_config({"data": {"train": ["a", {"path": "b", "affine": AFFINE}]}}).data
    assert [node["path"] for node in data.train] == ["a", "b"] and data.augment == [IN_OUR_WORDS]
    overridden = load_config({"data": page()}, ["data.train.path=cells"]).data
    assert overridden.train == [{"type": "Folder", "path": "cells"}] and len(overridden.augment) == 2
    named = {"type": "Synthetic", "shape": [8, 8]}
    data = load_config({"data": {"train": {**named, "hflip": True}}}).data
    assert data.train == [named] and data.augment == [FLIP]


def test_a_data_set_keeps_its_own_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_parts", {name: DATASETS.get(name) for name in DATASETS.names()})

    @DATASETS.register
    class Mirrored(Folder):
        def __init__(self, path: str, hflip: bool = False) -> None:
            super().__init__(path)

    own = {"type": "Mirrored", "path": "a", "hflip": True}
    data = load_config({"data": {"train": {**own, "affine": AFFINE}}}).data
    assert data.train == [own] and data.augment == [IN_OUR_WORDS]


def test_nothing_but_what_is_written() -> None:
    assert load_config({"data": {"train": {"normalize_images": True}}}).data.augment == "none"
    assert load_config({"data": {"train": {"affine": None, "hflip": False}}}).data.augment == "none"
    assert load_config({"data": {"inference": {"normalize_images": True}}}).data.augment == "default"
    rate = load_config({"data": {"train": {"hflip": 0.2}}}).data.augment
    assert rate == [{**FLIP, "rate": 0.2}]


@pytest.mark.parametrize(
    ("keys", "normalize"),
    [
        ({"train": {"normalize_images": True}}, "zscore"),
        ({"train": {"normalize_images": True}, "normalize": "percentile"}, "percentile"),
        ({"train": {"normalize_images": False}}, "none"),
        ({"inference": {"normalize_images": False}}, "none"),
        ({"train": {"scale_to_unit_range": True}, "inference": {"scale_to_unit_range": True}}, "dtype"),
    ],
)
def test_normalisation(keys: dict[str, Any], normalize: str) -> None:
    assert load_config({"data": keys}).data.normalize == normalize


def test_noise_is_measured_in_grey_levels() -> None:
    for kind, unit in (("zscore", 4), ("dtype", 1), ("none", 255)):
        data = load_config({"data": {"train": {"gaussian_noise": 25.5}, "normalize": kind}}).data
        assert data.augment == [{"type": "Noise", "rate": 0.5, "deviation": pytest.approx(0.1 * unit)}]


def test_faults() -> None:
    transforms = {
        "affine": {"rotatio": 3, "scaling": [2, 1]}, "hflipp": True, "crop_sampling": {"width": 3},
        "auto_padding": False, "hflip": {"symmetries": [[1, 2]]},
    }  # fmt: skip
    assert sorted(said({"colormode": "BGR", "train": transforms, "inference": {"hflip": True}})) == [
        'data.colormode: is "BGR", must be "RGB". Colour images are read as red, green and blue.',
        "data.inference.hflip: disturbs images, and inference takes them as they are. Leave it out.",
        "data.train.affine.rotatio: unknown key. Did you mean rotation or keep_ratio?",
        "data.train.affine.scaling: must be a smallest and a largest factor, is [2, 1]. Exchange them.",
        "data.train.crop_sampling: has no counterpart here. Write data.crop_size, and data.sampling for "
        "what crops are drawn around.",
        "data.train.hflip.symmetries: names points to be exchanged, which labels do not have, is [[1, 2]]. "
        "Leave it out.",
        "data.train.hflipp: unknown key. Did you mean hflip?",
    ]
    assert said({"augment": "default", "train": {"hflip": True}}) == [
        "data.augment: is given, and transforms under data.train too. Keep one of the two."
    ]
    assert said({"train": [{"path": "a", "hflip": True}, {"path": "b", "hflip": True}]}) == [
        "data.train.1: has transforms, and data.train.0 too. All data sets are transformed alike: give them "
        "once."
    ]
    assert said({"train": {"normalize_images": True}, "inference": {"normalize_images": False}}) == [
        "data.train: normalises images otherwise than data.inference. Training and inference normalise alike."
    ]
    assert said({"train": {"normalize_images": True}, "normalize": "none"}) == [
        'data.normalize: is "none", but data.train says otherwise. Leave it out.'
    ]
    assert (
        "is true, and normalize_images too"
        in said({"train": {"normalize_images": True, "scale_to_unit_range": True}})[0]
    )


@pytest.mark.parametrize("shape", [(64, 96), (16, 64, 96)])
def test_maps_drawn_are_those_that_the_page_describes(shape: tuple[int, ...]) -> None:
    """Angles, factors, shifts and mirrored axes of 4000 maps, taken from where they send two points."""
    sequence = Sequential(build_augmentations(load_config({"data": page()})))
    frame, rng, count = Frame(shape, (1.0,) * len(shape)), np.random.default_rng(0), 4000
    centre = (np.array(shape) - 1) / 2
    angles, factors, shifts, mirrored, still = [], [], [], 0, 0
    for _ in range(count):
        drawn = sequence.draw_map(frame, rng)
        matrix, offset = drawn.matrices[0], drawn.offsets[0]  # from the crop to what it shows
        assert len(drawn.matrices) == 1
        if len(shape) == 3:  # sections stay where they are
            assert matrix[0].tolist() == [1, 0, 0] and offset[0] == 0
        forward = np.linalg.inv(matrix)[-2:, -2:]
        moved = (np.linalg.inv(matrix) @ (centre - offset) - centre)[-2:]
        flips = np.linalg.det(forward) < 0
        mirrored += flips
        if flips:  # a mirrored x before the turn
            forward = forward @ np.diag([1, -1])
        if np.allclose(forward, np.eye(2)) and np.allclose(moved, 0):
            still += 1
            continue
        factor = math.sqrt(np.linalg.det(forward))
        assert np.allclose(forward @ forward.T, factor**2 * np.eye(2))  # a turn and a factor, nothing else
        factors.append(factor)
        angles.append(math.degrees(math.atan2(forward[1, 0], forward[0, 0])))
        shifts.append(moved)
    assert abs(mirrored / count - 0.5) < 0.03 and abs(still / count - 0.1) < 0.02
    for values, low, high in ((angles, -30, 30), (factors, 0.5, 1.25), *((s, -40, 40) for s in zip(*shifts))):
        assert low <= min(values) and max(values) <= high
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3
