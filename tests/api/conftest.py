"""Tiny configs, tiny files, and one tiny training that the tests of several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skoots.api import TrainingOutcome, train
from skoots.synthetic import make_volume
from skoots.volumes import write_volume

SHAPES = {2: (40, 40), 3: (12, 24, 24)}
CROPS = {2: [16, 16], 3: [8, 16, 16]}
Config = dict[str, Any]


def tiny_source(dims: int = 3, seed: int = 1) -> Config:
    return {
        "type": "Synthetic",
        "shape": list(SHAPES[dims]),
        "samples_per_volume": 4,
        "seed": seed,
        "radius": [2.0, 3.0],
    }


def tiny_config(dims: int = 3, **sections: Config) -> Config:
    """A config of a second; the keys of ``sections`` are added to those of its sections."""
    config: Config = {
        "data": {"train": [tiny_source(dims)], "crop_size": CROPS[dims]},
        "device": "cpu",
        "model": {"backbone": {"type": "UNet", "channels": [4, 8]}},
        "runner": {"eval_interval": 1, "optimizer": {"type": "AdamW", "lr": 1e-2}},
        "train_settings": {"batch_size": 2, "epochs": 2},
        "inference": {"tune": 0},
    }
    for name, section in sections.items():
        config[name] = {**config.get(name, {}), **section}
    return config


@pytest.fixture(autouse=True)
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow disks; that snapshots are flushed is the subject of their own tests."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    return tiny_config


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingOutcome:
    """A run on voxels of 2 x 1 x 1, validated in each epoch, that has learnt a little."""
    config = tiny_config(
        data={
            "train": [{**tiny_source(), "samples_per_volume": 16}],
            "validation": [tiny_source(seed=5)],
            "voxel_size": [2.0, 1.0, 1.0],
        },
        runner={"key_metric": "test.loss.skeleton"},
        train_settings={"epochs": 8},
        inference={"decoding": {"skeleton_threshold": 0.3}},
        metadata={"experiment": "shared"},
    )
    return train(config, runs=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def write_pair() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Writes ``NAME.tif`` and ``NAME.labels.tif``, or the like, and returns image and labels."""

    def write(
        folder: Path,
        name: str,
        seed: int = 1,
        shape: Sequence[int] = SHAPES[3],
        extension: str = "tif",
        voxel_size: Sequence[float] | None = (2.0, 1.0, 1.0),
    ) -> tuple[np.ndarray, np.ndarray]:
        folder.mkdir(parents=True, exist_ok=True)
        image, labels = make_volume(shape, seed, radius=(2.0, 3.0))
        image, labels = (image * 255).astype(np.uint8), labels.astype(np.uint16)
        write_volume(folder / f"{name}.{extension}", image, voxel_size)
        write_volume(folder / f"{name}.labels.{extension}", labels, voxel_size)
        return image, labels

    return write
