"""``torch.compile``: the same training with other code, or a sentence and the training as it was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from skoots.snapshots import read_newest
from skoots.training.compiling import compiler
from skoots.training.distributed import Network
from skoots.training.precision import Precision
from skoots.training.runner import TrainingRunner

Make = Callable[..., Any]
CPU = torch.device("cpu")
SHAPE = (2, 1, 16, 16)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The compiler's front end, which takes the network apart, without its back end, which takes a minute;
    gives the modes that were asked for."""
    modes: list[Any] = []
    compile_ = torch.compile

    def without_back_end(network: Any, mode: Any = None) -> Any:
        modes.append(mode)
        return compile_(network, backend="eager")

    monkeypatch.setattr(torch, "compile", without_back_end)
    return modes


@pytest.mark.parametrize("mode", [True, "max-autotune"])
def test_the_mode_is_torchs(mode: Any, traced: list[Any], make_model: Make) -> None:
    model = make_model()
    form = compiler(mode, SHAPE, CPU)(model)
    assert form is not model and form._orig_mod is model
    assert traced == [None if mode is True else mode]


def test_without_it_the_network_is_called_as_it_is(make_model: Make) -> None:
    model = make_model()
    assert compiler(False, SHAPE, CPU)(model) is model


def training(make_runner: Make, make_model: Make, folder: str, epochs: int, mode: Any) -> TrainingRunner:
    model = make_model(dropout=0.5)
    network = Network(model, compiled=compiler(mode, SHAPE, CPU))
    runner: TrainingRunner = make_runner(folder=folder, model=model, epochs=epochs, network=network)
    return runner


def test_it_trains_and_goes_on_under_bare_names(
    traced: list[Any], make_runner: Make, make_model: Make, same: Make
) -> None:
    make = partial(training, make_runner, make_model)
    plain = make("plain", 3, False)
    plain.fit()
    make("compiled", 2, True).fit()
    again = make("compiled", 3, True)
    state = read_newest(again.snapshots.folder)[0]
    assert state["net"].keys() == plain.model.state_dict().keys()
    again.load_state(state)
    again.fit()
    assert same(plain.state(), again.state())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_code_gives_the_same_losses(make_runner: Make, make_model: Make) -> None:
    losses = []
    for mode in (False, True):
        runner = make_runner(
            folder=str(mode),
            model=(model := make_model()),
            network=Network(model, compiled=compiler(mode, SHAPE, CPU)),
        )
        runner.fit()
        assert (runner.network.module is model) != mode
        losses.append([epoch["train.loss"] for epoch in runner.history])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("where", ["at once", "in the first pass", "in the backward pass"])
def test_where_it_does_not_work_training_goes_on_and_says_so(
    where: str,
    make_runner: Make,
    make_model: Make,
    same: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make = partial(training, make_runner, make_model)
    plain = make("plain", 2, False)
    plain.fit()

    class NoCompiler(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: Any) -> Any:
            return values.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            raise RuntimeError("No C++ compiler found.\nThe rest is long.")

    def broken(network: Any, mode: Any = None) -> Any:
        if where == "at once":
            raise RuntimeError("No C++ compiler found.\nThe rest is long.")

        def form(images: Any) -> Any:
            outputs = network(images)  # draws from the generator, and moves running statistics
            if where == "in the first pass":
                raise RuntimeError("No C++ compiler found.\nThe rest is long.")
            return {h: {k: NoCompiler.apply(v) for k, v in head.items()} for h, head in outputs.items()}

        return form

    monkeypatch.setattr(torch, "compile", broken)
    runner = make("broken", 2, True)
    runner.fit()
    (record,) = caplog.records
    assert record.getMessage() == (
        "runner.compile does not work here (No C++ compiler found.); training goes on without it."
    )
    assert same(plain.state(), runner.state())


def test_the_trial_leaves_no_trace(traced: list[Any], make_model: Make, copy_of: Make, same: Make) -> None:
    model = make_model(dropout=0.5).train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, generator = copy_of(model), torch.get_rng_state()
    compiler(True, SHAPE, CPU)(model)
    assert same(before, model.state_dict()) and torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())


def test_it_is_tried_in_the_format_of_the_training(traced: list[Any], make_model: Make) -> None:
    model, kinds = make_model(), []
    conv = model.backbone.down[0][0]
    conv.register_forward_hook(lambda *call: kinds.append(call[2].dtype))
    compiler(True, SHAPE, CPU, Precision("bfloat16").autocast)(model)
    assert set(kinds) == {torch.bfloat16}
