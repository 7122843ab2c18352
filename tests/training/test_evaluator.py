"""Validation: the numbers are those of a direct computation over the same windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from float_maps import decode
from torch import Tensor, nn

from skoots.data.dataset import CoveringDataset
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.loaders import covering_loader
from skoots.instances import SkeletonDecoder
from skoots.metrics import METRIC_NAMES, contingency, score, stack
from skoots.models.nonfinite import NonFiniteMapError
from skoots.models.segmentation_model import SegmentationModel
from skoots.samples import Batch
from skoots.training.evaluator import Evaluator
from skoots.volumes.array import ArrayVolume

Make = Callable[..., Any]
CPU = torch.device("cpu")
WINDOWS = {2: [20, 32], 3: [12, 11, 20]}  # each cuts its volume in two
FOUND = SkeletonDecoder(semantic_threshold=0.4, skeleton_threshold=0.45)


class Oracle(nn.Module):
    """Stands in for a model: outputs the targets that it is given, with some objects rubbed out."""

    def __init__(self, heads: SegmentationModel, forget: int = 0) -> None:
        super().__init__()
        self.heads, self.forget = heads, forget
        self.vector_scale = heads.vector_scale
        self.batch: Batch | None = None

    def forward(self, images: Tensor) -> dict[str, dict[str, Tensor]]:
        return {}

    def targets(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        self.batch = batch
        return self.heads.targets(batch)

    def loss(self, *_: Any) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.batch is not None
        value = self.batch.labels.float().max()
        return value, {"semantic": 2 * value}

    def predict(self, outputs: Any) -> dict[str, Tensor]:
        assert self.batch is not None and self.vector_scale is not None
        targets = self.heads.targets(self.batch)
        kept = (self.batch.labels > self.forget).unsqueeze(1).float()
        scale = torch.tensor(self.vector_scale).view(1, -1, *(1,) * (kept.ndim - 2))
        return {
            "vector": (targets["vector"]["offset"] / scale).clamp(-1, 1),
            "semantic": kept,
            "skeleton": targets["skeleton"]["skeleton"] * kept,
        }


@pytest.fixture
def loader_of(volumes: Mapping[int, LabelledVolume]) -> Make:
    def make(dims: int, volume: LabelledVolume | None = None, window: Sequence[int] | None = None) -> Any:
        return covering_loader(CoveringDataset([volume or volumes[dims]], window or WINDOWS[dims]))

    return make


@pytest.mark.parametrize("dims", [2, 3])
def test_metrics_are_those_of_the_windows_stacked(dims: int, loader_of: Make, make_model: Make) -> None:
    model = make_model(dims)
    metrics = Evaluator(loader_of(dims), FOUND, CPU)(model, 3)
    assert not model.training

    overlaps, losses, sizes = [], [], []
    for batch in loader_of(dims):
        with torch.no_grad():
            outputs = model(batch.images)
            total, parts = model.loss(outputs, model.targets(batch), batch, 3)
        maps = {name: value[0].numpy() for name, value in model.predict(outputs).items()}
        found = decode(maps, model.vector_scale, None, FOUND)
        overlaps.append(contingency(batch.labels[0].numpy(), found))
        losses.append([float(total), *map(float, parts.values())])
        sizes.append(batch.labels.numel())
    assert len(sizes) == 2 and sum(overlap.n_prediction for overlap in overlaps) > 0
    scores = score(stack(overlaps))
    assert {name: metrics[f"test.{name}"] for name in METRIC_NAMES} == pytest.approx(
        {name: scores[name] for name in METRIC_NAMES}, nan_ok=True
    )
    means = np.average(losses, axis=0, weights=sizes)
    names = ["test.loss", "test.loss.vector", "test.loss.semantic", "test.loss.skeleton"]
    assert [metrics[name] for name in names] == pytest.approx(means, rel=1e-6)
    assert set(metrics) == {*names, *(f"test.{name}" for name in METRIC_NAMES)}


@pytest.mark.parametrize("dims", [2, 3])
def test_a_perfect_model_has_perfect_scores(dims: int, loader_of: Make, make_model: Make) -> None:
    whole = loader_of(dims, window=[32] * dims)  # what a window cuts off from its skeleton cannot be found
    metrics = Evaluator(whole, SkeletonDecoder(), CPU)(Oracle(make_model(dims)), 1)  # type: ignore[arg-type]
    assert [metrics[f"test.{name}"] for name in ("F1", "F1@0.75", "AP50", "foreground_IoU")] == [1.0] * 4


def test_objects_are_pooled_over_windows(loader_of: Make, make_model: Make) -> None:
    """One object is forgotten in each of two windows; losses are weighted by their voxels."""
    windows = list(loader_of(2))
    counts = [int(batch.labels.max()) for batch in windows]
    metrics = Evaluator(windows, SkeletonDecoder(), CPU)(Oracle(make_model(2), forget=1), 1)  # type: ignore[arg-type]
    assert metrics["test.recall"] == pytest.approx((sum(counts) - 2) / sum(counts))
    assert metrics["test.precision"] == 1.0
    sizes = [batch.labels.numel() for batch in windows]
    assert metrics["test.loss"] == pytest.approx(np.average(counts, weights=sizes))
    assert metrics["test.loss.semantic"] == pytest.approx(2 * metrics["test.loss"])


def test_ignored_voxels_do_not_count(
    volumes: Mapping[int, LabelledVolume], loader_of: Make, make_model: Make
) -> None:
    """Labels under ``ignore_label`` are a riddle: whatever a model says there, losses and scores stay."""
    volume, model = volumes[2], make_model(2).eval()
    labels = volume.labels.read_all()
    hidden = labels.copy()
    hidden[8:24, 12:20] = 255
    ignoring = replace(volume, labels=ArrayVolume("hidden", hidden, (1.0, 1.0)), ignore_label=255)
    metrics = Evaluator(loader_of(2, ignoring), FOUND, CPU)(model, 1)

    forward = model.forward

    def babble(images: Tensor) -> dict[str, dict[str, Tensor]]:
        """Other maps where nothing is known; vectors there would lead elsewhere, skeletons merge others."""
        outputs = forward(images)
        unknown = ~windows.pop(0).valid.unsqueeze(1)
        outputs["semantic"]["semantic"] = outputs["semantic"]["semantic"].masked_fill(unknown, 0.9)
        return outputs

    windows = list(loader_of(2, ignoring))
    model.forward = babble
    assert Evaluator(loader_of(2, ignoring), FOUND, CPU)(model, 1)["test.loss"] == metrics["test.loss"]
    model.forward = forward

    overlaps = []
    for batch in loader_of(2, ignoring):
        valid = batch.valid[0].numpy()
        maps = {name: value[0].detach().numpy() for name, value in model.predict(model(batch.images)).items()}
        found = decode(maps, model.vector_scale, None, FOUND)
        overlaps.append(contingency(batch.labels[0].numpy()[valid], found[valid]))
    assert 0 < sum(int(overlap.counts.sum()) for overlap in overlaps) == hidden.size - 16 * 8
    scores = score(stack(overlaps))
    assert metrics["test.foreground_Dice"] == pytest.approx(scores["foreground_Dice"])
    assert metrics["test.VOI"] == pytest.approx(scores["VOI"])


def test_without_the_three_maps_there_are_losses_only(loader_of: Make, make_model: Make) -> None:
    whole = make_model(2)
    model = SegmentationModel(whole.backbone, {"semantic": whole.heads["semantic"]})
    metrics = Evaluator(loader_of(2), SkeletonDecoder(), CPU)(model, 1)
    assert set(metrics) == {"test.loss", "test.loss.semantic"}


def test_voxel_size_and_decoding_reach_the_instances(
    volumes: Mapping[int, LabelledVolume], loader_of: Make, make_model: Make
) -> None:
    oracle: Any = Oracle(make_model(3))
    metrics = Evaluator(loader_of(3), SkeletonDecoder(min_size=10**6), CPU)(oracle, 1)
    assert metrics["test.recall"] == 0.0 and metrics["test.foreground_IoU"] == 0.0
    flat = replace(volumes[3], voxel_size=(50.0, 1.0, 1.0))
    oracle.vector_scale = (1e-3, 1e-3, 1e-3)  # nothing is reached by following, all by looking around
    short = SkeletonDecoder(reach=2.0, steps=1)
    assert Evaluator(loader_of(3), short, CPU)(oracle, 1) != Evaluator(loader_of(3, flat), short, CPU)(
        oracle, 1
    )


def test_nothing_is_left_to_differentiate(loader_of: Make, make_model: Make) -> None:
    model = make_model(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Evaluator(loader_of(2), SkeletonDecoder(), CPU)(model, 1)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("head", ["vector", "semantic", "skeleton"])
def test_maps_that_are_no_numbers_are_not_scored_as_no_objects(
    head: str, loader_of: Make, make_model: Make, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(2)
    model.heads[head].conv.bias.data.fill_(float("nan"))
    with caplog.at_level("WARNING"):
        metrics = Evaluator(loader_of(2), FOUND, CPU)(model, 1)
    assert {f"test.{name}" for name in METRIC_NAMES} <= set(metrics)
    assert all(np.isnan(metrics[f"test.{name}"]) for name in METRIC_NAMES)
    others = {"vector", "semantic", "skeleton"} - {head}
    assert np.isnan(metrics["test.loss"]) and all(metrics[f"test.loss.{name}"] > 0 for name in others)
    (warning,) = caplog.messages
    assert f"head '{head}' gives NaN in its map '{head}', in " in warning and "So in 2 windows" in warning
    with pytest.raises(NonFiniteMapError, match=f"head '{head}' gives NaN.*Use an earlier snapshot"):
        Evaluator(loader_of(2), FOUND, CPU, strict=True)(model, 1)


def test_one_spoilt_window_spoils_the_scores(loader_of: Make, make_model: Make) -> None:
    model, seen = make_model(2), []
    forward = model.forward

    def spoil_the_second(images: Tensor) -> dict[str, dict[str, Tensor]]:
        seen.append(images)
        outputs = forward(images)
        if len(seen) == 2:
            outputs["semantic"]["semantic"][..., 0, 0] = float("inf")
        return outputs

    model.forward = spoil_the_second
    metrics = Evaluator(loader_of(2), FOUND, CPU)(model, 1)
    assert len(seen) == 2 and np.isnan(metrics["test.F1"])
