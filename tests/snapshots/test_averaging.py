"""Which epochs are averaged, the average itself, and which weights of a snapshot are meant."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skoots.errors import SnapshotError
from skoots.snapshots import admit, average_weights, scored, trained_weights, write_snapshot

VALUES = st.one_of(st.none(), st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))


@given(st.lists(VALUES, max_size=20), st.integers(0, 5), st.booleans())
def test_the_pool_is_the_best_finite_ones_and_of_equal_ones_the_later(
    values: list[float | None], size: int, larger: bool
) -> None:
    pool: list = []
    for epoch, value in enumerate(values, start=1):
        pool = admit(pool, epoch, scored(epoch, {"m": value}, "m"), size, larger)
    finite = [(e, v) for e, v in enumerate(values, start=1) if v is not None and math.isfinite(v)]
    best = sorted(finite, key=lambda pair: (-pair[1] if larger else pair[1], -pair[0]))[:size]
    assert pool == [{"epoch": epoch, "value": value} for epoch, value in sorted(best)]


def test_an_epoch_that_is_done_again_takes_its_own_place() -> None:
    """After going on from an earlier snapshot, what was known of later epochs is forgotten."""
    pool = [{"epoch": 1, "value": 0.1}, {"epoch": 4, "value": 0.9}]
    assert admit(pool, 3, {"epoch": 3, "value": 0.5}, 3, True) == [
        {"epoch": 1, "value": 0.1},
        {"epoch": 3, "value": 0.5},
    ]


def test_the_mean_of_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    states = [
        {
            "net": {"w": torch.randn(50), "half": torch.randn(3).half(), "n": torch.tensor(10 * i)},
            "epoch": i,
        }
        for i in range(1, 8)
    ]
    states[2]["ema_net"] = {name: value + 1 for name, value in states[2]["net"].items()}  # that one is used
    paths = [write_snapshot(state, tmp_path / f"{state['epoch']}.pt") for state in states]
    mean = average_weights(paths)
    meant = [state.get("ema_net", state["net"]) for state in states]
    for name in ("w", "half"):
        expected = torch.stack([weights[name].double() for weights in meant]).mean(0)
        assert mean[name].dtype == states[0]["net"][name].dtype
        torch.testing.assert_close(
            mean[name].double(), expected, rtol=1e-3 if name == "half" else 1e-7, atol=0
        )
    assert mean["n"].item() == 70 and mean["n"].dtype == torch.int64


def test_other_models_and_nothing_are_refused(tmp_path: Path) -> None:
    a = write_snapshot({"net": {"w": torch.ones(1)}, "epoch": 1}, tmp_path / "a.pt")
    b = write_snapshot({"net": {"v": torch.ones(1)}, "epoch": 2}, tmp_path / "b.pt")
    with pytest.raises(SnapshotError, match=r"b\.pt holds the weights of another model"):
        average_weights([a, b])
    with pytest.raises(SnapshotError, match="no snapshot to average"):
        average_weights([])


def test_which_weights_are_meant() -> None:
    state = {"net": {"w": torch.zeros(1)}, "ema_net": {"w": torch.ones(1)}}
    assert trained_weights(state)["w"] == trained_weights(state, "ema")["w"] == 1
    assert trained_weights(state, "raw")["w"] == 0
    del state["ema_net"]
    assert trained_weights(state)["w"] == 0
    with pytest.raises(SnapshotError, match="has no EMA weights"):
        trained_weights(state, "ema")
    with pytest.raises(SnapshotError, match=r"weights: 'best' is not known\. Say auto, ema or raw"):
        trained_weights(state, "best")
