"""Going on from the middle of everything: to the last bit what would have been without the stop."""

from __future__ import annotations

import logging
import os
import random
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skoots.data.dataset import CoveringDataset
from skoots.data.loaders import covering_loader
from skoots.errors import SnapshotError
from skoots.instances import SkeletonDecoder
from skoots.snapshots import average_weights, averaging, read_newest, read_snapshot
from skoots.training.averaging import ExponentialAverage, refresh_statistics
from skoots.training.evaluator import Evaluator
from skoots.training.observers import Observer
from skoots.training.random_state import random_state, set_random_state
from skoots.training.runner import TrainingRunner

Make = Callable[..., Any]
EVERYTHING = {
    "samples": 10,  # five batches an epoch: two groups of two, and one of one
    "accumulate": 2,
    "ema": 0.9,
    "scheduler": {"type": "ReduceLROnPlateau", "patience": 0},
    "clip_gradient": 1.0,
    "epochs": 4,
    "eval_interval": 2,
    "snapshots": {"average_best_models": 2},
}


def equal(a: Any, b: Any) -> bool:
    """Equality of nested states to the last bit; NaN equals NaN."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b or (a != a and b != b))


class StopAt(Observer):
    """Asks for the end after a batch of an epoch, as a signal does; remembers how many batches it has
    seen."""

    def __init__(self, epoch: int = 0, batch: int = 0) -> None:
        self.epoch, self.batch, self.seen = epoch, batch, 0

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        self.seen += 1
        if (runner.epoch + 1, runner.progress.batches) == (self.epoch, self.batch):
            runner.stop.noted = 15

    def state(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]


@pytest.fixture
def make_full(make_runner: Make, make_model: Make, volumes: Mapping[int, Any]) -> Make:
    """A runner with all that has a state: dropout, accumulation, EMA, a plateau schedule, the pool of an
    average."""

    def make(folder: str, seed: int, stop: StopAt | None = None, **changes: Any) -> TrainingRunner:
        loader = covering_loader(CoveringDataset([volumes[2]], [20, 20]))
        settings = {**EVERYTHING, **changes}
        return make_runner(
            2,
            folder,
            make_model(2, seed=seed, dropout=0.5),
            evaluate=Evaluator(loader, SkeletonDecoder(), torch.device("cpu")),
            key_metric="test.loss.skeleton",
            observers=[stop or StopAt()],
            **settings,
        )

    return make


def everything_of(runner: TrainingRunner) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    folder = runner.snapshots.folder
    average = read_snapshot(folder / "snapshot-average.pt")
    return runner.state(), (folder / "learning_stats.csv").read_bytes(), average["net"]


@pytest.fixture
def whole(make_full: Make) -> Make:
    """What a run without a stop ends with."""

    def run(**changes: Any) -> Any:
        runner = make_full("whole", seed=1, **changes)
        runner.fit()
        return everything_of(runner)

    return run


# To the last bit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 4, 5])
def test_from_the_middle_of_an_epoch(batch: int, make_full: Make, whole: Make) -> None:
    """In the middle of an accumulation (1), between two (2, 4), and when all batches are done but nothing is
    validated (5)."""
    first = make_full("halves", seed=1, stop=StopAt(2, batch))
    result = first.fit()
    assert (result.stopped_by, result.epochs) == (15, 1)
    state, _ = read_newest(first.snapshots.folder)
    assert (state["epoch"], state["sampler"]["batches"]) == (1, batch)
    assert ("gradients" in state) == (batch == 1)

    second = make_full("halves", seed=99)  # other weights and random numbers: all must come from the file
    second.load_state(state)
    second.fit()
    assert equal(everything_of(second), whole())


def test_stopped_twice_in_one_epoch_and_once_in_validation(make_full: Make, whole: Make) -> None:
    runner = make_full("pieces", seed=1, stop=StopAt(2, 1))
    runner.fit()
    runner = go_on(make_full, runner, StopAt(2, 3))
    assert runner.fit().epochs == 1
    runner = go_on(make_full, runner, StopAt())
    windows: list[int] = []

    def stop_in_validation() -> None:
        windows.append(runner.epoch)
        if len(windows) == 2:
            runner.stop.noted = 15
        runner.heed_signals()

    runner.evaluate.heed = stop_in_validation
    assert runner.fit().epochs == 1 and len(windows) == 2
    assert read_newest(runner.snapshots.folder)[0]["sampler"]["batches"] == 5
    runner = go_on(make_full, runner, StopAt())
    assert runner.fit().epochs == 4
    assert equal(everything_of(runner), whole())


def go_on(make_full: Make, runner: TrainingRunner, stop: StopAt) -> TrainingRunner:
    again = make_full("pieces", seed=77, stop=stop)
    again.load_state(read_newest(runner.snapshots.folder)[0])
    return again


def test_from_a_save_every_so_many_steps_with_other_workers(make_full: Make, whole: Make) -> None:
    """What was saved on the way is as good, and who loads the crops makes no difference."""
    whole_one = whole()
    kept: list[dict[str, Any]] = []

    class Keep(Observer):
        def saved(self, runner: TrainingRunner, saved: Any) -> None:
            if saved.within and saved.step == 4:
                kept.append(read_snapshot(saved.files[0]))

    snapshots = {"average_best_models": 2, "save_steps": 2}
    first = make_full("halves", seed=1, snapshots=snapshots)
    first.observers.append(Keep())
    first.fit()
    (state,) = kept
    assert (state["epoch"], state["sampler"]["batches"], state["step"]) == (1, 2, 4)

    second = make_full("halves", seed=99, workers=2)
    second.load_state(state)
    second.fit()
    assert equal(everything_of(second), whole_one)


@pytest.mark.parametrize(
    ("schedule", "optimizer"),
    [
        (
            {"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 4},
            {"type": "SGD", "lr": 0.1, "momentum": 0.9},
        ),
        ({"type": "CosineAnnealingWarmRestarts", "T_0": 2}, {"type": "Adam", "lr": 1e-3, "amsgrad": True}),
    ],
)
def test_with_other_schedules_and_optimizers(
    schedule: dict[str, Any], optimizer: dict[str, Any], make_full: Make, whole: Make
) -> None:
    first = make_full("halves", seed=1, stop=StopAt(3, 3), scheduler=schedule, optimizer=optimizer)
    first.fit()
    second = make_full("halves", seed=99, scheduler=schedule, optimizer=optimizer)
    second.load_state(read_newest(first.snapshots.folder)[0])
    second.fit()
    assert equal(everything_of(second), whole(scheduler=schedule, optimizer=optimizer))


def test_nothing_is_written_before_the_first_step(make_full: Make) -> None:
    first = make_full("run", seed=1, stop=StopAt(2, 3))
    first.fit()
    folder = first.snapshots.folder
    before = {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    seen: list[bool] = []

    class Look(Observer):
        def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
            seen.append({path.name: path.read_bytes() for path in folder.glob("*.pt")} == before)

    second = make_full("run", seed=99)
    second.observers.append(Look())
    second.load_state(read_newest(folder)[0])
    second.fit()
    assert seen[0]
    state = read_newest(folder)[0]
    assert not equal(state["net"], state["ema_net"])  # SuperGradients saves the one as the other


def test_an_epoch_of_another_length_is_begun_again(make_full: Make, caplog: pytest.LogCaptureFixture) -> None:
    first = make_full("run", seed=1, stop=StopAt(2, 3))
    first.fit()
    second = make_full("run", seed=1, samples=6)
    second.load_state(read_newest(first.snapshots.folder)[0])
    assert "an epoch of 10 samples in 5 batches, 2 for a step. Now it has 6, 3 and 2, and" in caplog.text
    assert second.progress.batches == 0 and second.fit().epochs == 4


def test_observers_remember(make_full: Make) -> None:
    first = make_full("run", seed=1, stop=StopAt(2, 3))
    first.fit()
    second = make_full("run", seed=1, stop=StopAt(2, 4))
    second.load_state(read_newest(first.snapshots.folder)[0])
    second.fit()
    assert second.observers[0].seen == 9


def test_a_snapshot_without_ema_begins_one_and_says_so(
    make_full: Make, caplog: pytest.LogCaptureFixture
) -> None:
    first = make_full("run", seed=1, ema=None, epochs=1)
    first.fit()
    state = read_newest(first.snapshots.folder)[0]
    second = make_full("run", seed=9)
    second.load_state(state)
    assert equal(second.ema.model.state_dict(), state["net"]) and "no EMA weights" in caplog.text


def test_a_snapshot_without_an_optimizer_says_so(make_full: Make, caplog: pytest.LogCaptureFixture) -> None:
    first = make_full("run", seed=1, epochs=1)
    first.fit()
    state = read_newest(first.snapshots.folder)[0]
    del state["optimizer_state_dict"]
    make_full("run", seed=1).load_state(state)
    assert "no state of the optimizer" in caplog.text


def test_all_random_generators_go_on() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.gauss(0, 1), np.random.standard_normal()  # both keep the second of a pair for later
    state = random_state()
    drawn, gauss = draw(), (random.gauss(0, 1), np.random.standard_normal())
    set_random_state(state)
    assert (draw(), (random.gauss(0, 1), np.random.standard_normal())) == (drawn, gauss)


# EMA, accumulation and averages -----------------------------------------------------------------------------


def test_accumulated_batches_give_the_gradient_of_one_large_batch(
    make_runner: Make, make_model: Make
) -> None:
    settings = {"samples": 6, "optimizer": {"type": "SGD", "lr": 0.1}}
    steps = []
    for accumulate in (1, 3):
        runner = make_runner(
            folder=f"a{accumulate}", model=make_model(), epochs=1, accumulate=accumulate, **settings
        )
        runner.fit()
        steps.append(runner.step)
    assert steps == [3, 1]

    runner = make_runner(folder="by hand", model=make_model(), epochs=1, accumulate=3, **settings)
    runner.model.train()
    runner.loader.sampler.set_epoch(1)
    batches = list(runner.loader)
    for batch in batches:
        loss, _ = runner.model.loss(runner.model(batch.images), runner.model.targets(batch), batch, 1)
        (loss / 3).backward()
    mean = {name: p.grad.clone() for name, p in runner.model.named_parameters()}
    at_first = make_model().state_dict()
    moved = make_runner(folder="again", model=make_model(), epochs=1, accumulate=3, **settings)
    moved.fit()
    for name, value in moved.model.named_parameters():
        torch.testing.assert_close(value.detach(), at_first[name] - 0.1 * mean[name])


def test_a_batch_that_is_no_number_leaves_no_trace_in_the_moving_average(make_full: Make) -> None:
    """Nor does the rest of the batches that were to make one step with it."""
    runner = make_full("run", seed=1, epochs=1)
    calls: list[int] = []

    def poison(model: Any, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        calls.append(1)
        return (given[0] * float("nan"),) if len(calls) == 4 else given  # batch norms take it in, too

    runner.model.register_forward_pre_hook(poison)
    seen: list[bool] = []

    class Look(Observer):
        def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
            state = runner.ema.model.state_dict().values()
            seen.append(all(bool(value.isfinite().all()) for value in state))

    runner.observers.append(Look())
    runner.fit()
    assert runner.nonfinite.total == 1 and runner.step == 3 and all(seen) and len(seen) == 4


def test_the_moving_average_is_that_of_the_formula(make_model: Make) -> None:
    model = make_model()
    ema = ExponentialAverage(model, decay=0.5)
    expected = {name: value.clone() for name, value in model.named_parameters()}
    for step in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        ema.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {n: decay * expected[n] + (1 - decay) * v for n, v in model.named_parameters()}
    for name, value in ema.model.named_parameters():
        torch.testing.assert_close(value, expected[name].detach())
        assert not value.requires_grad


def test_the_average_is_the_mean_of_the_best_and_is_validated(make_full: Make, volumes: Any) -> None:
    runner = make_full("run", seed=1, ema=None)
    result = runner.fit()
    folder = runner.snapshots.folder
    state = read_snapshot(folder / "snapshot-average.pt")
    assert set(state) == {
        "format", "net", "acc", "epoch", "step", "metrics", "averaging", "cfg", "provenance"
    }  # fmt: skip
    members = [read_snapshot(folder / f"averaging/snapshot-{epoch:03d}.pt") for epoch in (2, 4)]
    assert state["averaging"] == result.average
    assert (result.average["count"], result.average["epochs"]) == (2, [2, 4])
    parameters = dict(runner.model.named_parameters())
    for name, value in state["net"].items():
        if name in parameters:
            mean = torch.stack([member["net"][name].double() for member in members]).mean(0)
            assert torch.equal(value, mean.float())
    assert result.average["statistics"]
    runner.model.load_state_dict(state["net"])
    assert runner.evaluate(runner.model, 4)["test.loss.skeleton"] == state["acc"] == result.average["value"]


def test_a_damaged_member_is_left_out_of_the_average(
    make_full: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Spoil(Observer):
        def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
            if epoch == 3:
                runner._settle()
                path = runner.snapshots.folder / "averaging" / "snapshot-002.pt"
                path.unlink()
                path.write_bytes(b"PK")

    runner = make_full("run", seed=1)
    runner.observers.append(Spoil())
    assert runner.fit().average["epochs"] == [4]
    assert "left out of the average" in caplog.text


def test_refreshed_statistics_are_those_of_the_data(make_runner: Make) -> None:
    runner = make_runner()
    model = runner.model
    runner.loader.sampler.set_epoch(7)
    assert refresh_statistics(model, runner.loader, torch.device("cpu"))
    first = next(layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    means: list[Tensor] = []
    first.register_forward_pre_hook(lambda _, inputs: means.append(inputs[0].mean((0, 2, 3))))
    runner.loader.sampler.set_epoch(7)
    with torch.no_grad():
        for batch in runner.loader:
            model(batch.images)
    torch.testing.assert_close(first.running_mean, torch.stack(means).mean(0))
    assert first.momentum == 0.1 and not first.training


def test_the_average_of_files_does_not_hold_them_all(
    make_full: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other: each is freed before the next is read."""
    runner = make_full("run", seed=1, epochs=1)
    runner.fit()
    path = runner.snapshots.folder / "snapshot-001.pt"
    alive: list[Any] = []

    def watched(path: Any) -> dict[str, Any]:
        assert sum(reference() is not None for reference in alive) <= 1
        state = read_snapshot(path)
        alive.append(weakref.ref(next(iter(state["ema_net"].values()))))
        return state

    monkeypatch.setattr(averaging, "read_snapshot", watched)
    assert equal(average_weights([path] * 5), read_snapshot(path)["ema_net"]) and len(alive) == 5


