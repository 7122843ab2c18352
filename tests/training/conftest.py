"""A tiny training, built part by part, for the tests of the loop and of validation."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from skoots.data.augment import default_augmentations
from skoots.data.dataset import CropDataset
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.loaders import train_loader
from skoots.data.sources import Reading, Synthetic
from skoots.loggers.csv import CSVLogger
from skoots.models.backbones.unet import UNet
from skoots.models.heads.base import Head
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.models.segmentation_model import SegmentationModel
from skoots.snapshots import SnapshotManager
from skoots.training.averaging import ExponentialAverage, StochasticAverage
from skoots.training.observers import LoggerObserver
from skoots.training.optimizers import build_optimizer
from skoots.training.runner import TrainingRunner
from skoots.training.schedules import build_scheduler

SHAPES = {2: [32, 32], 3: [12, 20, 20]}
CROPS = {2: [16, 16], 3: [8, 12, 12]}


def tiny_model(
    dims: int = 2, seed: int = 0, dropout: float = 0.0, **heads: dict[str, Any]
) -> SegmentationModel:
    """Three heads on a network of two levels; ``vector={"start_epoch": 2}`` and so on are their arguments."""
    torch.manual_seed(seed)
    parts: dict[str, Head] = {
        "vector": VectorHead(4, dims, **{"scale": 6.0, "sigma_decay": [(0.5, 1)], **heads.get("vector", {})}),
        "semantic": SemanticHead(4, dims, **heads.get("semantic", {})),
        "skeleton": SkeletonHead(4, dims, **heads.get("skeleton", {})),
    }
    return SegmentationModel(UNet(1, dims, (4, 8), dropout=dropout), parts)


@pytest.fixture(scope="session")
def volumes() -> dict[int, LabelledVolume]:
    """A 2D and a 3D volume of touching tubes."""
    return {
        dims: Synthetic(shape, seed=4, radius=(2.0, 3.0)).open(Reading())[0] for dims, shape in SHAPES.items()
    }


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow disks; that snapshots are flushed is the subject of their own tests."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def make_model() -> Callable[..., SegmentationModel]:
    return tiny_model


@pytest.fixture
def make_runner(volumes: dict[int, LabelledVolume], tmp_path: Path) -> Callable[..., TrainingRunner]:
    """A runner of four samples an epoch in two steps, shuffled and augmented, in a folder of its own."""

    def make(
        dims: int = 2, folder: str = "run", model: SegmentationModel | None = None, **changes: Any
    ) -> TrainingRunner:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        model = tiny_model(dims) if model is None else model
        optimizer = build_optimizer(changes.pop("optimizer", {"type": "AdamW", "lr": 1e-2}), model)
        schedule = changes.pop("scheduler", None)
        ascending = changes.pop("key_metric_asc", False)
        scheduler = None if schedule is None else build_scheduler(schedule, optimizer, ascending)
        samples = changes.pop("samples", 4)
        dataset = CropDataset([(volumes[dims], samples)], CROPS[dims], default_augmentations(), seed=5)
        observers = [*changes.pop("observers", ()), LoggerObserver([CSVLogger(root)], {})]
        snapshots = SnapshotManager(root, **changes.pop("snapshots", {}))
        workers, decay = changes.pop("workers", 0), changes.pop("ema", None)
        size = changes.pop("batch_size", 2)
        if decay is not None:
            given = decay if isinstance(decay, Mapping) else {"decay": decay}
            changes["ema"] = ExponentialAverage(model, **given)
        if "swa" in changes:
            changes["swa"] = StochasticAverage(model, optimizer, **changes["swa"])
        settings = {"epochs": 2, "key_metric": "test.loss", "eval_interval": 1, **changes}
        return TrainingRunner(
            model,
            optimizer,
            train_loader(dataset, size, seed=5, workers=workers),
            snapshots,
            device=torch.device("cpu"),
            key_metric_asc=ascending,
            scheduler=scheduler,
            observers=observers,
            **settings,
        )

    return make


@pytest.fixture(scope="session")
def same() -> Callable[[Any, Any], bool]:
    """Equality of nested states, to the last bit; NaN equals NaN."""

    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, torch.Tensor):
            alike = isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape
            return alike and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
        if isinstance(a, Mapping):
            return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
        if isinstance(a, list | tuple):
            return len(a) == len(b) and all(map(equal, a, b))
        return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))

    return equal


@pytest.fixture
def copy_of() -> Callable[[nn.Module], dict[str, torch.Tensor]]:
    """Everything that a module has learnt, as it is now."""
    return lambda module: {name: value.clone() for name, value in module.state_dict().items()}


@pytest.fixture
def scripted() -> Callable[..., Any]:
    """An evaluation whose metric is read off a list; ``asked`` are the epochs it was called in."""

    def make(values: list[float], name: str = "test.loss") -> Any:
        def evaluate(model: SegmentationModel, epoch: int) -> dict[str, float]:
            model.eval()  # as the real one does
            state.asked.append(epoch)
            return {name: values[epoch - 1]}

        state = SimpleNamespace(asked=[], evaluate=evaluate)
        return state

    return make
