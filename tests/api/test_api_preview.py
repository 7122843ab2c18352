"""The contact sheet: the samples that a training draws, and the targets of its heads."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.io import imread

from skoots.api import preview
from skoots.api.prepare import prepare
from skoots.api.start import Start
from skoots.api.train import build_runner
from skoots.config import load_config
from skoots.errors import ConfigError, SkootsError
from skoots.reports.contact_sheet import ShownSample

Config = dict[str, Any]
Make = Callable[..., Config]

PLUGIN = '''
from skoots.models.criteria.voxelwise import BCE
from skoots.models.heads.base import HEADS
from skoots.models.heads.probability import ProbabilityHead
from skoots.models.targets.base import TargetGenerator


class DepthTarget(TargetGenerator):
    def __call__(self, batch):
        return {"preview_depth": batch.inscribed.unsqueeze(1)}


@HEADS.register
class PreviewDepthHead(ProbabilityHead):
    """A depth."""

    def __init__(self, in_channels: int, spatial_dims: int = 3) -> None:
        super().__init__("preview_depth", in_channels, spatial_dims, 3, DepthTarget(), None, BCE(), 1.0, 1)
'''


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[ShownSample]:
    """What was drawn last; it is drawn nonetheless."""
    module = importlib.import_module("skoots.api.preview")  # whose name the front door gives to the verb
    kept: list[ShownSample] = []
    draw = module.write_contact_sheet

    def keep(path: Path, samples: list[ShownSample]) -> list[str]:
        kept[:] = samples
        return draw(path, samples)

    monkeypatch.setattr(module, "write_contact_sheet", keep)
    return kept


@pytest.mark.parametrize(("dims", "epoch"), [(2, 1), (3, 4)])
def test_it_shows_the_crops_that_training_draws(
    make_config: Make, shown: list[ShownSample], tmp_path: Path, dims: int, epoch: int
) -> None:
    config = make_config(dims)
    result = preview(config, output=tmp_path / "a.png", samples=3, epoch=epoch)
    runner = build_runner(prepare(load_config(config)), Start(tmp_path), progress=False)
    runner.loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    batches = list(runner.loader)
    images = np.concatenate([batch.images.numpy() for batch in batches])[:3]
    labels = np.concatenate([batch.labels.numpy() for batch in batches])[:3]
    assert np.array_equal(np.stack([sample.image for sample in shown]), images)
    assert np.array_equal(np.stack([sample.labels for sample in shown]), labels)
    assert result.origins == [origin for batch in batches for origin in batch.origins][:3]
    for sample, skeleton in zip(shown, runner.model.targets(batches[0])["skeleton"]["skeleton"]):
        assert np.array_equal(sample.targets["skeleton"], skeleton.numpy())
    assert result.columns == ["image", "labels", "offset", "skeleton"]


def test_only_the_picture_is_written(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert preview(make_config(2), samples=2).picture == Path("preview.png")
    assert os.listdir(tmp_path) == ["preview.png"]
    first = imread("preview.png")
    assert first.shape[1] == pytest.approx(150 * (4 * 3.28 + 0.08), abs=2)
    preview(make_config(2), ["data.augment=none"], samples=1)
    assert len(imread("preview.png")) < len(first)


def test_seed_and_epoch_change_the_crops(make_config: Make, shown: list[ShownSample], tmp_path: Path) -> None:
    def first(*overrides: str, **named: Any) -> np.ndarray:
        preview(make_config(2), overrides, output=tmp_path / "a.png", samples=1, **named)
        return shown[0].image

    image = first()
    assert np.array_equal(first(), image)
    assert not np.array_equal(first(epoch=2), image)
    assert not np.array_equal(first("train_settings.seed=7"), image)


def test_validation_windows_are_spread(make_config: Make, shown: list[ShownSample], tmp_path: Path) -> None:
    sources = [{**make_config(2)["data"]["train"][0], "volumes": 4}]
    config = make_config(2, data={"validation": sources})
    result = preview(config, output=tmp_path / "a.png", samples=2, source="validation")
    assert [origin.split(" from")[0] for origin in result.origins] == [
        "synthetic tubes 1",
        "synthetic tubes 3",
    ]
    assert len(preview(config, output=tmp_path / "a.png", samples=9, source="validation").origins) == 4
    with pytest.raises(ConfigError, match=r"data\.validation: names no validation data to look at"):
        preview(make_config(2), output=tmp_path / "a.png", source="validation")


def test_targets_of_a_custom_head_have_a_column(make_config: Make, tmp_path: Path) -> None:
    plugin = tmp_path / "preview_depth.py"
    plugin.write_text(PLUGIN)
    config = make_config(2)
    config["model"]["heads"] = {"semantic": {"type": "SemanticHead"}, "depth": {"type": "PreviewDepthHead"}}
    result = preview(config, plugins=[str(plugin)], output=tmp_path / "a.png", samples=2)
    assert result.columns[:2] == ["image", "labels"] and len(result.columns) == 3
    assert result.columns[2].startswith("preview_depth, 0 to ")


def test_crops_beyond_the_volume_show_what_is_valid(make_config: Make, tmp_path: Path) -> None:
    config = make_config(2, data={"crop_size": [48, 16]})
    assert preview(config, output=tmp_path / "a.png", samples=2).columns[-1] == "valid"


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ({"output": "cell.tif"}, r"cell\.tif is no name for a PNG file"),
        ({"samples": 0}, "counted from 1"),
        ({"epoch": 0}, "counted from 1"),
    ],
)
def test_what_cannot_be_drawn(make_config: Make, named: dict[str, Any], problem: str) -> None:
    with pytest.raises(SkootsError, match=problem):
        preview(make_config(2), **named)