# Saves that fail --------------------------------------------------------------------------------------------


def test_a_save_that_fails_is_said_and_training_goes_on(
    make_full: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The best on disk stays the best: what could not be saved is no best. The last save is tried once
    more."""
    runner = make_full("run", seed=1, eval_interval=1, snapshots={})
    losses = iter([3.0, 1.0, 2.0, 2.5])
    runner.evaluate = lambda model, epoch: {"test.loss.skeleton": next(losses)}
    fsync, epochs = os.fsync, []

    def full(handle: int) -> None:
        epochs.append(runner.epoch)
        if runner.epoch == 2 or (runner.epoch == 4 and epochs.count(4) == 1):
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr("os.fsync", full)
    with caplog.at_level(logging.ERROR, "skoots"):
        result = runner.fit()
    assert caplog.text.count("No space left on device") == result.failed_saves == 2
    assert caplog.text.count("Training goes on.") == 2
    assert (result.epochs, result.best_epoch, result.best_value) == (4, 3, 2.0)
    names = sorted(path.name for path in runner.snapshots.folder.glob("*.pt"))
    assert names == [
        "snapshot-004.pt", "snapshot-best-003.pt", "snapshot-latest.pt", "snapshot-previous.pt"
    ]  # fmt: skip
    assert not list(runner.snapshots.folder.glob(".*.tmp"))
    assert read_newest(runner.snapshots.folder)[0]["epoch"] == 4


def only_larger_files_fail(monkeypatch: pytest.MonkeyPatch, runner: TrainingRunner, epoch: int) -> None:
    """The lean snapshot of an epoch still fits on the disk, the whole one does not."""
    from skoots.snapshots import manager

    write = manager.write_snapshot

    def fragile(state: Mapping[str, Any], path: Any, **how: Any) -> Any:
        if state["epoch"] == epoch and path.name == "snapshot-latest.pt":
            raise SnapshotError(f"{path} could not be written: No space left on device.")
        return write(state, path, **how)

    monkeypatch.setattr(manager, "write_snapshot", fragile)


@pytest.mark.parametrize("losses", [[3.0, 1.0, 2.0, 2.5], [2.0, 1.0, 2.5, 3.0]])
def test_a_save_that_fails_half_way_leaves_the_best_that_is_known(
    losses: list[float], make_full: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_full("run", seed=1, eval_interval=1, snapshots={"save_optimizer_state": False})
    values = iter(losses)
    runner.evaluate = lambda model, epoch: {"test.loss.skeleton": next(values)}
    only_larger_files_fail(monkeypatch, runner, epoch=2)
    result = runner.fit()
    best = min((value, epoch) for epoch, value in enumerate(losses, start=1) if epoch != 2)
    assert (result.best_value, result.best_epoch) == best
    bests = [path.name for path in runner.snapshots.folder.glob("snapshot-best-*.pt")]
    assert bests == [f"snapshot-best-{result.best_epoch:03d}.pt"]
    assert read_newest(runner.snapshots.folder)[0]["best"]["epoch"] == result.best_epoch


@pytest.mark.parametrize("changes", [{"batch_size": 5}, {"accumulate": 3}])
def test_other_batches_begin_the_epoch_again(
    changes: dict[str, int], make_full: Make, caplog: pytest.LogCaptureFixture
) -> None:
    first = make_full("run", seed=1, stop=StopAt(2, 3))
    first.fit()
    second = make_full("run", seed=1, **changes)
    second.load_state(read_newest(first.snapshots.folder)[0])
    assert "is begun again" in caplog.text and second.progress.batches == 0
    assert second.fit().epochs == 4


def test_minutes_bound_what_a_long_epoch_loses(make_full: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from skoots.snapshots import manager

    clock = [0.0]
    monkeypatch.setattr(manager.time, "monotonic", lambda: clock[0])
    saved: list[int] = []

    class Watch(Observer):
        def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
            clock[0] += 50.0

        def saved(self, runner: TrainingRunner, found: Any) -> None:
            if found.within:
                saved.append(found.batches)

    runner = make_full("run", seed=1, epochs=1, snapshots={"save_minutes": 1.5})
    runner.observers.append(Watch())
    runner.fit()
    assert saved == [2, 4]  # after 100 and after 200 seconds
    saved.clear()

    def validate(model: Any, epoch: int) -> dict[str, float]:
        clock[0] += 1000.0
        runner.heed()  # as the evaluator does after every window
        return {"test.loss.skeleton": 1.0}

    runner = make_full("long", seed=1, epochs=1, snapshots={"save_minutes": 15})
    runner.observers.append(Watch())
    runner.evaluate = validate
    runner.fit()
    assert saved == [5]  # in the middle of a long validation
    saved.clear()
    runner = make_full("other", seed=1, epochs=1, snapshots={"save_minutes": None})
    runner.observers.append(Watch())
    runner.fit()
    assert saved == []


def test_the_scaler_is_part_of_the_snapshot(make_full: Make) -> None:
    """Half precision is not there yet; what scales its loss is saved and gone on with all the same."""
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
    first = make_full("run", seed=1, epochs=2, scaler=scaler)
    first.fit()
    state = read_newest(first.snapshots.folder)[0]
    assert state["scaler_state_dict"]["scale"] == scaler.get_scale() == 32.0  # it grew twice in six steps
    second = make_full("run", seed=9, scaler=torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3))
    second.load_state(state)
    assert second.scaler.get_scale() == 32.0
    plain = make_full("plain", seed=1, epochs=2)
    plain.fit()
    assert "scaler_state_dict" not in plain.state()
    for name, value in plain.model.state_dict().items():  # powers of two change nothing
        assert torch.equal(value, first.model.state_dict()[name])


def test_names_are_those_of_the_bare_model_whatever_wraps_it(make_full: Make) -> None:
    plain = make_full("plain", seed=1)
    wrapped = make_full("wrapped", seed=2)
    wrapped.model = torch.compile(wrapped.model)  # nothing is compiled before it is called
    assert list(wrapped.state()["net"]) == list(plain.state()["net"])
    wrapped.load_state(plain.state())
    assert equal(wrapped.state()["net"], plain.state()["net"])


def test_a_first_epoch_without_a_number_is_never_best_nor_averaged(make_full: Make) -> None:
    runner = make_full("run", seed=1, eval_interval=1)
    values = iter([float("nan"), 2.0, float("inf"), 1.5, 1.0])
    runner.evaluate = lambda model, epoch: {"test.loss.skeleton": next(values)}
    result = runner.fit()
    assert (result.best_epoch, result.average["epochs"]) == (4, [2, 4])
    assert "net" in read_snapshot(runner.snapshots.folder / "snapshot-average.pt")


def test_listed_epochs_latest_and_best_with_a_rare_validation(make_full: Make) -> None:
    """SuperGradients writes latest only in validated epochs."""
    latest: list[int] = []

    class Watch(Observer):
        def saved(self, runner: TrainingRunner, found: Any) -> None:
            if not found.within:
                latest.append(read_snapshot(found.files[0])["epoch"])

    settings = {"save_epoch_list": [2, 4], "save_epochs": 100}
    runner = make_full("run", seed=1, epochs=5, eval_interval=2, snapshots=settings)
    runner.observers.append(Watch())
    result = runner.fit()
    assert latest[:5] == [1, 2, 3, 4, 5]
    folder = runner.snapshots.folder
    for epoch in (2, 4, 5):
        assert read_snapshot(folder / f"snapshot-{epoch:03d}.pt")["epoch"] == epoch
    measured = {e: row["test.loss.skeleton"] for e, row in enumerate(runner.history, 1) if "test.loss" in row}
    assert set(measured) == {2, 4, 5} and result.best_epoch == min(measured, key=lambda e: measured[e])


def test_a_runner_can_go_on_after_its_end(make_full: Make) -> None:
    runner = make_full("run", seed=1, epochs=1, snapshots={})
    runner.fit()
    runner.epochs = 2
    assert runner.fit().epochs == 2 and read_newest(runner.snapshots.folder)[0]["epoch"] == 2
