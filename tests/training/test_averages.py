"""Averages of weights over steps (EMA) and over the last epochs (SWA)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR
from torch.optim.swa_utils import SWALR

from skoots.data.dataset import CoveringDataset
from skoots.data.loaders import covering_loader
from skoots.instances import SkeletonDecoder
from skoots.snapshots import find_snapshot, read_newest, read_snapshot
from skoots.training.averaging import refresh_statistics
from skoots.training.evaluator import Evaluator
from skoots.training.observers import Observer
from skoots.training.runner import TrainingRunner

Make = Callable[..., Any]


class Weights(Observer):
    """Keeps the weights after every step, or epoch."""

    def __init__(self, moment: str) -> None:
        self.moment, self.seen = moment, []  # type: ignore[var-annotated]

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        if self.moment == "step":
            self._keep(runner)

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
        if self.moment == "epoch":
            self._keep(runner)

    def _keep(self, runner: TrainingRunner) -> None:
        self.seen.append({name: p.detach().double().clone() for name, p in runner.model.named_parameters()})


# Over steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("every", [1, 3])
def test_ema_follows_its_formula(warmup: bool, every: int, make_runner: Make) -> None:
    weights = Weights("step")
    ema = {"decay": 0.6, "warmup": warmup, "every": every}
    runner = make_runner(samples=14, epochs=1, ema=ema, observers=[weights])
    expected = {name: p.detach().double().clone() for name, p in runner.model.named_parameters()}
    runner.fit()
    for number, seen in enumerate(weights.seen[every - 1 :: every]):
        decay = min(0.6, (1 + number) / (10 + number)) if warmup else 0.6
        expected = {name: decay * expected[name] + (1 - decay) * seen[name] for name in expected}
    assert runner.ema.steps == len(weights.seen) == 7
    for name, average in runner.ema.model.named_parameters():
        torch.testing.assert_close(average.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert runner.used_model is runner.ema.model and not runner.ema.model.training


# Over epochs ------------------------------------------------------------------------------------------------

SWA = {"swa_start": 3, "swa_lr": 0.02, "anneal_epochs": 2}


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("anneal_epochs", [0, 2])
def test_the_learning_rate_is_that_of_torch(strategy: str, anneal_epochs: int, make_runner: Make) -> None:
    swa = {"swa_start": 2, "swa_lr": 0.02, "anneal_epochs": anneal_epochs, "anneal_strategy": strategy}
    runner = make_runner(epochs=7, scheduler={"type": "ExponentialLR", "gamma": 0.5}, swa=swa)
    runner.fit()

    own = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-2)
    before, after, expected = ExponentialLR(own, 0.5), None, []
    for epoch in range(1, 8):
        if epoch == 3:
            after = SWALR(own, 0.02, anneal_epochs, strategy)  # type: ignore[arg-type]
        expected.append(own.param_groups[0]["lr"])
        own.step()
        (after or before).step()
    assert [epoch["lr"] for epoch in runner.history] == pytest.approx(expected, rel=1e-9)
    assert expected[-1] == pytest.approx(0.02)


def test_a_schedule_of_steps_ends_where_swa_begins(make_runner: Make) -> None:
    schedule = {"type": "ExponentialLR", "gamma": 0.5}
    swa = {"swa_start": 1, "swa_lr": 0.02, "anneal_epochs": 0}
    runner = make_runner(epochs=4, scheduler=schedule, interval="step", swa=swa)
    runner.fit()
    assert [epoch["lr"] for epoch in runner.history[2:]] == pytest.approx([0.02, 0.02])


def test_swa_is_the_mean_of_the_epochs_from_its_start_on(
    make_runner: Make, scripted: Make, copy_of: Make, same: Make
) -> None:
    weights = Weights("epoch")
    script = scripted([1.0] * 5)
    runner = make_runner(epochs=5, swa=SWA, observers=[weights], evaluate=script.evaluate)
    runner.fit()
    assert runner.swa.count == 3 and script.asked == [1, 2, 3, 4, 5, 5]
    path = find_snapshot(f"{runner.snapshots.folder}:swa")
    saved = read_snapshot(path)
    assert path.name == "snapshot-swa.pt" and (saved["epoch"], saved["acc"]) == (5, 1.0)
    assert saved["averaging"] == {"count": 3, "swa_start": 3, "value": 1.0, "statistics": True}
    for name, _ in runner.model.named_parameters():
        mean = torch.stack([seen[name] for seen in weights.seen[2:]]).mean(0)
        torch.testing.assert_close(saved["net"][name].double(), mean, rtol=1e-5, atol=1e-6)
    assert same({n: p.double() for n, p in runner.model.named_parameters()}, weights.seen[-1])


def test_its_statistics_are_those_of_the_data(make_runner: Make, make_model: Make, same: Make) -> None:
    runner = make_runner(epochs=4, swa={**SWA, "swa_start": 2})
    runner.fit()
    saved = read_snapshot(find_snapshot(f"{runner.snapshots.folder}:swa"))["net"]
    model = make_model(seed=3)
    model.load_state_dict(saved)
    runner.loader.sampler.set_epoch(5)
    refresh_statistics(model, list(runner.loader), torch.device("cpu"))
    assert same(model.state_dict(), saved)
    assert not same(runner.model.state_dict(), saved)


def test_swa_is_evaluated_where_the_model_is(make_runner: Make, volumes: Mapping[int, Any]) -> None:
    loader = covering_loader(CoveringDataset([volumes[2]], [20, 20]))
    evaluate = Evaluator(loader, SkeletonDecoder(), torch.device("cpu"))
    runner = make_runner(epochs=4, eval_interval=2, swa={**SWA, "evaluate": True}, evaluate=evaluate)
    runner.fit()
    assert [sorted({name.split(".")[0] for name in row}) for row in runner.history] == [
        ["lr", "nonfinite_steps", "train"],
        ["lr", "nonfinite_steps", "test", "train"],
        ["lr", "nonfinite_steps", "train"],
        ["lr", "nonfinite_steps", "swa", "test", "train"],
    ]
    last = runner.history[-1]
    swa = {name.removeprefix("swa."): value for name, value in last.items() if name.startswith("swa.")}
    assert swa.keys() == {n.removeprefix("test.") for n in last if n.startswith("test.")}
    assert swa["loss"] != last["test.loss"]
    saved = read_snapshot(find_snapshot(f"{runner.snapshots.folder}:swa"))
    assert saved["acc"] == pytest.approx(swa["loss"], rel=0.05)


class StopAt(Observer):
    """Asks for the end after the first batch of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        if (runner.epoch + 1, runner.progress.batches) == (self.epoch, 1):
            runner.stop.noted = 15


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("stop", [2, 3, 4, 5, 6])
def test_swa_goes_on_to_the_last_bit(stop: int, interval: str, make_runner: Make, same: Make) -> None:
    """Before, at and after its start, with a schedule that it replaces."""

    def make(folder: str, stop: int = 0) -> TrainingRunner:
        schedule = {"type": "ExponentialLR", "gamma": 0.8}
        return make_runner(
            folder=folder, epochs=6, scheduler=schedule, interval=interval, swa=SWA, observers=[StopAt(stop)]
        )

    whole = make("whole")
    whole.fit()
    assert make("parts", stop).fit().stopped_by == 15
    again = make("parts")
    again.load_state(read_newest(again.snapshots.folder)[0])
    again.fit()
    assert same(whole.state(), again.state())
    files = [find_snapshot(f"{runner.snapshots.folder}:swa") for runner in (whole, again)]
    assert same(*[read_snapshot(file)["net"] for file in files])


def test_an_epoch_that_is_stopped_in_validation_is_taken_in_once(
    make_runner: Make, same: Make, scripted: Make
) -> None:
    def make(folder: str, stop: bool = False) -> TrainingRunner:
        script = scripted([1.0] * 5)

        def evaluate(model: Any, epoch: int) -> dict[str, float]:
            if stop and epoch == 4:
                runner.stop.noted = 15
                runner.heed()
            return script.evaluate(model, epoch)

        runner = make_runner(folder=folder, epochs=5, swa=SWA, evaluate=evaluate)
        return runner

    whole = make("whole")
    whole.fit()
    assert make("parts", stop=True).fit().epochs == 3
    again = make("parts")
    again.load_state(read_newest(again.snapshots.folder)[0])
    again.fit()
    assert again.swa.count == 3 and same(whole.state(), again.state())
