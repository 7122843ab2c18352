"""The loop over time."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from skoots.errors import SkootsError, SnapshotError
from skoots.models.segmentation_model import SegmentationModel
from skoots.models.weights import unwrapped
from skoots.registry import Registry
from skoots.samples import Batch
from skoots.snapshots import Saved, SnapshotManager, admit
from skoots.training.averaging import ExponentialAverage, refresh_statistics
from skoots.training.epoch_progress import EpochProgress
from skoots.training.observers import Observer
from skoots.training.schedules import step_scheduler
from skoots.training.state import described_state, load_training_state, training_state
from skoots.training.stopping import Stopped, StopSignals

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
        stopped_by: number of the signal that ended it early, None if it came to its end.
        failed_saves: saves that did not succeed.
        average: what is known of the average of the best epochs: ``count``, ``epochs``, ``value``; None
            without one."""

    epochs: int
    best_epoch: int | None
    best_value: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    stopped_by: int | None = None
    failed_saves: int = 0
    average: dict[str, Any] | None = None

    @property
    def interrupted(self) -> bool:
        """Whether it ended early."""
        return self.stopped_by is not None


class TrainingRunner:
    """Trains a model: steps, epochs, validation, schedule, snapshots.

    Args:
        model: on its device.
        optimizer: of its parameters.
        loader: batches, its sampler told of each epoch and how far it is.
        snapshots: saves the state after every epoch, and within long ones.
        device: where the model lies.
        epochs: the last epoch; a resumed run goes on up to it.
        key_metric: what decides which snapshot is best, e.g. ``test.F1``.
        key_metric_asc: whether larger is better.
        eval_interval: epochs between validations; the last epoch is always validated.
        scheduler: steps once an epoch, after validation.
        evaluate: gives the ``test.*`` metrics of a model; None if there is no validation data.
        observers: watch the loop, see ``observers.py``.
        clip_gradient: longest gradient; None leaves it alone.
        accumulate: batches whose gradients are averaged for one step of the optimizer.
        ema: moving average of the weights, validated in their place; None keeps none.
        scaler: of the loss, in half precision; None scales nothing.
        max_nonfinite_steps: steps with a loss that is no number before training stops.
        stop: signals that end the training.
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
        accumulate: int = 1,
        ema: ExponentialAverage | None = None,
        scaler: GradScaler | None = None,
        max_nonfinite_steps: int = 10,
        stop: StopSignals | None = None,
        config: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.optimizer, self.loader, self.snapshots = model, optimizer, loader, snapshots
        self.device, self.epochs, self.eval_interval = device, epochs, eval_interval
        self.key_metric, self.key_metric_asc = key_metric, key_metric_asc
        self.scheduler, self.evaluate, self.observers = scheduler, evaluate, list(observers)
        self.clip_gradient, self.accumulate, self.ema, self.scaler = clip_gradient, accumulate, ema, scaler
        self.max_nonfinite_steps, self.stop = max_nonfinite_steps, stop or StopSignals()
        self.config, self.facts, self.provenance = (
            dict(config or {}),
            dict(facts or {}),
            dict(provenance or {}),
        )
        self.epoch = 0
        self.step = 0
        self.progress = EpochProgress()
        self.nonfinite_steps = 0
        self.best: dict[str, Any] | None = None
        self.pool: list[dict[str, Any]] = []
        self.history: list[dict[str, float]] = []
        self.average: dict[str, Any] | None = None
        self.failed_saves = 0
        self._reserve_memory = True
        self._saved: tuple[int, int] | None = None  # epochs completed and batches in the next one, on disk
        self._before_save: tuple[dict[str, Any] | None, list[dict[str, Any]]] = (None, [])

    @property
    def learning_rate(self) -> float:
        """Of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def used_model(self) -> SegmentationModel:
        """The one to validate and to segment with: the moving average if there is one."""
        return self.model if self.ema is None else self.ema.model

    # The loop --------------------------------------------------------------------------------------------

    def fit(self) -> FitResult:
        """Train from the point reached so far to the last epoch.

        Returns:
            How it ended; a signal ends it in good order, after the running step.

        Raises:
            SkootsError: too many steps without a finite loss.
        """
        stopped_by = None
        with self.stop.listening():
            try:
                for observer in self.observers:
                    observer.fit_start(self)
                while self.epoch < self.epochs:
                    self._one_epoch(self.epoch + 1)
                self._finish()
                self._settle()
                self.stop.heed()  # it may have come while the last snapshot was written
            except Stopped as stop:
                stopped_by = stop.signum
                self._save_what_is_not_saved()
            except KeyboardInterrupt:  # where no signals can be listened for, such as in a thread
                stopped_by = int(signal.SIGINT)
                if self._saved is None or self._saved[0] < self.epoch:  # a step may be half done: better none
                    self._save_what_is_not_saved()
            finally:
                self._settle()
                self.snapshots.close()
                for observer in self.observers:
                    observer.fit_end(self)
        if stopped_by is None:
            stopped_by = self.stop.noted
        best = self.best or {"epoch": None, "value": None}
        last = self.history[-1] if self.history else {}
        return FitResult(
            self.epoch, best["epoch"], best["value"], last, stopped_by, self.failed_saves, self.average
        )

    def _one_epoch(self, epoch: int) -> None:
        measured = {"lr": self.learning_rate, **self._train_epoch(epoch)}
        if self.evaluate is not None and (epoch % self.eval_interval == 0 or epoch == self.epochs):
            measured |= self.evaluate(self.used_model, epoch)
        self.snapshots.wait_for_copy()
        if self.scheduler is not None:
            step_scheduler(self.scheduler, measured.get(self.key_metric))
        self._settle()  # only now is it certain which epochs are on disk, so that the best can be told
        is_best = self._judge(epoch, measured.get(self.key_metric))
        self.history.append(measured)
        self.epoch, self.progress = epoch, EpochProgress()
        self._save(is_best)
        for observer in self.observers:
            observer.epoch_end(self, epoch, measured)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """What is left of one pass over the loader; returns the mean losses as ``train.loss`` and
        ``train.loss.HEAD``."""
        self.model.train()
        self.loader.sampler.set_epoch(epoch, self.progress.samples)  # type: ignore[attr-defined]
        for observer in self.observers:
            observer.epoch_start(self, epoch)
        if self.progress.batches < len(self.loader):  # all are used if it was stopped in validation
            for batch in self.loader:
                self._one_batch(batch, epoch)
        return {
            "train.loss" if name == "loss" else f"train.loss.{name}": value
            for name, value in self.progress.means().items()
        } | {"nonfinite_steps": float(self.nonfinite_steps)}

    def _one_batch(self, batch: Batch, epoch: int) -> None:
        before = self.step
        losses = self._train_step(batch.to(self.device, non_blocking=True), epoch)
        self.progress.add(len(batch.origins), losses)
        if losses is not None:
            for observer in self.observers:
                observer.step_end(self, losses)
        if self._reserve_memory:
            self._reserve_memory = False
            self.snapshots.reserve(self.state())
        if self.step > before and self.snapshots.is_due_after(self.step):
            self._save(within=True)
        self.heed()

    def heed(self) -> None:
        """What is to be looked after between batches, of the validation too: the state is whole there.

        Raises:
            Stopped: a signal has arrived.
        """
        self._settle(wait=False)
        if self.progress.batches and self.snapshots.is_due_by_now():
            self._save(within=True)
        self.stop.heed()

    def _train_step(self, batch: Batch, epoch: int) -> dict[str, Tensor] | None:
        """Forward, loss, backward, and an update if enough batches are accumulated; None if loss or gradient
        was no number: the batch, or the update, is left out."""
        begins, ends, size = self.accumulation()
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        total, parts = self.model.loss(self.model(batch.images), self.model.targets(batch), batch, epoch)
        if begins:
            self.optimizer.zero_grad(set_to_none=True)
        finite = bool(torch.isfinite(total))
        if finite and total.requires_grad:
            loss = total / size
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if not finite:
            _restore(self.model, buffers)
        if ends and (finite or size > 1) and not self._update():
            finite = False
            _restore(self.model, buffers)
        if not finite:
            self._count_nonfinite(parts, batch)
            return None
        return {"loss": total.detach(), **{name: value.detach() for name, value in parts.items()}}

    def accumulation(self) -> tuple[bool, bool, int]:
        """Whether the batch begins and ends a group for one update, and how many batches the group has: an
        epoch's last group may be smaller."""
        done, total = self.progress.batches, len(self.loader)
        size = min(self.accumulate, total - done + done % self.accumulate)
        place = done % self.accumulate
        return place == 0, place + 1 == size, size

    def _update(self) -> bool:
        """One step of the optimizer, unless the gradient is no number."""
        longest = math.inf if self.clip_gradient is None else self.clip_gradient
        self.snapshots.wait_for_copy()
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        finite = bool(torch.isfinite(nn.utils.clip_grad_norm_(self.model.parameters(), longest)))
        if self.scaler is not None:  # leaves out a step that is not finite, and lowers the scale
            self.scaler.step(self.optimizer)
            self.scaler.update()
        elif finite:
            self.optimizer.step()
        if not finite:
            return False
        self.step += 1
        if self.ema is not None:
            self.ema.update(self.model)
        return True

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

    # Best and average ------------------------------------------------------------------------------------

    def _judge(self, epoch: int, value: float | None) -> bool:
        """Whether an epoch is the best so far, and whether it is among those that will be averaged."""
        self._before_save = self.best, self.pool
        self.pool = admit(self.pool, epoch, value, self.snapshots.average_best_models, self.key_metric_asc)
        if value is None or not math.isfinite(value):
            return False
        if self.best is not None:
            better = value > self.best["value"] if self.key_metric_asc else value < self.best["value"]
            if not better:
                return False
        self.best = {"epoch": epoch, "value": value, "metric": self.key_metric}
        return True

    def _is_best_still(self) -> bool:
        """Whether an epoch whose save has failed, or was cut off, is the best."""
        if self.best is not None and self.best["epoch"] == self.epoch:
            return True
        return bool(self.history) and self._judge(self.epoch, self.history[-1].get(self.key_metric))

    def _finish(self) -> None:
        """After the last epoch: a last save that failed is tried once more, and the average is made."""
        self._settle()
        if self._saved != (self.epoch, 0) and self.failed_saves:
            self._save(self._is_best_still())
            self._settle()
        if self.pool:
            try:
                self._save_average()
            except SnapshotError as error:
                self.failed_saves += 1
                log.error("The average of the best epochs was not made: %s", error)

    def _save_average(self) -> None:
        """``snapshot-average.pt``: its statistics measured, validated like any epoch; the model stays as it
        was."""
        weights, members = self.snapshots.average(self.pool)
        model = unwrapped(self.model)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            model.load_state_dict(weights)
            self.loader.sampler.set_epoch(self.epoch + 1)  # type: ignore[attr-defined]
            refreshed = refresh_statistics(self.model, self._until_stopped(), self.device)
            measured = {} if self.evaluate is None else self.evaluate(self.model, self.epoch)
            self.average = {
                "count": len(members),
                "epochs": [member["epoch"] for member in members],
                "value": measured.get(self.key_metric),
                "statistics": refreshed,
            }
            state = {
                **described_state(self, measured),
                "net": model.state_dict(),
                "averaging": self.average,
            }
            self._announce(self.snapshots.save_average(state))
        finally:
            model.load_state_dict(before)
        epochs, value = ", ".join(map(str, self.average["epochs"])), self.average["value"]
        scored = "" if value is None else f": {self.key_metric} {value:.4g}"
        log.info("The average of epochs %s%s.", epochs, scored)

    def _until_stopped(self) -> Iterator[Batch]:
        for batch in self.loader:
            self.stop.heed()
            yield batch

    # Snapshots -------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, under the keys of a snapshot."""
        return training_state(self)

    def load_state(self, state: Mapping[str, Any], load_scheduler: bool = True) -> None:
        """Go on from a snapshot.

        Args:
            state: what ``state`` returned, read from a file.
            load_scheduler: take up the scheduler's state; otherwise the schedule of the config is replayed
                to this epoch.

        Raises:
            SnapshotError: it is the state of another model, optimizer or scheduler.
        """
        load_training_state(self, state, load_scheduler)

    def _save(self, is_best: bool = False, within: bool = False) -> None:
        """Begin to save; what became of the save before is taken note of first."""
        self._settle()
        last = self.epoch == self.epochs
        self.snapshots.begin(self.state(), self.epoch, is_best, last, within)

    def _settle(self, wait: bool = True) -> None:
        """Take note of what became of the save that was begun last."""
        saved = self.snapshots.settle(wait)
        if saved is not None:
            self._announce(saved)

    def _announce(self, saved: Saved) -> None:
        if saved.error is not None:
            self.failed_saves += 1
            log.error("%s Training goes on.", saved.error)
            if not saved.within:  # what is not on disk is neither best nor averaged
                self.best, self.pool = self._before_save
            return
        self._saved = saved.epoch, saved.batches
        for observer in self.observers:
            observer.saved(self, saved)

    def _save_what_is_not_saved(self) -> None:
        self._settle()
        if self._saved != (self.epoch, self.progress.batches):
            within = self.progress.batches > 0 or self.epoch == 0
            self._save(not within and self._is_best_still(), within)


def _restore(model: nn.Module, buffers: Sequence[Tensor]) -> None:
    """Batch norms have taken in what made a loss infinite, and would never forget a NaN."""
    for buffer, before in zip(model.buffers(), buffers):
        buffer.copy_(before)


RUNNERS: Registry[TrainingRunner] = Registry("runner", TrainingRunner)
RUNNERS.register(TrainingRunner)
