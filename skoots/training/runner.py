"""The loop over time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from skoots.errors import SkootsError, SnapshotError
from skoots.models.segmentation_model import SegmentationModel
from skoots.registry import Registry
from skoots.samples import Batch
from skoots.snapshots import SnapshotManager
from skoots.training.observers import Observer
from skoots.training.optimizers import load_optimizer_state, optimizer_state
from skoots.training.schedules import load_scheduler_state, replay, scheduler_state, step_scheduler

log = logging.getLogger("skoots")
Evaluate = Callable[[SegmentationModel, int], dict[str, float]]


@dataclass(frozen=True)
class FitResult:
    """How a training ended.

    Args:
        epochs: epochs completed.
        best_epoch: epoch of the best key metric, None if nothing was validated.
        best_value: the key metric then.
        metrics: what was measured last.
        interrupted: stopped by Ctrl-C.
    """

    epochs: int
    best_epoch: int | None
    best_value: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False


class TrainingRunner:
    """Trains a model: steps, epochs, validation, schedule, snapshots.

    Args:
        model: on its device.
        optimizer: of its parameters.
        loader: batches, its sampler told of each epoch.
        snapshots: saves the state after every epoch.
        device: where the model lies.
        epochs: the last epoch; a resumed run goes on up to it.
        key_metric: what decides which snapshot is best, e.g. ``test.F1``.
        key_metric_asc: whether larger is better.
        eval_interval: epochs between validations; the last epoch is always validated.
        scheduler: steps once an epoch, after validation.
        evaluate: gives the ``test.*`` metrics of a model; None if there is no validation data.
        observers: watch the loop, see ``observers.py``.
        clip_gradient: longest gradient; None leaves it alone.
        max_nonfinite_steps: steps with a loss that is no number before training stops.
        config: the resolved config, saved in every snapshot.
        facts: plain values that inference needs besides, saved in every snapshot.
        provenance: what made the snapshots: versions and platform.
    """

    def __init__(
        self,
        model: SegmentationModel,
        optimizer: Optimizer,
        loader: DataLoader[Batch],
        snapshots: SnapshotManager,
        *,
        device: torch.device,
        epochs: int,
        key_metric: str,
        key_metric_asc: bool,
        eval_interval: int,
        scheduler: LRScheduler | None = None,
        evaluate: Evaluate | None = None,
        observers: Sequence[Observer] = (),
        clip_gradient: float | None = None,
        max_nonfinite_steps: int = 10,
        config: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.optimizer, self.loader, self.snapshots = model, optimizer, loader, snapshots
        self.device, self.epochs, self.eval_interval = device, epochs, eval_interval
        self.key_metric, self.key_metric_asc = key_metric, key_metric_asc
        self.scheduler, self.evaluate, self.observers = scheduler, evaluate, list(observers)
        self.clip_gradient, self.max_nonfinite_steps = clip_gradient, max_nonfinite_steps
        self.config, self.facts, self.provenance = (
            dict(config or {}),
            dict(facts or {}),
            dict(provenance or {}),
        )
        self.epoch = 0
        self.step = 0
        self.nonfinite_steps = 0
        self.best: dict[str, Any] | None = None
        self.history: list[dict[str, float]] = []
        self.saved_epoch: int | None = None

    @property
    def learning_rate(self) -> float:
        """Of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    # The loop --------------------------------------------------------------------------------------------

    def fit(self) -> FitResult:
        """Train from the epoch reached so far to the last one.

        Returns:
            How it ended; Ctrl-C ends it in good order.

        Raises:
            SkootsError: too many steps without a finite loss, or a snapshot could not be written.
        """
        interrupted, began = False, self.epoch
        try:
            for observer in self.observers:
                observer.fit_start(self)
            while self.epoch < self.epochs:
                self._one_epoch(self.epoch + 1)
        except KeyboardInterrupt:
            interrupted = True
            self._save_what_is_not_saved(began)
        finally:
            for observer in self.observers:
                observer.fit_end(self)
        best = self.best or {"epoch": None, "value": None}
        last = self.history[-1] if self.history else {}
        return FitResult(self.epoch, best["epoch"], best["value"], last, interrupted)

    def _one_epoch(self, epoch: int) -> None:
        measured = {"lr": self.learning_rate, **self._train_epoch(epoch)}
        if self.evaluate is not None and (epoch % self.eval_interval == 0 or epoch == self.epochs):
            measured |= self.evaluate(self.model, epoch)
        if self.scheduler is not None:
            step_scheduler(self.scheduler, measured.get(self.key_metric))
        is_best = self._is_best(measured.get(self.key_metric))
        if is_best:
            self.best = {"epoch": epoch, "value": measured[self.key_metric], "metric": self.key_metric}
        self.history.append(measured)
        self.epoch = epoch
        self._save(is_best)
        for observer in self.observers:
            observer.epoch_end(self, epoch, measured)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the loader; returns the mean losses as ``train.loss`` and ``train.loss.HEAD``."""
        self.model.train()
        self.loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for observer in self.observers:
            observer.epoch_start(self, epoch)
        sums: dict[str, Tensor] = {}
        counted = 0
        for batch in self.loader:
            losses = self._train_step(batch.to(self.device, non_blocking=True), epoch)
            if losses is None:
                continue
            counted += 1
            for name, value in losses.items():
                sums[name] = sums[name] + value if name in sums else value
            for observer in self.observers:
                observer.step_end(self, losses)
        means = {name: float(value) / counted for name, value in sums.items()} or {"loss": math.nan}
        return {
            "train.loss" if name == "loss" else f"train.loss.{name}": value for name, value in means.items()
        } | {"nonfinite_steps": float(self.nonfinite_steps)}

    def _train_step(self, batch: Batch, epoch: int) -> dict[str, Tensor] | None:
        """Forward, loss, backward, update; None if loss or gradient was no number: the step is left out."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        total, parts = self.model.loss(self.model(batch.images), self.model.targets(batch), batch, epoch)
        finite = bool(torch.isfinite(total))
        if finite and total.requires_grad:
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            longest = math.inf if self.clip_gradient is None else self.clip_gradient
            finite = bool(torch.isfinite(nn.utils.clip_grad_norm_(self.model.parameters(), longest)))
        if not finite:
            # batch norms have taken in what made the loss infinite, and would never forget a NaN
            for buffer, before in zip(self.model.buffers(), buffers):
                buffer.copy_(before)
            self._count_nonfinite(parts, batch)
            return None
        if total.requires_grad:
            self.optimizer.step()
        self.step += 1
        return {"loss": total.detach(), **{name: value.detach() for name, value in parts.items()}}

    def _count_nonfinite(self, parts: Mapping[str, Tensor], batch: Batch) -> None:
        self.nonfinite_steps += 1
        heads = [name for name, value in parts.items() if not bool(torch.isfinite(value))] or [
            "the weighted sum, or its gradient,"
        ]
        log.warning(
            "The loss of %s is not finite; step left out. Samples: %s",
            ", ".join(heads),
            "; ".join(batch.origins),
        )
        if self.nonfinite_steps > self.max_nonfinite_steps:
            raise SkootsError(
                f"Training stopped: {self.nonfinite_steps} steps had a loss that is no number, last in head "
                f"{', '.join(heads)}. Try a lower learning rate (runner.optimizer.params.lr) or "
                f"runner.clip_gradient: 1.0; "
                f"the snapshots of earlier epochs are in {self.snapshots.folder}."
            )

    def _is_best(self, value: float | None) -> bool:
        if value is None or math.isnan(value):
            return False
        if self.best is None:
            return True
        return value > self.best["value"] if self.key_metric_asc else value < self.best["value"]

    # Snapshots -------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, under the keys of a snapshot."""
        measured = self.history[-1] if self.history else {}
        state = {
            "net": self.model.state_dict(),
            "acc": measured.get(self.key_metric),
            "epoch": self.epoch,
            "step": self.step,
            "optimizer_state_dict": optimizer_state(self.optimizer),
            "rng": _random_state(),
            "best": self.best,
            "metrics": measured,
            "history": self.history,
            "nonfinite_steps": self.nonfinite_steps,
            "cfg": self.config,
            "facts": self.facts,
            "provenance": self.provenance,
        }
        if self.scheduler is not None:
            state["torch_scheduler_state_dict"] = scheduler_state(self.scheduler)
        return state

    def load_state(self, state: Mapping[str, Any], load_scheduler: bool = True) -> None:
        """Go on from a snapshot.

        Args:
            state: what ``state`` returned, read from a file.
            load_scheduler: take up the scheduler's state; otherwise the schedule of the config is replayed
                to this epoch.

        Raises:
            SnapshotError: it is the state of another model, optimizer or scheduler.
        """
        try:
            self.model.load_state_dict(state["net"])
        except RuntimeError as error:
            raise SnapshotError(
                f"The snapshot does not fit the model of this config: {error} Resume with the config of "
                f"its own run."
            ) from error
        self.epoch, self.step = state["epoch"], state.get("step", 0)
        self.best, self.history = state.get("best"), list(state.get("history", []))
        if self.best is not None and self.best["metric"] != self.key_metric:
            self.best = None  # values of two metrics cannot be compared
        self.nonfinite_steps = state.get("nonfinite_steps", 0)
        take_up = load_scheduler and "torch_scheduler_state_dict" in state
        if "optimizer_state_dict" in state:
            options = take_up or (load_scheduler and self.scheduler is None)
            load_optimizer_state(self.optimizer, state["optimizer_state_dict"], options)
        if self.scheduler is not None:
            if take_up:
                load_scheduler_state(self.scheduler, state["torch_scheduler_state_dict"])
            else:
                replay(self.scheduler, self.epoch, [epoch.get(self.key_metric) for epoch in self.history])
        _set_random_state(state.get("rng", {}))

    def _save(self, is_best: bool) -> None:
        self.snapshots.save(self.state(), self.epoch, is_best, last=self.epoch == self.epochs)
        self.saved_epoch = self.epoch

    def _save_what_is_not_saved(self, began: int) -> None:
        """After Ctrl-C: the last complete epoch is on disk already, unless there was none or its saving was
        cut off."""
        if self.saved_epoch != self.epoch:
            self._save(self.epoch > began and self.best is not None and self.best["epoch"] == self.epoch)


def _random_state() -> dict[str, Any]:
    """Of torch's generators; windows are drawn from (seed, epoch, index) and need no state."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _set_random_state(state: Mapping[str, Any]) -> None:
    if "torch" in state:
        torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["cuda"]])


RUNNERS: Registry[TrainingRunner] = Registry("runner", TrainingRunner)
RUNNERS.register(TrainingRunner)
