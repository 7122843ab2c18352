"""Number formats: what is computed in which, and the scale of the loss in float16."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.amp import GradScaler

from skoots.errors import ConfigError
from skoots.snapshots import read_newest
from skoots.training.precision import Precision, choose_format
from skoots.training.runner import TrainingRunner

Make = Callable[..., Any]
LARGEST = 2.0**127
"""Of the powers of two in float32: a gradient scaled by it is infinite."""


def test_in_bfloat16_the_network_computes_short_and_heads_and_losses_long(make_runner: Make) -> None:
    runner = make_runner(precision=Precision("bfloat16", "cpu"))
    kinds: dict[str, set[torch.dtype]] = {"convolution": set(), "output": set()}
    for layer in runner.model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda *call: kinds["convolution"].add(call[2].dtype))
    runner.model.register_forward_hook(
        lambda *call: kinds["output"].update(v.dtype for head in call[2].values() for v in head.values())
    )
    losses = runner.learn(next(iter(runner.loader)), 1)
    assert kinds == {"convolution": {torch.bfloat16}, "output": {torch.float32}}
    assert losses.values.dtype == torch.float32
    assert all(p.dtype == torch.float32 == p.grad.dtype for p in runner.model.parameters())


def test_bfloat16_trains_nearly_as_float32_does(make_runner: Make) -> None:
    found = []
    for name in ("float32", "bfloat16"):
        runner = make_runner(folder=name, epochs=6, samples=8, precision=Precision(name, "cpu"))
        runner.fit()
        found.append([epoch["train.loss"] for epoch in runner.history])
    assert found[1] == pytest.approx(found[0], rel=0.05) and found[1] != found[0]
    assert found[1][-1] < found[1][0]


def test_float16_needs_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"runner\.precision: is float16, which needs CUDA; .* on cpu"):
        Precision("float16", "cpu")
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    assert isinstance(Precision("float16", "cuda").scaler(), GradScaler)
    assert all(Precision(name, "cuda").scaler() is None for name in ("float32", "tf32", "bfloat16"))  # type: ignore[arg-type]


def test_tf32_is_allowed_where_asked_for_alone(caplog: pytest.LogCaptureFixture) -> None:
    try:
        for name, allowed in (("tf32", True), ("float32", False)):
            Precision(name, "cpu").apply()  # type: ignore[arg-type]
            assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed
        (record,) = caplog.records
        assert "tf32 has no effect without CUDA" in record.getMessage()
    finally:
        Precision("float32").apply()


@pytest.mark.parametrize(
    ("device", "computes_in_it", "chosen"),
    [
        ("cuda:1", True, "bfloat16"),
        ("cuda", False, "float32"),
        ("mps", True, "float32"),
        ("cpu", True, "float32"),
    ],
)
def test_bfloat16_is_chosen_where_the_gpu_computes_in_it(
    device: str, computes_in_it: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[torch.device] = []

    def on(which: torch.device) -> nullcontext[None]:
        looked_at.append(which)
        return nullcontext()

    def supported(including_emulation: bool = True) -> bool:
        assert looked_at and not including_emulation  # older GPUs only imitate it, slowly
        return computes_in_it

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    name, why = choose_format(torch.device(device))
    assert name == chosen and why
    assert looked_at == ([torch.device(device)] if device.startswith("cuda") else [])


# The scale of the loss --------------------------------------------------------------------------------------


def test_a_scale_that_fits_changes_nothing(make_runner: Make, same: Make) -> None:
    """Powers of two are exact."""
    plain = make_runner(folder="plain", clip_gradient=0.5)
    scaled = make_runner(folder="scaled", clip_gradient=0.5, scaler=GradScaler("cpu", init_scale=1024.0))
    plain.fit()
    scaled.fit()
    assert same(plain.model.state_dict(), scaled.model.state_dict())
    assert same(plain.history, scaled.history)


def test_an_overflow_lowers_the_scale_and_is_no_bad_loss(
    make_runner: Make, make_model: Make, copy_of: Make, same: Make, caplog: pytest.LogCaptureFixture
) -> None:
    scaler = GradScaler("cpu", init_scale=LARGEST, backoff_factor=0.5)
    runner = make_runner(
        model=make_model(vector={"weight": 1e4}), samples=40, scaler=scaler, max_nonfinite_steps=0, ema=0.5
    )
    before, scales = [copy_of(runner.model), copy_of(runner.ema.model)], []
    for batch in runner.loader:
        runner._one_batch(batch, 1)
        scales.append(scaler.get_scale())
        if same(before[0], runner.model.state_dict()):
            assert same(before[1], runner.ema.model.state_dict()) and scales[-1] == LARGEST / 2 ** len(scales)
        else:
            break
    assert len(scales) > 1 and scales[-1] == scales[-2]  # found
    assert runner.nonfinite.total == 0 and not caplog.records
    assert runner.progress.means()["loss"] > 0 and int(runner.progress.counted) == len(scales)


def test_without_a_scale_to_lower_an_overflow_is_a_bad_step(make_runner: Make) -> None:
    runner = make_runner(scaler=GradScaler("cpu", init_scale=1.0))
    runner.model.heads["vector"].conv.weight.register_hook(lambda gradient: gradient * torch.inf)
    runner._one_batch(next(iter(runner.loader)), 1)
    assert runner.scaler.get_scale() == 0.5 and runner.nonfinite.total == 1


def test_a_loss_that_is_no_number_counts_whatever_the_scale(
    make_runner: Make, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(scaler=GradScaler("cpu", init_scale=1024.0))
    criterion = runner.model.heads["skeleton"].criterion
    forward = criterion.forward
    criterion.forward = lambda *tensors: forward(*tensors) * torch.nan
    with caplog.at_level(logging.WARNING, "skoots"):
        runner._one_batch(next(iter(runner.loader)), 1)
    assert runner.nonfinite.total == 1 and "skeleton" in caplog.records[0].getMessage()


def test_the_scale_goes_on_with_the_run(make_runner: Make, same: Make) -> None:
    def make(folder: str, epochs: int, scale: float = 8.0) -> TrainingRunner:
        scaler = GradScaler("cpu", init_scale=scale, growth_interval=2)
        return make_runner(folder=folder, epochs=epochs, samples=6, scaler=scaler)

    whole = make("whole", 4)
    whole.fit()
    make("parts", 2).fit()
    again = make("parts", 4, scale=1.0)
    again.load_state(read_newest(again.snapshots.folder)[0])
    assert again.scaler.get_scale() == 64.0  # six steps, doubled after every second
    again.fit()
    assert same(whole.state(), again.state())
    assert whole.state()["scaler_state_dict"]["scale"] == 512.0
