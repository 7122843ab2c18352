"""The training loop: what it does when, what it saves, how it goes on, and how it ends."""

from __future__ import annotations

import csv
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skoots.data.dataset import CoveringDataset
from skoots.data.loaders import covering_loader
from skoots.errors import SkootsError, SnapshotError
from skoots.instances import SkeletonDecoder
from skoots.loggers.base import Logger
from skoots.samples import Batch
from skoots.snapshots import Saved, find_snapshot, read_newest, read_snapshot
from skoots.training.evaluator import Evaluator
from skoots.training.observers import LoggerObserver, Observer, ProgressObserver
from skoots.training.runner import RUNNERS, TrainingRunner
from skoots.training.schedules import rehearse

Make = Callable[..., Any]
HALVING = {"type": "ExponentialLR", "gamma": 0.5}
NESTED = {
    "type": "SequentialLR",
    "schedulers": [{"type": "LinearLR", "start_factor": 0.1, "total_iters": 2}, HALVING],
    "milestones": [2],
}


def same(a: Any, b: Any) -> bool:
    """Equality of nested states, to the last bit; NaN equals NaN."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "learning_stats.csv", newline="") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> set[str]:
    return {path.name.removeprefix("snapshot-").removesuffix(".pt") for path in folder.glob("*.pt")}


class Diary(Observer):
    """Writes down every moment; does something at one of them."""

    def __init__(
        self, at: tuple[Any, ...] = (), then: Callable[[TrainingRunner], None] | None = None
    ) -> None:
        self.moments: list[tuple[Any, ...]] = []
        self.at, self.then = at, then

    def _note(self, runner: TrainingRunner, *moment: Any) -> None:
        self.moments.append(moment)
        if self.then is not None and moment == self.at:
            self.then(runner)

    def fit_start(self, runner: TrainingRunner) -> None:
        self._note(runner, "fit_start")

    def epoch_start(self, runner: TrainingRunner, epoch: int) -> None:
        self._note(runner, "epoch_start", epoch)

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        self._note(runner, "step_end", runner.step)

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
        self._note(runner, "epoch_end", epoch)

    def fit_end(self, runner: TrainingRunner) -> None:
        self._note(runner, "fit_end")


class Watch(Observer):
    """Keeps what is seen at the end of every step or epoch."""

    def __init__(self, moment: str, look: Callable[[TrainingRunner], Any]) -> None:
        self.seen: list[Any] = []
        self.moment, self.look = moment, look

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        if self.moment == "step_end":
            self.seen.append(self.look(runner))

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
        if self.moment == "epoch_end":
            self.seen.append(self.look(runner))

    def saved(self, runner: TrainingRunner, saved: Saved) -> None:
        if self.moment == "saved":
            self.seen.append(self.look(runner))


def press_ctrl_c(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


# The loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_trains_to_the_last_epoch(dims: int, make_runner: Make, copy_of: Make) -> None:
    runner = make_runner(dims, epochs=3, scheduler=HALVING)
    before = copy_of(runner.model)
    result = runner.fit()
    assert (result.epochs, result.best_epoch, result.best_value, result.interrupted) == (3, None, None, False)
    assert (runner.epoch, runner.step, len(runner.history)) == (3, 6, 3)
    assert result.metrics == runner.history[-1]
    assert all(not torch.equal(before[name], value) for name, value in runner.model.named_parameters())
    assert set(result.metrics) == {
        "lr",
        "train.loss",
        "train.loss.vector",
        "train.loss.semantic",
        "train.loss.skeleton",
        "nonfinite_steps",
    }
    assert runner.fit().epochs == 3 and runner.step == 6  # nothing is left to do


def test_each_epoch_does_what_a_bare_loop_does(make_runner: Make, make_model: Make) -> None:
    runner = make_runner(optimizer={"type": "SGD", "lr": 0.1})
    history = make_runner(folder="other", optimizer={"type": "SGD", "lr": 0.1})
    history.fit()
    model, losses = runner.model.train(), []
    for epoch in (1, 2):
        runner.loader.sampler.set_epoch(epoch)
        parts_of_epoch = []
        for batch in runner.loader:
            total, parts = model.loss(model(batch.images), model.targets(batch), batch, epoch)
            runner.optimizer.zero_grad()
            total.backward()
            runner.optimizer.step()
            parts_of_epoch.append({name: float(v.detach()) for name, v in {"loss": total, **parts}.items()})
        losses.append({key: sum(p[key] for p in parts_of_epoch) / 2 for key in parts_of_epoch[0]})
    assert same(model.state_dict(), history.model.state_dict())
    for measured, expected in zip(history.history, losses):
        assert measured["train.loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert measured["train.loss.skeleton"] == pytest.approx(expected["skeleton"], rel=1e-6)


@pytest.mark.parametrize("schedule", [HALVING, NESTED])
def test_learning_rates_are_logged_as_they_were_used(schedule: dict[str, Any], make_runner: Make) -> None:
    used = Watch("step_end", lambda runner: runner.learning_rate)
    runner = make_runner(epochs=4, scheduler=schedule, observers=[used])
    expected = [rates[0] for rates in rehearse(schedule, runner.optimizer, 4)]
    runner.fit()
    assert [epoch["lr"] for epoch in runner.history] == pytest.approx(expected)
    assert used.seen == pytest.approx([rate for rate in expected for _ in range(2)])
    assert [float(row["lr"]) for row in rows(runner.snapshots.folder)] == [e["lr"] for e in runner.history]


def test_validation_comes_at_its_interval_and_at_the_end(make_runner: Make, scripted: Make) -> None:
    script = scripted([0.0] * 5)
    runner = make_runner(epochs=5, eval_interval=2, evaluate=script.evaluate)
    runner.fit()
    assert script.asked == [2, 4, 5]
    assert ["test.loss" in epoch for epoch in runner.history] == [False, True, False, True, True]


def test_training_goes_on_in_training_mode_after_validation(make_runner: Make, scripted: Make) -> None:
    modes = Watch("step_end", lambda runner: runner.model.training)
    make_runner(evaluate=scripted([0.0, 0.0]).evaluate, observers=[modes]).fit()
    assert modes.seen == [True] * 4


@pytest.mark.parametrize(
    ("ascending", "values", "bests"),  # 0: none yet
    [
        (True, [0.1, 0.3, math.nan, 0.3, 0.2, 0.4], [1, 2, 2, 4, 4, 6]),
        (False, [3.0, 3.0, math.nan, 2.0, math.inf, 2.5], [1, 2, 2, 4, 4, 4]),
        (True, [math.nan, math.nan, -1.0, -2.0, -1.0, math.nan], [0, 0, 3, 3, 5, 5]),
    ],
)
def test_best_is_better_and_of_equal_ones_the_later(
    ascending: bool, values: list[float], bests: list[int], make_runner: Make, scripted: Make
) -> None:
    best_so_far = Watch("epoch_end", lambda runner: runner.best["epoch"] if runner.best else 0)
    runner = make_runner(
        epochs=6, evaluate=scripted(values).evaluate, key_metric_asc=ascending, observers=[best_so_far]
    )
    result = runner.fit()
    assert best_so_far.seen == bests
    assert (result.best_epoch, result.best_value) == (bests[-1], values[bests[-1] - 1])
    folder = runner.snapshots.folder
    assert {name for name in names(folder) if name.startswith("best")} == {f"best-{bests[-1]:03d}"}
    best = read_snapshot(find_snapshot(f"{folder}:best"))
    assert (best["epoch"], best["acc"]) == (bests[-1], result.best_value)


@pytest.mark.parametrize(
    ("losses", "heads", "best", "pool"),
    [
        ([5.0, 3.0, 4.0, 3.5], [1, 1, 1, 1], 2, [2, 4]),
        ([5.0, 3.0, 3.0, 3.5], [1, 1, 1, 1], 3, [2, 3]),
        ([1.0, 0.5, 4.0, 3.0], [1, 1, 2, 2], 4, [3, 4]),  # a head began in epoch 3
        ([1.0, math.nan, math.nan, math.nan], [1, 1, 1, 1], 1, [1, 4]),
    ],
)
def test_where_nothing_is_found_the_lower_validation_loss_is_better(
    losses: list[float], heads: list[int], best: int, pool: list[int], make_runner: Make, caplog: Any
) -> None:
    def evaluate(model: Any, epoch: int) -> dict[str, float]:
        parts = {f"test.loss.{number}": 1.0 for number in range(heads[epoch - 1])}
        return {"test.F1": 0.0, "test.loss": losses[epoch - 1], **parts}

    runner = make_runner(
        epochs=4,
        evaluate=evaluate,
        key_metric="test.F1",
        key_metric_asc=True,
        snapshots={"average_best_models": 2},
    )
    with caplog.at_level(logging.INFO, "skoots"):
        result = runner.fit()
    assert (result.best_epoch, result.best_value) == (best, 0.0)
    assert [member["epoch"] for member in runner.pool] == pool
    assert result.average["epochs"] == pool
    assert "Epochs 1 and 2 have the same test.F1, 0. The best is epoch " in caplog.text
    again = make_runner(epochs=4, evaluate=evaluate, key_metric="test.F1", key_metric_asc=True)
    again.load_state(read_newest(runner.snapshots.folder)[0])
    assert again.best == runner.best


def test_a_metric_that_is_not_measured_makes_nothing_best(make_runner: Make, scripted: Make) -> None:
    runner = make_runner(evaluate=scripted([0.5, 0.4]).evaluate, key_metric="test.F1")
    assert runner.fit().best_epoch is None
    assert names(runner.snapshots.folder) == {"latest", "previous", "002"}


def test_moments_come_in_order(make_runner: Make) -> None:
    diary = Diary()
    make_runner(observers=[diary]).fit()
    assert diary.moments == [
        ("fit_start",),
        ("epoch_start", 1), ("step_end", 1), ("step_end", 2), ("epoch_end", 1),
        ("epoch_start", 2), ("step_end", 3), ("step_end", 4), ("epoch_end", 2),
        ("fit_end",),
    ]  # fmt: skip


def test_observers_hear_of_every_snapshot_that_is_whole_on_disk(make_runner: Make) -> None:
    on_disk = Watch("saved", lambda runner: read_newest(runner.snapshots.folder)[0]["epoch"])
    make_runner(observers=[on_disk]).fit()
    assert on_disk.seen == [1, 2]


def test_the_gradient_is_clipped(make_runner: Make) -> None:
    def length_of_one_step(clip: float | None) -> float:
        runner = make_runner(optimizer={"type": "SGD", "lr": 1.0}, clip_gradient=clip)
        before = [p.detach().clone() for p in runner.model.parameters()]
        runner.learn(next(iter(runner.loader)), 1)
        moved = [p.detach() - b for p, b in zip(runner.model.parameters(), before)]
        return math.sqrt(sum(float(change.square().sum()) for change in moved))

    free = length_of_one_step(None)
    assert length_of_one_step(free / 10) == pytest.approx(free / 10, rel=1e-3)
    assert length_of_one_step(free * 10) == pytest.approx(free, rel=1e-6)


def test_weights_and_start_epochs_reach_the_loss(make_runner: Make, make_model: Make, copy_of: Make) -> None:
    model = make_model(vector={"start_epoch": 3}, semantic={"weight": 0.0}, skeleton={"weight": 2.5})
    at_first = copy_of(model.heads["vector"])
    vector = Watch("epoch_end", lambda runner: copy_of(runner.model.heads["vector"]))
    runner = make_runner(model=model, epochs=3, observers=[vector])
    runner.fit()
    for epoch, measured in enumerate(runner.history, start=1):
        counted = measured["train.loss.vector"] if epoch >= 3 else 0.0
        assert measured["train.loss"] == pytest.approx(
            2.5 * measured["train.loss.skeleton"] + counted, rel=1e-5
        )
    assert same(at_first, vector.seen[1]) and not same(at_first, vector.seen[2])


def test_before_any_head_has_started_nothing_moves(make_runner: Make, make_model: Make) -> None:
    late = {name: {"start_epoch": 9} for name in ("vector", "semantic", "skeleton")}
    runner = make_runner(model=make_model(**late), optimizer={"type": "SGD", "lr": 0.1})
    before = [p.detach().clone() for p in runner.model.parameters()]
    assert runner.fit().metrics["train.loss"] == 0.0
    assert same(before, list(runner.model.parameters()))


def test_frozen_parts_stay_as_they_are(make_runner: Make, make_model: Make, copy_of: Make) -> None:
    model = make_model()
    model.heads["semantic"].requires_grad_(False)
    frozen, free = copy_of(model.heads["semantic"]), copy_of(model.heads["vector"])
    make_runner(model=model).fit()
    assert same(frozen, model.heads["semantic"].state_dict())
    assert not same(free, model.heads["vector"].state_dict())


# Snapshots --------------------------------------------------------------------------------------------------


FACTS = {"in_channels": 1, "spatial_dims": 2, "voxel_size": [1.0, 1.0]}


def test_snapshots_are_named_and_hold_what_is_needed(make_runner: Make, scripted: Make) -> None:
    runner = make_runner(
        epochs=5,
        scheduler=HALVING,
        evaluate=scripted([5.0, 4.0, 1.0, 2.0, 3.0]).evaluate,
        eval_interval=1,
        snapshots={"save_epochs": 2},
        config={"method": "bu"},
        facts=FACTS,
        provenance={"skoots": "0"},
    )
    runner.fit()
    folder = runner.snapshots.folder
    assert names(folder) == {"latest", "previous", "002", "004", "005", "best-003"}
    latest = read_snapshot(folder / "snapshot-latest.pt")
    assert set(latest) == {
        "format",
        "net",
        "acc",
        "epoch",
        "step",
        "optimizer_state_dict",
        "torch_scheduler_state_dict",
        "rng",
        "sampler",
        "averaging",
        "best",
        "metrics",
        "history",
        "nonfinite_steps",
        "cfg",
        "facts",
        "provenance",
    }
    assert same(latest["net"], runner.model.state_dict())
    assert (latest["epoch"], latest["step"], latest["acc"]) == (5, 10, 3.0)
    assert latest["best"] == {"epoch": 3, "value": 1.0, "metric": "test.loss"}
    assert latest["history"] == runner.history and latest["metrics"] == runner.history[-1]
    assert latest["cfg"] == {"method": "bu"} and latest["facts"] == FACTS
    assert latest["provenance"] == {"skoots": "0"}
    assert latest["optimizer_state_dict"]["type"] == "AdamW"
    assert read_snapshot(folder / "snapshot-004.pt")["epoch"] == 4
    assert "torch_scheduler_state_dict" not in make_runner(folder="none").state()


OPTIMIZERS = [{"type": "AdamW", "lr": 1e-2}, {"type": "SGD", "lr": 0.1, "momentum": 0.9}]
SCHEDULES: list[dict[str, Any] | None] = [None, HALVING, NESTED, {"type": "ReduceLROnPlateau", "patience": 0}]


@pytest.mark.parametrize("load_scheduler", [True, False])
@pytest.mark.parametrize(
    ("dims", "optimizer", "schedule"),
    [
        *((2, OPTIMIZERS[0], schedule) for schedule in SCHEDULES),
        (3, OPTIMIZERS[1], NESTED),
        (2, OPTIMIZERS[1], HALVING),
    ],
)
def test_going_on_is_the_same_to_the_last_bit(
    dims: int,
    optimizer: dict[str, Any],
    schedule: dict[str, Any] | None,
    load_scheduler: bool,
    make_runner: Make,
    make_model: Make,
    volumes: Mapping[int, Any],
) -> None:
    def make(folder: str, epochs: int, seed: int) -> TrainingRunner:
        model = make_model(dims, seed=seed, dropout=0.5)
        loader = covering_loader(CoveringDataset([volumes[dims]], [12, 20, 20][-dims:]))
        return make_runner(
            dims,
            folder,
            model,
            epochs=epochs,
            optimizer=optimizer,
            scheduler=schedule,
            eval_interval=2,
            evaluate=Evaluator(loader, SkeletonDecoder(), torch.device("cpu")),
            key_metric="test.loss.skeleton",
        )

    whole = make("whole", 4, seed=1)
    whole.fit()

    make("halves", 2, seed=1).fit()
    second = make("halves", 4, seed=99)  # other weights and random numbers: all must come from the snapshot
    second.load_state(read_snapshot(second.snapshots.folder / "snapshot-latest.pt"), load_scheduler)
    assert second.epoch == 2
    second.fit()

    a, b = whole.state(), second.state()
    if (
        not load_scheduler
    ):  # replayed, it may count its steps otherwise; its learning rates are in the history
        for state in (a, b):
            state.pop("torch_scheduler_state_dict", None)
    assert same(a, b)
    csv_files = [(runner.snapshots.folder / "learning_stats.csv").read_bytes() for runner in (whole, second)]
    assert csv_files[0] == csv_files[1]
    assert [row["epoch"] for row in rows(second.snapshots.folder)] == ["1", "2", "3", "4"]


def test_going_on_after_ctrl_c_is_the_same_to_the_last_bit(make_runner: Make, make_model: Make) -> None:
    whole = make_runner(folder="whole", model=make_model(dropout=0.5), epochs=3, scheduler=HALVING)
    whole.fit()
    diary = Diary(("step_end", 5), press_ctrl_c)
    stopped = make_runner(model=make_model(dropout=0.5), epochs=3, scheduler=HALVING, observers=[diary])
    assert stopped.fit().interrupted
    again = make_runner(model=make_model(seed=7, dropout=0.5), epochs=3, scheduler=HALVING)
    again.load_state(read_newest(again.snapshots.folder)[0])
    again.fit()
    assert same(whole.state(), again.state())


def test_a_changed_schedule_is_followed_from_where_it_would_be(make_runner: Make) -> None:
    make_runner(epochs=2, scheduler=HALVING).fit()

    def rates(schedule: dict[str, Any] | None, load_scheduler: bool) -> list[float]:
        runner = make_runner(epochs=4, scheduler=schedule)
        runner.load_state(read_snapshot(runner.snapshots.folder / "snapshot-002.pt"), load_scheduler)
        runner.snapshots.begin = lambda *_, **__: None
        runner.fit()
        return [epoch["lr"] for epoch in runner.history[2:]]

    assert rates({"type": "ExponentialLR", "gamma": 0.1}, False) == pytest.approx([1e-4, 1e-5])
    assert rates(HALVING, True) == pytest.approx([2.5e-3, 1.25e-3])
    assert rates(None, False) == pytest.approx([1e-2, 1e-2])
    with pytest.raises(SnapshotError, match="scheduler ExponentialLR and the config names StepLR"):
        rates({"type": "StepLR", "step_size": 1}, True)


def test_a_better_best_is_never_replaced_by_a_worse_one(make_runner: Make, scripted: Make) -> None:
    evaluate = scripted([0.9, 0.5, 0.7, 0.8, 0.95]).evaluate
    make_runner(epochs=2, evaluate=evaluate, key_metric_asc=True).fit()

    def go_on(epochs: int) -> TrainingRunner:
        runner = make_runner(epochs=epochs, evaluate=evaluate, key_metric_asc=True)
        runner.load_state(read_newest(runner.snapshots.folder)[0])
        runner.fit()
        return runner

    runner = go_on(4)
    assert runner.best == {"epoch": 1, "value": 0.9, "metric": "test.loss"}
    assert "best-001" in names(runner.snapshots.folder)
    assert go_on(5).best == {"epoch": 5, "value": 0.95, "metric": "test.loss"}
    assert names(runner.snapshots.folder) & {"best-001", "best-005"} == {"best-005"}


def test_values_of_two_metrics_are_not_compared(make_runner: Make, scripted: Make) -> None:
    make_runner(epochs=1, evaluate=scripted([0.1]).evaluate).fit()
    script = scripted([0.0, 0.05], "test.F1")
    runner = make_runner(epochs=2, evaluate=script.evaluate, key_metric="test.F1", key_metric_asc=True)
    runner.load_state(read_newest(runner.snapshots.folder)[0])
    assert runner.fit().best_epoch == 2


def test_a_snapshot_of_another_model_is_refused(make_runner: Make, make_model: Make) -> None:
    make_runner(epochs=1, model=make_model(2)).fit()
    state = read_newest(make_runner().snapshots.folder)[0]
    with pytest.raises(SnapshotError, match="does not fit the model of this config"):
        make_runner(3, "other").load_state(state)


def test_weights_alone_are_enough_to_go_on(make_runner: Make) -> None:
    first = make_runner(epochs=2)
    first.fit()
    state = read_newest(first.snapshots.folder)[0]
    second = make_runner(epochs=3, folder="other")
    second.load_state({key: state[key] for key in ("net", "epoch")})
    second.fit()
    assert second.epoch == 3 and second.history[:2] == [{}, {}]
    assert [row["epoch"] for row in rows(second.snapshots.folder)] == ["3"]


# Losses that are no numbers ---------------------------------------------------------------------------------


class Poison:
    """Stands in for a criterion; what it is asked for the n-th time, n in ``at``, is not finite."""

    def __init__(self, model: Any, head: str, at: set[int], value: float = math.nan) -> None:
        self.calls, self.at, self.value = 0, at, value
        criterion = model.heads[head].criterion
        self.forward = criterion.forward
        criterion.forward = self

    def __call__(self, *tensors: Tensor) -> Tensor:
        self.calls += 1
        return self.forward(*tensors) * (self.value if self.calls in self.at else 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_without_a_finite_loss_is_left_out(
    value: float, make_runner: Make, copy_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner()
    Poison(runner.model, "semantic", {1}, value)
    first, second = list(runner.loader)
    before, rate = copy_of(runner.model), runner.learning_rate
    with caplog.at_level(logging.WARNING, "skoots"):
        runner._one_batch(first, 1)
    assert same(before, runner.model.state_dict()) and not runner.optimizer.state
    assert (runner.step, runner.nonfinite.total, runner.learning_rate) == (1, 1, rate)
    (record,) = caplog.records
    message = record.getMessage()
    assert "semantic" in message and "vector" not in message and "skeleton" not in message
    assert all(origin in message for origin in first.origins)
    assert "epoch 1, sample" in first.origins[0] and not any(origin in message for origin in second.origins)
    runner._one_batch(second, 1)
    assert not same(before, runner.model.state_dict())


def test_running_statistics_survive_a_batch_that_is_no_number(make_runner: Make, copy_of: Make) -> None:
    runner = make_runner()
    batch: Batch = next(iter(runner.loader))
    runner.learn(batch, 1)
    before = copy_of(runner.model)
    batch.images[0, 0, 3, 3] = math.nan
    assert runner.learn(batch, 1).left_out
    assert same(before, runner.model.state_dict())


def test_left_out_steps_are_counted_and_do_not_enter_the_means(make_runner: Make) -> None:
    diary = Diary()
    runner = make_runner(observers=[diary], epochs=3)
    Poison(runner.model, "vector", {2, 3, 4})
    result = runner.fit()
    assert [epoch["nonfinite_steps"] for epoch in runner.history] == [1, 3, 3]
    assert [math.isfinite(epoch["train.loss"]) for epoch in runner.history] == [True, False, True]
    assert [moment[1] for moment in diary.moments if moment[0] == "step_end"] == [1, 5, 6]
    assert not result.interrupted and result.epochs == 3
    assert rows(runner.snapshots.folder)[1]["train.loss"] == "nan"
    again = make_runner()
    again.load_state(read_newest(runner.snapshots.folder)[0])
    assert again.nonfinite.total == 3


def test_an_epoch_without_any_step_has_its_line(make_runner: Make, caplog: pytest.LogCaptureFixture) -> None:
    runner = make_runner(epochs=1, observers=[ProgressObserver(show=False)])
    Poison(runner.model, "vector", {1, 2})
    with caplog.at_level(logging.INFO, "skoots"):
        runner.fit()
    assert caplog.records[-1].getMessage().startswith("epoch 1/1: loss nan")


def test_too_many_such_steps_stop_training(make_runner: Make) -> None:
    diary = Diary()
    runner = make_runner(epochs=9, max_nonfinite_steps=2, observers=[diary])
    Poison(runner.model, "skeleton", {1, *range(4, 99)})
    with pytest.raises(SkootsError) as error:
        runner.fit()
    sentence = str(error.value)
    assert "3 steps in a row had a loss that is no number, last in head skeleton" in sentence
    assert "runner.optimizer.params.lr" in sentence and "runner.clip_gradient" in sentence
    assert str(runner.snapshots.folder) in sentence
    assert diary.moments[-1] == ("fit_end",)
    assert read_newest(runner.snapshots.folder)[0]["epoch"] == 2
    kept = read_snapshot(runner.snapshots.folder / "snapshot-post-mortem.pt")
    assert "snapshot-post-mortem.pt" in sentence and same(kept["net"], runner.model.state_dict())
    assert kept["batch"]["images"].shape[0] == 2 and "epoch 3, sample" in kept["batch"]["origins"][0]
    assert {"optimizer_state_dict", "history", "rng"} <= set(kept)


def test_only_steps_in_a_row_are_too_many(make_runner: Make) -> None:
    runner = make_runner(epochs=5, max_nonfinite_steps=2)
    Poison(runner.model, "skeleton", {1, 2, 4, 5, 7, 8, 10})
    assert runner.fit().epochs == 5 and runner.nonfinite.total == 7


def test_none_is_allowed_if_so_wanted(make_runner: Make) -> None:
    runner = make_runner(max_nonfinite_steps=0)
    Poison(runner.model, "vector", {1})
    with pytest.raises(SkootsError, match="Training stopped: 1 steps in a row"):
        runner.fit()


# Ctrl-C -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "epochs"),
    [
        (("fit_start",), 0),
        (("epoch_start", 1), 0),
        (("step_end", 2), 0),
        (("epoch_end", 1), 1),
        (("step_end", 3), 1),
        (("epoch_start", 2), 1),
        (("epoch_end", 2), 2),
    ],
)
def test_ctrl_c_leaves_a_latest_snapshot(moment: tuple[Any, ...], epochs: int, make_runner: Make) -> None:
    diary = Diary(moment, press_ctrl_c)
    runner = make_runner(observers=[diary])
    result = runner.fit()
    assert result.interrupted and result.epochs == epochs
    assert diary.moments[-1] == ("fit_end",)
    latest = read_snapshot(runner.snapshots.folder / "snapshot-latest.pt")
    assert latest["epoch"] == epochs
    again = make_runner(epochs=3)
    again.load_state(latest)
    assert again.fit().epochs == 3


def test_ctrl_c_while_a_batch_is_read(make_runner: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner()
    monkeypatch.setattr(type(runner.loader.dataset), "__getitem__", press_ctrl_c)
    result = runner.fit()
    assert result.interrupted and result.epochs == 0 and result.metrics == {}
    assert read_newest(runner.snapshots.folder)[0]["epoch"] == 0


def test_ctrl_c_while_a_snapshot_is_written(make_runner: Make, scripted: Make) -> None:
    """The epoch is complete: it is saved once more, under every name that it deserves."""
    runner = make_runner(epochs=1, evaluate=scripted([1.0]).evaluate)
    begin, calls = runner.snapshots.begin, []

    def cut_off(*words: Any, **named: Any) -> Any:
        calls.append(words)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return begin(*words, **named)

    runner.snapshots.begin = cut_off
    result = runner.fit()
    assert result.interrupted and result.epochs == 1
    assert names(runner.snapshots.folder) == {"latest", "best-001", "001"}
    assert same(read_newest(runner.snapshots.folder)[0]["net"], runner.model.state_dict())


def test_ctrl_c_soon_after_going_on_leaves_a_snapshot_too(make_runner: Make, scripted: Make) -> None:
    first = make_runner(epochs=1, evaluate=scripted([1.0]).evaluate)
    first.fit()
    second = make_runner(folder="new", epochs=3, observers=[Diary(("step_end", 3), press_ctrl_c)])
    second.load_state(read_newest(first.snapshots.folder)[0])
    assert second.fit().interrupted
    assert names(second.snapshots.folder) == {"latest"}
    assert read_newest(second.snapshots.folder)[0]["epoch"] == 1


def test_other_errors_pass_but_the_observers_are_told(make_runner: Make) -> None:
    def fail(runner: TrainingRunner) -> None:
        raise ZeroDivisionError

    diary = Diary(("step_end", 1), fail)
    with pytest.raises(ZeroDivisionError):
        make_runner(observers=[diary]).fit()
    assert diary.moments[-1] == ("fit_end",)


# Observers and registry -------------------------------------------------------------------------------------


def test_progress_says_a_line_for_every_validated_epoch(
    make_runner: Make, scripted: Make, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    script = scripted([9.0, 2.0, 9.0, 3.0])
    runner = make_runner(epochs=4, eval_interval=2, evaluate=script.evaluate, observers=[ProgressObserver(1)])
    with caplog.at_level(logging.INFO, "skoots"):
        runner.fit()
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines] == ["epoch 2/4", "epoch 4/4"]
    measured = runner.history[1]
    loss, part = measured["train.loss"], measured["train.loss.vector"]
    assert f"loss {loss:.3f} (vector {part:.3f} semantic" in lines[0]
    assert lines[0].endswith("| test.loss 2.000 (best)") and lines[1].endswith("| test.loss 3.000")
    bar = capsys.readouterr().err
    assert "16/16" in bar and "samples/s" in bar and "epoch 4/4:" in bar and "loss" in bar


def test_the_last_epoch_has_a_line_in_any_case(make_runner: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "skoots"):
        make_runner(observers=[ProgressObserver(show=False)]).fit()
    (record,) = caplog.records
    assert record.getMessage().startswith("epoch 2/2: loss ")


STEP_LINE = re.compile(
    r"epoch (\d)/3, step (\d)/2: loss \d\.\d{3} \(vector [\d.]+ semantic [\d.]+ skeleton [\d.]+\), "
    r"lr 1\.0e-02, \d:\d\d:\d\d left"
)


@pytest.mark.parametrize(
    ("every", "steps"), [(1, [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]), (4, [(2, 2)]), (7, [])]
)
def test_without_a_bar_every_so_many_steps_have_a_line(
    every: int, steps: list[tuple[int, int]], make_runner: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Steps are counted over all epochs, so that short epochs are not silent."""
    with caplog.at_level(logging.INFO, "skoots"):
        make_runner(epochs=3, observers=[ProgressObserver(every, show=False)]).fit()
    lines = [record.getMessage() for record in caplog.records]
    found = [STEP_LINE.fullmatch(line) for line in lines[:-1]]
    assert [(int(match[1]), int(match[2])) for match in found if match] == steps and all(found)
    assert lines[-1].startswith("epoch 3/3: loss ")


