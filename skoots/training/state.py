"""What a training is made of when it is saved, and how it is put together again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from skoots.errors import SnapshotError
from skoots.models.weights import load_weights, misfit, unwrapped
from skoots.training.distributed import Processes
from skoots.training.edits import Edits
from skoots.training.epoch_progress import EpochProgress
from skoots.training.optimizers import load_optimizer_state, optimizer_state
from skoots.training.random_state import random_state, set_random_state
from skoots.training.schedules import load_scheduler_state, replay, scheduler_state

if TYPE_CHECKING:
    from skoots.training.runner import TrainingRunner

log = logging.getLogger("skoots")


def described_state(runner: TrainingRunner, measured: Mapping[str, float]) -> dict[str, Any]:
    """What every snapshot of a training says beside weights; ``measured`` are the metrics of the weights."""
    return {
        "acc": measured.get(runner.key_metric),
        "epoch": runner.epoch,
        "step": runner.step,
        "metrics": measured,
        "cfg": runner.config,
        **({"facts": runner.facts} if runner.facts else {}),  # of a training put together by hand
        "provenance": runner.provenance,
    }


def training_state(runner: TrainingRunner, alone: bool = False) -> dict[str, Any]:
    """See :meth:`TrainingRunner.state`."""
    processes = Processes() if alone else runner.processes
    state = {
        **described_state(runner, runner.history[-1] if runner.history else {}),
        **_weights_and_optimizer(runner),
        "sampler": {"plan": _plan(runner), **runner.progress.plain(processes)},
        "best": runner.best,
        "averaging": {"pool": runner.pool},
        "history": runner.history,
        "nonfinite_steps": runner.nonfinite.total,
    }
    state["rng"], *others = processes.gather(random_state())
    if others:
        state["rng_of_others"] = others
    remembered = {type(observer).__name__: observer.state() for observer in runner.observers}
    if any(remembered.values()):
        state["observers"] = {name: value for name, value in remembered.items() if value}
    if runner.warmed_up:
        state["warmup_steps"] = runner.warmed_up
    if runner.scheduler is not None:
        state["torch_scheduler_state_dict"] = scheduler_state(runner.scheduler)
    if runner.scaler is not None:
        state["scaler_state_dict"] = runner.scaler.state_dict()
    if runner.ema is not None:
        state["ema_net"] = runner.ema.model.state_dict()
        state["averaging"]["ema_steps"] = runner.ema.steps
    if runner.swa is not None:
        state["averaging"]["swa"] = runner.swa.state()
    if runner.progress.batches < len(runner.loader) and not runner.accumulation()[0]:
        # Each process has the gradient of its part; the exchange averages them, and so can go on from the
        # mean.
        state["gradients"] = {
            name: _whole_gradient(runner, parameter.grad, processes)
            for name, parameter in runner.model.named_parameters()
            if parameter.grad is not None
        }
        state["statistics_before"] = runner.learn.statistics.before
    return state


def _whole_gradient(runner: TrainingRunner, gradient: Tensor, processes: Processes) -> Tensor:
    if not runner.network.sharded:
        return processes.mean(gradient)
    from skoots.training.sharding import whole

    return whole(gradient)


def _weights_and_optimizer(runner: TrainingRunner) -> dict[str, Any]:
    if runner.network.sharded:
        from skoots.training.sharding import whole_optimizer_state, whole_weights

        state = whole_optimizer_state(runner.optimizer)
        kind = type(runner.optimizer).__name__
        return {"net": whole_weights(runner.model), "optimizer_state_dict": {**state, "type": kind}}
    return {
        "net": unwrapped(runner.model).state_dict(),
        "optimizer_state_dict": optimizer_state(runner.optimizer),
    }


def load_training_state(
    runner: TrainingRunner, state: Mapping[str, Any], load_scheduler: bool, edits: Edits
) -> None:
    """See :meth:`TrainingRunner.load_state`."""
    _load_weights(runner, state)
    runner.epoch, runner.step = state["epoch"], state.get("step", 0)
    runner.warmed_up = state.get("warmup_steps", 0)
    runner.best, history = state.get("best"), list(state.get("history", []))
    runner.history = [{}] * (
        runner.epoch - len(history)
    ) + history  # an average does not tell how it came about
    runner.pool = list(state.get("averaging", {}).get("pool", []))
    if runner.best is not None and runner.best["metric"] != runner.key_metric:
        log.warning(
            "The best snapshot so far, of epoch %d, was chosen by %s. By %s the best is looked for again "
            "from here.",
            *(runner.best["epoch"], runner.best["metric"], runner.key_metric),
        )
        runner.best, runner.pool = None, []  # values of two metrics cannot be compared
    runner.nonfinite.total = state.get("nonfinite_steps", 0)
    if runner.scaler is not None and "scaler_state_dict" in state:
        runner.scaler.load_state_dict(state["scaler_state_dict"])
    goes_on = load_scheduler and _schedule_goes_on(runner, state, edits)
    _load_optimizer(runner, state, edits.options if goes_on else None)
    if goes_on and runner.scheduler is not None:
        load_scheduler_state(runner.scheduler, state["torch_scheduler_state_dict"])
    _load_mean(runner, state, edits, goes_on)
    if not goes_on:
        _replay(runner)
    _load_progress(runner, state)
    if edits.optimizer:
        runner.progress.rates = {}
    for observer in runner.observers:
        if type(observer).__name__ in state.get("observers", {}):
            observer.load_state(state["observers"][type(observer).__name__])
    generators = [state.get("rng", {}), *state.get("rng_of_others", [])]
    if runner.processes.rank < len(generators) and not edits.seed:
        set_random_state(generators[runner.processes.rank])


def _load_weights(runner: TrainingRunner, state: Mapping[str, Any]) -> None:
    try:
        if runner.network.sharded:
            from skoots.training.sharding import load_whole_weights

            load_whole_weights(runner.model, state["net"])
        else:
            load_weights(runner.model, state["net"])
        if runner.ema is not None:
            load_weights(runner.ema.model, state.get("ema_net", state["net"]))
            runner.ema.steps = state.get("averaging", {}).get("ema_steps", 0)
    except SnapshotError as error:
        raise SnapshotError(
            f"The snapshot does not fit the model of this config ({misfit(runner.model, state['net'])}). "
            "Resume with the config of its own run (skoots resume), or take over what fits (weights.from, "
            "weights.strict)."
        ) from error
    if runner.ema is not None and "ema_net" not in state:
        log.warning("The snapshot has no EMA weights; the moving average begins with its weights.")
    if runner.ema is None and "ema_net" in state:
        log.warning("The snapshot has EMA weights and the config no runner.ema; they are left behind.")


def _schedule_goes_on(runner: TrainingRunner, state: Mapping[str, Any], edits: Edits) -> bool:
    """Whether the learning rates can go on from the snapshot, instead of being replayed."""
    saved, own = state.get("optimizer_state_dict", {}), type(runner.optimizer).__name__
    known = runner.scheduler is None or "torch_scheduler_state_dict" in state
    return known and not edits.rates and saved.get("type", own) == own


def _load_optimizer(
    runner: TrainingRunner, state: Mapping[str, Any], edited: Sequence[Collection[str]] | None
) -> None:
    if "optimizer_state_dict" in state:
        load_optimizer_state(runner.optimizer, state["optimizer_state_dict"], edited, _how_to_load(runner))
    else:
        log.warning("The snapshot holds no state of the optimizer, which starts fresh.")


def _load_mean(runner: TrainingRunner, state: Mapping[str, Any], edits: Edits, goes_on: bool) -> None:
    saved = state.get("averaging", {}).get("swa")
    if runner.swa is None:
        if saved is not None and saved["count"]:
            log.warning("The snapshot has a mean of weights and the config no runner.swa; it is left behind.")
    elif saved is not None and not edits.swa_start:
        runner.swa.load_state(saved, schedule=goes_on)
    elif runner.epoch >= runner.swa.swa_start:
        log.warning(
            "The mean of the weights begins with epoch %d; weights of epochs from runner.swa.swa_start, %d, "
            "on are not kept.",
            *(runner.epoch + 1, runner.swa.swa_start),
        )


def _replay(runner: TrainingRunner) -> None:
    """Bring the learning rates to where the schedules of this training are at this point."""
    epochs, swa = runner.epoch, runner.swa
    regular = epochs if swa is None else min(epochs, swa.swa_start)
    if runner.scheduler is not None and runner.interval == "step":
        in_epochs = -(-len(runner.loader) // runner.accumulate) * regular
        replay(runner.scheduler, runner.step if swa is None else min(runner.step, in_epochs))
    elif runner.scheduler is not None:
        replay(runner.scheduler, regular, [epoch.get(runner.monitor) for epoch in runner.history])
    if swa is not None:
        swa.replay(epochs - swa.swa_start)


def _how_to_load(runner: TrainingRunner) -> Callable[[dict[str, Any]], None]:
    if not runner.network.sharded:
        return runner.optimizer.load_state_dict
    from skoots.training.sharding import load_whole_optimizer_state

    return partial(load_whole_optimizer_state, runner.optimizer)


def _load_progress(runner: TrainingRunner, state: Mapping[str, Any]) -> None:
    sampler = state.get("sampler", {})
    if not sampler.get("batches"):
        return
    if sampler["plan"] != _plan(runner):
        log.warning(
            "The snapshot is in the middle of an epoch of %d samples in %d batches, %d for a step. Now it "
            "has %d, %d and %d, and is begun again.",
            *sampler["plan"],
            *_plan(runner),
        )
        return
    runner.progress = EpochProgress.of(sampler, runner.device)
    gradients = state.get("gradients", {})
    for name, parameter in runner.model.named_parameters():
        if name in gradients:
            parameter.grad = _gradient_like(runner, parameter, gradients[name])
    for own, before in zip(runner.learn.statistics.before, state.get("statistics_before", [])):
        own.copy_(before)


def _gradient_like(runner: TrainingRunner, parameter: Tensor, gradient: Tensor) -> Tensor:
    if not runner.network.sharded:
        return gradient.to(parameter)
    from skoots.training.sharding import part

    return part(gradient, parameter)


def _plan(runner: TrainingRunner) -> list[int]:
    """What the position in an epoch refers to: its samples, its batches, and how many of these make a
    step."""
    samples = runner.loader.sampler.length  # of all processes
    return [samples, len(runner.loader), runner.accumulate]
