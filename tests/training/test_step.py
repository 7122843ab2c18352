"""One step: what becomes of it when a number is none, and that it never waits for the device."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skoots.errors import SkootsError
from skoots.samples import Batch
from skoots.training.averaging import ExponentialAverage
from skoots.training.nonfinite import NonFinite
from skoots.training.observers import Observer
from skoots.training.optimizers import build_optimizer
from skoots.training.runner import TrainingRunner
from skoots.training.step import Losses, TrainingStep

Make = Callable[..., Any]
OPTIMIZERS = {
    "fused AdamW": {"type": "AdamW", "lr": 1e-2, "fused": True},
    "fused SGD": {"type": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True, "fused": True},
    "fused Adagrad": {"type": "Adagrad", "lr": 1e-2, "fused": True},
    "foreach AdamW": {"type": "AdamW", "lr": 1e-2, "foreach": True},
    "RMSprop": {"type": "RMSprop", "lr": 1e-2},
}


@pytest.fixture
def batches(make_runner: Make) -> list[Batch]:
    return list(make_runner(folder="data", samples=8).loader)


class Bad:
    """A batch whose numbers are none: in its images, in the loss of a head, or in the gradient alone."""

    def __init__(self, batch: Batch, where: str) -> None:
        self.where, self.batch = where, copy.deepcopy(batch)
        if where == "images":
            self.batch.images[0, 0, 3, 3] = math.nan

    @contextmanager
    def in_effect(self, model: Any) -> Iterator[None]:
        criterion = model.heads["semantic"].criterion
        forward = criterion.forward
        hook = None
        if self.where == "loss":
            criterion.forward = lambda *tensors: forward(*tensors) * math.inf
        if self.where == "gradient":
            hook = model.heads["vector"].conv.weight.register_hook(lambda gradient: gradient * math.nan)
        yield
        criterion.forward = forward
        if hook is not None:
            hook.remove()


def learn(make_model: Make, node: Mapping[str, Any], batches: list[Batch | Bad], ahead: bool) -> list[Any]:
    """All that a model, its optimizer and its average have learnt from batches; and which were numbers."""
    model = make_model()
    optimizer = build_optimizer(node, model)
    ema = ExponentialAverage(model, 0.9, warmup=False)
    step = TrainingStep(model, optimizer, ema=ema, clip_gradient=1.0, ahead=ahead)
    finite = []
    for batch in batches:
        if isinstance(batch, Bad):
            with batch.in_effect(model):
                losses = step(batch.batch, 1)
            assert losses.left_out == (not ahead)
        else:
            losses = step(batch, 1)
        finite.append(bool(losses.finite))
    return [model.state_dict(), optimizer.state_dict(), ema.model.state_dict(), finite]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("where", ["images", "loss", "gradient"])
def test_a_bad_step_leaves_no_trace(
    name: str, where: str, ahead: bool, batches: list[Batch], make_model: Make, same: Make
) -> None:
    """Weights, optimizer, moving average and statistics are those of a training that never met it, be it the
    first step or a later one."""
    node, bad = OPTIMIZERS[name], Bad(batches[2], where)
    *expected, _ = learn(make_model, node, batches[:2], ahead=False)
    *found, finite = learn(make_model, node, [bad, batches[0], bad, bad, batches[1]], ahead)
    assert finite == [False, True, False, False, True]
    assert same(expected, found)


def test_a_head_that_learns_later_fits_every_fused_optimizer(
    batches: list[Batch], make_model: Make, same: Make
) -> None:
    for name in ("fused SGD", "fused AdamW"):
        learnt = []
        for fused in (True, False):
            model = make_model(vector={"start_epoch": 2})
            optimizer = build_optimizer({**OPTIMIZERS[name], "fused": fused}, model)
            step = TrainingStep(model, optimizer, ahead=fused)
            for epoch, batch in enumerate(batches[:3], start=1):
                step(batch, epoch)
            learnt.append([parameter.detach() for parameter in model.parameters()])
        torch.testing.assert_close(learnt[0], learnt[1], rtol=1e-4, atol=1e-6)


class Poison:
    """Makes the loss of a head infinite in the calls of a list."""

    def __init__(self, model: Any, calls: set[int], head: str = "semantic") -> None:
        self.count, self.calls = 0, calls
        criterion = model.heads[head].criterion
        self.forward = criterion.forward
        criterion.forward = self

    def __call__(self, *tensors: Tensor) -> Tensor:
        self.count += 1
        return self.forward(*tensors) * (math.nan if self.count in self.calls else 1.0)


def computing_ahead(runner: TrainingRunner) -> TrainingRunner:
    """As on a GPU."""
    runner.learn = TrainingStep(
        runner.model,
        runner.optimizer,
        runner.network,
        clip_gradient=runner.learn.clip_gradient,
        ema=runner.ema,
        ahead=True,
    )
    return runner


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", ["fused AdamW", "fused SGD"])
def test_a_training_decided_on_the_device_is_the_one_decided_by_the_program(
    name: str, accumulate: int, make_runner: Make, same: Make
) -> None:
    runners = []
    for ahead in (False, True):
        runner = make_runner(
            folder=f"ahead-{ahead}",
            samples=10,
            epochs=3,
            optimizer=OPTIMIZERS[name],
            clip_gradient=1.0,
            accumulate=accumulate,
            ema={"decay": 0.9, "every": 2},
            scheduler={"type": "ExponentialLR", "gamma": 0.7},
            interval="step",
            look_every=4,
        )
        Poison(runner.model, {1, 4, 8, 9, 15})
        runner = computing_ahead(runner) if ahead else runner
        runner.fit()
        runners.append(runner)
    assert runners[0].nonfinite.total == runners[1].nonfinite.total >= 4
    assert same(runners[0].state(), runners[1].state())
    assert same(runners[0].history, runners[1].history)


# Waiting for the device -------------------------------------------------------------------------------------


class Reads(TorchDispatchMode):
    """Counts what makes a program wait for numbers of a device."""

    waiting = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "unique", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.waiting:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    counter = Reads()
    for name in ("tolist", "numpy", "cpu"):  # which are seen by no dispatch on the CPU
        method = getattr(Tensor, name)

        def spy(self: Tensor, *args: Any, method: Any = method, name: str = name, **named: Any) -> Any:
            counter.found.append(name)
            return method(self, *args, **named)

        monkeypatch.setattr(Tensor, name, spy)
    return counter


def test_no_step_between_looks_waits_for_the_device(make_runner: Make, reads: Reads) -> None:
    runner = computing_ahead(
        make_runner(samples=18, optimizer=OPTIMIZERS["fused AdamW"], clip_gradient=1.0, ema=0.9, look_every=4)
    )
    counts = [_reads_of(runner, batch, reads) for batch in runner.loader]
    assert [bool(count) for count in counts[1:]] == [False, False, True, False, False, False, True, False]
    host = make_runner(folder="host", samples=8, optimizer=OPTIMIZERS["fused AdamW"])
    assert all(_reads_of(host, batch, reads) for batch in host.loader)  # the counter counts


def _reads_of(runner: TrainingRunner, batch: Batch, reads: Reads) -> list[str]:
    targets, reads.found = type(runner.model).targets, []

    def targets_of(batch: Batch) -> Any:
        """On a CPU, and there alone, skeletons are drawn by a compiled loop."""
        before = len(reads.found)
        made = targets(runner.model, batch)
        reads.found[before:] = [name for name in reads.found[before:] if name != "numpy"]
        return made

    runner.model.targets = targets_of  # type: ignore[method-assign]
    with reads:
        runner._one_batch(batch, 1)
    return list(reads.found)


def test_the_optimizers_that_are_not_fused_wait_once_an_update(make_runner: Make, reads: Reads) -> None:
    runner = computing_ahead(make_runner(samples=8, optimizer={"type": "SGD", "lr": 0.1}, look_every=99))
    counts = [_reads_of(runner, batch, reads) for batch in runner.loader]
    assert counts[1:] == [["_local_scalar_dense"]] * 3


# Counting ---------------------------------------------------------------------------------------------------


def losses_of(*values: float) -> Losses:
    tensor = torch.tensor([sum(values), *values])
    return Losses(("loss", "a", "b")[: len(tensor)], tensor, tensor.isfinite().all())


def test_a_look_judges_all_steps_since_the_last_and_stops_at_too_many(
    batches: list[Batch], caplog: pytest.LogCaptureFixture
) -> None:
    judge, (batch, other) = NonFinite(in_a_row=1, every=5), batches[:2]
    for value in (1.0, math.nan, 1.0, math.nan):
        judge.add(losses_of(0.5, value), batch, ahead=True)
    assert judge.total == 0 and not caplog.records
    judge.add(losses_of(math.inf, 1.0), other, ahead=True)
    assert (judge.total, judge.in_a_row, judge.heads, judge.too_many) == (3, 2, ["a"], True)
    assert ["b" in record.getMessage().split(" is not")[0] for record in caplog.records] == [
        True,
        True,
        False,
    ]
    assert all(origin in caplog.records[-1].getMessage() for origin in other.origins)
    assert judge.worst is other

    late = NonFinite(in_a_row=1, every=5)  # a good step afterwards does not undo it
    for value in (math.nan, math.nan, 1.0, 1.0, 1.0):
        late.add(losses_of(0.5, value), batch, ahead=True)
    assert late.too_many and late.in_a_row == 2


def test_too_many_on_the_device_end_the_training_too(make_runner: Make) -> None:
    runner = computing_ahead(
        make_runner(samples=18, optimizer=OPTIMIZERS["fused AdamW"], look_every=6, max_nonfinite_steps=2)
    )
    Poison(runner.model, {2, 3, 4})
    with pytest.raises(SkootsError, match="3 steps in a row had a loss that is no number, last in head sem"):
        runner.fit()
    assert runner.step == 5  # at the sixth look


# Accumulation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_the_whole_update_is_left_out(bad: int, make_runner: Make, copy_of: Make, same: Make) -> None:
    runner = make_runner(samples=12, accumulate=3, max_nonfinite_steps=5)
    Poison(runner.model, {bad})
    before, (*first, _, _, last) = copy_of(runner.model), list(runner.loader)
    for batch in first:
        runner._one_batch(batch, 1)
    assert same(before, runner.model.state_dict()) and not runner.optimizer.state
    assert (runner.step, runner.nonfinite.in_a_row) == (1, 1)
    for batch in (*first[:2], last):
        runner._one_batch(batch, 1)
    assert not same(before, runner.model.state_dict()) and runner.nonfinite.in_a_row == 0


def test_gradients_that_are_no_numbers_end_a_training_that_accumulates(make_runner: Make) -> None:
    """Though the losses of all batches but the last of each update are numbers that nothing is done with."""
    runner = make_runner(epochs=9, samples=8, accumulate=2, max_nonfinite_steps=2)
    for parameter in runner.model.parameters():
        parameter.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(SkootsError, match="3 steps in a row"):
        runner.fit()
    assert runner.step == 2 and runner.nonfinite.total == 3


def test_the_rest_of_an_update_after_going_on_knows_what_came_before(
    make_runner: Make, copy_of: Make, same: Make
) -> None:
    """Running statistics that the first of two batches has spoilt are brought back by the second."""
    first = make_runner(folder="first", samples=8, accumulate=2)
    before, (bad, good, *_) = copy_of(first.model), list(first.loader)
    bad.images[0, 0, 3, 3] = math.nan
    first._one_batch(bad, 1)
    assert any(value.isnan().any() for value in first.model.state_dict().values())
    second = make_runner(folder="second", samples=8, accumulate=2)
    second.load_state(copy.deepcopy(first.state()))
    assert second.progress.batches == 1
    second._one_batch(good, 1)
    assert same(before, second.model.state_dict())


def test_accumulated_batches_are_one_large_one(make_runner: Make, make_model: Make) -> None:
    """With a network whose result does not depend on what else is in the batch."""
    weights = []
    for size, accumulate in ((4, 1), (2, 2), (1, 4)):
        model = make_model(semantic={"weight": 1.0}, vector={"weight": 0.0}, skeleton={"weight": 0.0})
        for layer in model.modules():
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                layer.track_running_stats, layer.training = False, False
        model.freeze_bn_stats = True
        model.heads["semantic"].criterion.forward = _mean_loss
        runner = make_runner(
            folder=f"size-{size}",
            model=model,
            samples=8,
            batch_size=size,
            accumulate=accumulate,
            epochs=1,
            optimizer={"type": "SGD", "lr": 0.1},
        )
        runner.fit()
        assert runner.step == 2
        weights.append([parameter.detach() for parameter in model.parameters()])
    torch.testing.assert_close(weights[0], weights[1])
    torch.testing.assert_close(weights[0], weights[2])


def _mean_loss(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    return (output - target).square().mean()


# Warm-up ----------------------------------------------------------------------------------------------------


class WarmupWatch(Observer):
    """Counts the steps of the warm-up; asks for the end after one of them, as a signal does."""

    def __init__(self, stop_after: int = 0) -> None:
        self.seen: list[int] = []
        self.losses: list[float] = []
        self.stop_after = stop_after

    def warmup_step(self, runner: TrainingRunner, done: int, losses: Mapping[str, Any]) -> None:
        self.seen.append(done)
        self.losses.append(float(losses["loss"]))
        if done == self.stop_after:
            runner.stop.noted = 15


def test_the_warm_up_learns_one_batch_by_heart(make_runner: Make, make_model: Make, same: Make) -> None:
    """Every head counts, and neither steps, epochs, nor the schedule know of it."""
    watch = WarmupWatch()
    late = make_model(vector={"start_epoch": 5})
    runner = make_runner(
        model=late, epochs=0, warmup_steps=6, observers=[watch], scheduler={"type": "StepLR", "step_size": 1}
    )
    other = make_runner(folder="other", model=make_model())
    batch = next(iter(other.loader))
    expected = []
    for _ in range(6):
        model = other.model.train()
        total, _ = model.loss(model(batch.images), model.targets(batch), batch, 1)
        other.optimizer.zero_grad()
        total.backward()
        other.optimizer.step()
        expected.append(float(total.detach()))
    runner.fit()
    assert watch.seen == [1, 2, 3, 4, 5, 6]
    assert watch.losses == pytest.approx(expected, rel=1e-6)
    assert same(other.model.state_dict(), late.state_dict())
    assert (runner.step, runner.epoch, runner.history, runner.learning_rate) == (0, 0, [], 1e-2)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_warm_up_goes_on_where_it_was(stop_after: int, make_runner: Make, same: Make) -> None:
    def make(folder: str, watch: WarmupWatch, **more: Any) -> TrainingRunner:
        return make_runner(folder=folder, warmup_steps=3, ema=0.9, observers=[watch], **more)

    whole = make("whole", WarmupWatch())
    whole.fit()
    first = WarmupWatch(stop_after)
    stopped = make("parts", first)
    assert stopped.fit().stopped_by == 15 and first.seen == list(range(1, stop_after + 1))
    from skoots.snapshots import read_newest

    second = WarmupWatch()
    again = make("parts", second)
    again.load_state(read_newest(again.snapshots.folder)[0])
    again.fit()
    assert second.seen == list(range(stop_after + 1, 4))
    assert same(whole.state(), again.state())

    third = WarmupWatch()
    longer = make("parts", third, epochs=3)
    longer.load_state(read_newest(again.snapshots.folder)[0])
    longer.fit()
    assert third.seen == [] and longer.epoch == 3


def test_the_warm_up_is_guarded(make_runner: Make, caplog: pytest.LogCaptureFixture) -> None:
    runner = make_runner(warmup_steps=4, epochs=1)
    Poison(runner.model, {2})
    runner.fit()
    assert runner.nonfinite.total == 1 and "semantic" in caplog.records[0].getMessage()
    hopeless = make_runner(folder="other", warmup_steps=9, max_nonfinite_steps=2)
    Poison(hopeless.model, set(range(99)))
    with pytest.raises(SkootsError, match="3 steps in a row"):
        hopeless.fit()
    assert (hopeless.snapshots.folder / "snapshot-post-mortem.pt").is_file()