def test_a_step_that_is_left_out_does_not_take_its_line_away(
    make_runner: Make, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(epochs=3, observers=[ProgressObserver(2, show=False)])
    Poison(runner.model, "vector", {2})
    with caplog.at_level(logging.INFO, "skoots"):
        runner.fit()
    lines = [match for record in caplog.records if (match := STEP_LINE.match(record.getMessage()))]
    assert [(line[1], line[2]) for line in lines] == [("2", "1"), ("2", "2"), ("3", "2")]


def test_the_warm_up_has_lines_too(make_runner: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "skoots"):
        make_runner(warmup_steps=5, epochs=1, observers=[ProgressObserver(2, show=False)]).fit()
    lines = [record.getMessage().split(":")[0] for record in caplog.records]
    assert lines[:3] == ["warm-up, step 2/5", "warm-up, step 4/5", "Warm-up of 5 steps on one batch"]


def test_the_numbers_beside_the_bar_come_every_so_many_steps_of_all_epochs(
    make_runner: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runner(epochs=3, observers=[ProgressObserver(5)]).fit()
    assert "loss" in capsys.readouterr().err


def test_loggers_hear_of_everything(make_runner: Make, scripted: Make) -> None:
    heard: list[Any] = []

    class Listener(Logger):
        def start(self, config: Any) -> None:
            heard.append(("start", config))

        def scalars(self, values: Mapping[str, float], epoch: int) -> None:
            heard.append((epoch, dict(values)))

        def snapshot(self, path: Path, aliases: Sequence[str], epoch: int) -> None:
            heard.append((path.name, aliases, epoch))

        def close(self) -> None:
            heard.append("close")

    observer = LoggerObserver([Listener()], {"a": 1})
    runner = make_runner(evaluate=scripted([0.5, 0.25]).evaluate, observers=[observer])
    runner.fit()
    file = "snapshot-latest.pt"
    assert [word for word in heard if word[0] != file] == [
        ("start", {"a": 1}), (1, runner.history[0]), (2, runner.history[1]), "close"
    ]  # fmt: skip
    assert [word for word in heard if word[0] == file] == [
        (file, ["latest", "best"], 1), (file, ["latest", "002", "best"], 2)
    ]  # fmt: skip


def test_runners_are_registered() -> None:
    assert RUNNERS.get("TrainingRunner") is TrainingRunner
