"""``data.augment_on: device`` trains as ``cpu`` does, to the last bit on the same device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from skoots.api import train
from skoots.snapshots import read_snapshot


def test_both_train_the_same(make_config: Callable[..., Any], tmp_path: Path) -> None:
    source = {"type": "Synthetic", "shape": [12, 24, 24], "radius": [2.0, 3.0], "samples_per_volume": 4}
    augment = ["Flip", {"type": "Affine", "rate": 1.0}, {"type": "Elastic", "rate": 1.0}, "Noise", "Blur"]
    nets = []
    for where in ("cpu", "device"):
        data = {"train": [source], "augment": augment, "augment_on": where, "crop_size": [8, 16, 16]}
        settings = {"epochs": 2, "batch_size": 2, "dataloader_workers": 1, "seed": 3}
        config = make_config(data=data, train_settings=settings)
        outcome = train(config, runs=tmp_path / where, device="cpu", progress=False)
        nets.append(read_snapshot(outcome.latest_snapshot)["net"])
    assert all(torch.allclose(nets[0][name], nets[1][name], atol=1e-5) for name in nets[0])
