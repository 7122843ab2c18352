"""``data.augment_on: device`` and ``store: gpu`` train as the defaults do: the crops are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from skoots.api import check, train
from skoots.errors import VolumeError
from skoots.snapshots import read_snapshot

AUGMENT = ["Flip", {"type": "Affine", "rate": 1.0}, {"type": "Elastic", "rate": 1.0}, "Noise", "Blur"]


def test_all_train_the_same(
    make_config: Callable[..., Any], write_pair: Callable[..., Any], tmp_path: Path
) -> None:
    write_pair(tmp_path / "data", "one", 1)

    def trained(where: str, store: str, workers: int) -> dict[str, torch.Tensor]:
        source = {"path": str(tmp_path / "data"), "store": store, "samples_per_volume": 4}
        data = {"train": [source], "augment": AUGMENT, "augment_on": where}
        config = make_config(data=data, train_settings={"dataloader_workers": workers})
        outcome = train(config, runs=tmp_path / f"{where} {store}", device="cpu", progress=False)
        return read_snapshot(outcome.latest_snapshot)["net"]

    expected = trained("cpu", "memory", 0)
    for net in (trained("device", "memory", 1), trained("device", "gpu", 1)):
        assert all(torch.allclose(net[name], value, atol=1e-5) for name, value in expected.items())
    data = {"train": [{"path": str(tmp_path / "data"), "store": "gpu"}]}
    with pytest.raises(VolumeError, match=r"Write data\.augment_on: device"):
        check(make_config(data=data))
    assert check(make_config(data={**data, "augment_on": "device"})).lines
