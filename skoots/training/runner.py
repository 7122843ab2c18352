"""The loop over time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

import torch
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from skoots.data.loaders import Loader
from skoots.errors import Terminated, signal_of
from skoots.models.segmentation_model import SegmentationModel
from skoots.registry import Registry
from skoots.samples import Batch
from skoots.snapshots import Saved, SnapshotManager, admit, among_equals, rank, scored
from skoots.training.averaging import ExponentialAverage, StochasticAverage
from skoots.training.distributed import Network, Processes
from skoots.training.edits import Edits
from skoots.training.epoch_progress import EpochProgress
from skoots.training.final_averages import refresh, save_averages
from skoots.training.fit_result import FitResult
from skoots.training.nonfinite import NonFinite
from skoots.training.observers import Observer
from skoots.training.post_mortem import hopeless
from skoots.training.precision import Precision
from skoots.training.prefetch import on_device
from skoots.training.schedules import Interval, step_scheduler
from skoots.training.state import load_training_state, training_state
from skoots.training.step import Losses, TrainingStep
from skoots.training.stopping import Stopped, StopSignals

log = logging.getLogger("skoots")
Evaluate = Callable[[SegmentationModel, int], dict[str, float]]
PATIENCE = 5.0  # seconds that a batch may take to come after a signal, where others wait for it
_BY_LOSS = "its validation loss is lower"


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
        scheduler: of the learning rate.
        interval: what the scheduler counts: ``epoch``, after validation, or ``step`` of the optimizer.
        monitor: the metric that ``ReduceLROnPlateau`` watches; None takes the key metric.
        evaluate: gives the ``test.*`` metrics of a model; None if there is no validation data.
        observers: watch the loop, see ``observers.py``.
        clip_gradient: longest gradient; None leaves it alone.
        accumulate: batches whose gradients are averaged for one step of the optimizer.
        warmup_steps: steps on the first batch before the first epoch, in which every head counts.
        ema: moving average of the weights, validated in their place; None keeps none.
        swa: mean of the weights of the last epochs; None keeps none.
        precision: number format of the forward pass.
        scaler: of the loss; None takes that of the precision.
        network: how the model is called; None calls it as it is.
        processes: those that train together.
        prefetch: whether the next batch is copied to the device ahead of its step.
        look_every: steps between looks at a device that computes ahead of the program.
        max_nonfinite_steps: steps in a row whose loss may be no number; one more ends training.
        stop: signals that end the training.
        config: the resolved config, saved in every snapshot.
        facts: plain values that inference needs besides, saved in every snapshot.
        provenance: what made the snapshots: versions and platform.
    """

    def __init__(
        self,
        model: SegmentationModel,
        optimizer: Optimizer,
        loader: Loader,
        snapshots: SnapshotManager,
        *,
        device: torch.device,
        epochs: int,
        key_metric: str,
        key_metric_asc: bool,
        eval_interval: int,
        scheduler: LRScheduler | None = None,
        interval: Interval = "epoch",
        monitor: str | None = None,
        evaluate: Evaluate | None = None,
        observers: Sequence[Observer] = (),
        clip_gradient: float | None = None,
        accumulate: int = 1,
        warmup_steps: int = 0,
        ema: ExponentialAverage | None = None,
        swa: StochasticAverage | None = None,
        precision: Precision | None = None,
        scaler: GradScaler | None = None,
        network: Network | None = None,
        processes: Processes | None = None,
        prefetch: bool = True,
        look_every: int = 50,
        max_nonfinite_steps: int = 10,
        stop: StopSignals | None = None,
        config: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.optimizer, self.loader, self.snapshots = model, optimizer, loader, snapshots
        self.device, self.epochs, self.eval_interval = device, epochs, eval_interval
        self.key_metric, self.key_metric_asc = key_metric, key_metric_asc
        self.scheduler, self.interval, self.monitor = scheduler, interval, monitor or key_metric
        self.evaluate, self.observers = evaluate, list(observers)
        self.accumulate, self.warmup_steps, self.prefetch = accumulate, warmup_steps, prefetch
        self.ema, self.swa = ema, swa
        self.processes, self.network = processes or Processes(), network or Network(model)
        self.learn = TrainingStep(
            model,
            optimizer,
            self.network,
            clip_gradient=clip_gradient,
            ema=ema,
            precision=precision,
            scaler=scaler,
            processes=self.processes,
        )
        self.nonfinite = NonFinite(max_nonfinite_steps, look_every, self.processes)
        self.stop = stop or StopSignals()
        self.config = dict(config or {})
        self.facts, self.provenance = dict(facts or {}), dict(provenance or {})
        self.epoch = 0
        self.step = 0
        self.warmed_up = 0  # steps of the warm-up
        self.progress = EpochProgress()
        self.best: dict[str, Any] | None = None
        self.pool: list[dict[str, Any]] = []
        self.history: list[dict[str, float]] = []
        self.average: dict[str, Any] | None = None
        self.ended_early: str | None = None
        self.failed_saves = 0
        self._reserve_memory = True
        self._saved: tuple[int, int] | None = None  # epochs completed and batches in the next one, on disk
        self._before_save: tuple[dict[str, Any] | None, list[dict[str, Any]]] = (None, [])

    @property
    def learning_rate(self) -> float:
        """Of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def learning_rates(self) -> dict[str, float]:
        """``lr`` of the first parameter group, and ``lr.NAME`` of those that have a name."""
        groups = self.optimizer.param_groups
        named = {f"lr.{group['name']}": float(group["lr"]) for group in groups if group.get("name")}
        return {"lr": self.learning_rate, **named}

    @property
    def scaler(self) -> GradScaler | None:
        """Of the loss, in float16."""
        return self.learn.scaler

    @property
    def used_model(self) -> SegmentationModel:
        """The one to validate and to segment with: the moving average if there is one."""
        return self.model if self.ema is None else self.ema.model

    @property
    def samples_of_epoch(self) -> int:
        """That all processes together draw; a last batch that would be smaller is left out."""
        return len(self.loader) * self.loader.batch_size * self.processes.world

    def end_early(self, reason: str) -> None:
        """End the training after the running epoch; for observers."""
        self.ended_early = reason
        if self.processes.is_first:
            log.info("Training ends after epoch %d: %s.", self.epoch, reason)

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
                self._warm_up()
                while self.epoch < self.epochs and self.ended_early is None:
                    self._one_epoch(self.epoch + 1)
                self._finish()
                self._settle()
                self.heed_signals()  # it may have come while the last snapshot was written
            except Stopped as stop:
                stopped_by = stop.signum
                self._save_what_is_not_saved()
            except KeyboardInterrupt as stop:  # where no signals can be listened for, such as in a thread
                stopped_by = signal_of(stop)
                # A step may be half done, or others may be in the middle of theirs: better none.
                if self.processes.world == 1 and (self._saved is None or self._saved[0] < self.epoch):
                    self._save_what_is_not_saved()
            finally:
                self.loader.close()
                self._settle()
                self.snapshots.close()
                for observer in self.observers:
                    observer.fit_end(self)
        if stopped_by is None:
            stopped_by = self.stop.noted
        best = self.best or {"epoch": None, "value": None}
        return FitResult(
            self.epoch,
            best["epoch"],
            best["value"],
            self.history[-1] if self.history else {},
            stopped_by,
            self.failed_saves,
            self.average,
            self.ended_early,
            self.history,
        )

    def _one_epoch(self, epoch: int) -> None:
        if self.swa is not None:
            self.swa.begin_epoch(epoch)
        self.progress.rates = self.progress.rates or self.learning_rates
        measured = {**self.progress.rates, **self._train_epoch(epoch)}
        if self.swa is not None:
            self.swa.end_epoch(self.model, epoch)
        measured |= self._validate(epoch)
        self.snapshots.wait_for_copy()
        self._step_schedule(measured)
        self._settle()  # only now is it certain which epochs are on disk, so that the best can be told
        is_best = self._judge(epoch, measured)
        self.history.append(measured)
        self.epoch, self.progress = epoch, EpochProgress()
        for observer in self.observers:
            observer.epoch_end(self, epoch, measured)
        self._save(is_best)  # last, because an observer may have ended the training

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """What is left of one pass over the loader; returns the mean losses as ``train.loss`` and
        ``train.loss.HEAD``."""
        self.network.begin_epoch(epoch)
        self.model.train()
        self.loader.sampler.set_epoch(epoch, self.progress.samples)
        for observer in self.observers:
            observer.epoch_start(self, epoch)
        if self.progress.batches < len(self.loader):  # all are used if it was stopped in validation
            with self.batches() as batches:
                for batch in on_device(batches, self.device, self.prefetch):
                    self._one_batch(batch, epoch)
        self._look()
        return {
            "train.loss" if name == "loss" else f"train.loss.{name}": value
            for name, value in self.progress.means(self.processes).items()
        } | {"nonfinite_steps": float(self.nonfinite.total)}

    def _one_batch(self, batch: Batch, epoch: int) -> None:
        begins, ends, size = self.accumulation()
        if ends:  # the optimizer's state may still be read by a save
            self.snapshots.wait_for_copy()
        losses = self.learn(batch, epoch, begins, ends, size)
        self.progress.add(len(batch.origins) * self.processes.world, losses)
        self._judge_losses(losses, batch)
        if ends:
            self.step += 1
            if self.scheduler is not None and self.interval == "step" and not self._swa_has_taken_over:
                step_scheduler(self.scheduler)
        if not losses.left_out:
            for observer in self.observers:
                observer.step_end(self, losses.named())
        if self._reserve_memory and self.processes.is_first and not self.network.sharded:
            self._reserve_memory = False
            self.snapshots.reserve(self.state(alone=True))
        self.heed(due=ends and self.snapshots.is_due_after(self.step))

    def heed(self, due: bool = False) -> None:
        """What is to be looked after between batches, of the validation too: the state is whole there.

        Args:
            due: whether the state is to be saved.

        Raises:
            Stopped: a signal has arrived.
        """
        self._settle(wait=False)
        due = due or (self.progress.batches > 0 and self.snapshots.is_due_by_now())
        saving, number = self.processes.largest(int(due and self.processes.is_first), self.stop.asked())
        if saving:
            self._save(within=True)
        if number:
            raise Stopped(number)

    @contextmanager
    def batches(self) -> Iterator[Iterator[Batch]]:
        """Those of the epoch that the sampler was told of; signals end the wait for one, and loading ends
        with the block."""
        with closing(self.loader.batches(self._heed_while_waiting)) as batches:
            yield batches if self.loader.has_workers else self._loaded_here(batches)

    def _loaded_here(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            with self.at_once():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _heed_while_waiting(self, seconds: float) -> None:
        """A single process is between two steps here. Of several, the others may be in the middle of one,
        which ends if the batch comes soon."""
        number = self.stop.asked()
        if number and self.processes.world == 1:
            raise Stopped(number)
        if number and seconds > PATIENCE:
            raise Terminated(number)

    def at_once(self) -> AbstractContextManager[None]:
        """Where nothing that counts is half done, a signal ends it in its middle; the only process does so,
        since others would wait for this one."""
        return self.stop.at_once() if self.processes.world == 1 else nullcontext()

    def heed_signals(self) -> None:
        """Where nothing is to be saved.

        Raises:
            Stopped: a signal has arrived.
        """
        (number,) = self.processes.largest(self.stop.asked())
        if number:
            raise Stopped(number)

    def _warm_up(self) -> None:
        """Learn the first batch of the first epoch by heart, as the training protocol of SKOOTS does."""
        if self.warmed_up >= self.warmup_steps or self.step or self.progress.batches or self.epoch:
            return
        self.network.begin_epoch(0)
        self.model.train()
        self.loader.sampler.set_epoch(1)
        with self.batches() as batches:
            batch = next(on_device(batches, self.device, ahead=False))
        for done in range(self.warmed_up + 1, self.warmup_steps + 1):
            losses = self.learn(batch, epoch=0)
            self.warmed_up = done
            self._judge_losses(losses, batch)
            for observer in self.observers:
                observer.warmup_step(self, done, losses.named())
            self.heed_signals()
        self._look()

    def accumulation(self) -> tuple[bool, bool, int]:
        """Whether the batch begins and ends a group for one update, and how many batches the group has: an
        epoch's last group may be smaller."""
        done, total = self.progress.batches, len(self.loader)
        size = min(self.accumulate, total - done + done % self.accumulate)
        place = done % self.accumulate
        return place == 0, place + 1 == size, size

    def validates(self, epoch: int) -> bool:
        """Whether an epoch is one of those after which a model is validated."""
        return epoch % self.eval_interval == 0 or epoch == self.epochs

    def _validate(self, epoch: int) -> dict[str, float]:
        """The ``test.*`` metrics if the epoch is one of those validated, and ``swa.*`` if they are asked
        for."""
        if self.evaluate is None or not self.validates(epoch):
            return {}
        self.network.share_buffers(self.used_model)
        measured = self.evaluate(self.used_model, epoch)
        if self.swa is not None and self.swa.evaluate and self.swa.count:
            refresh(self, self.swa.model)
            scores = self.evaluate(self.swa.model, epoch)
            measured |= {name.replace("test.", "swa.", 1): value for name, value in scores.items()}
        return measured

    @property
    def _swa_has_taken_over(self) -> bool:
        return self.swa is not None and self.swa.scheduler is not None

    def _step_schedule(self, measured: Mapping[str, float]) -> None:
        if self.swa is not None and self.swa.scheduler is not None:
            step_scheduler(self.swa.scheduler)
        elif self.scheduler is not None and self.interval == "epoch":
            step_scheduler(self.scheduler, measured.get(self.monitor))

    # Losses that are no number ---------------------------------------------------------------------------

    def _judge_losses(self, losses: Losses, batch: Batch) -> None:
        self.nonfinite.add(losses, batch, self.learn.ahead)
        self._end_if_hopeless()

    def _look(self) -> None:
        self.nonfinite.look()
        self._end_if_hopeless()

    def _end_if_hopeless(self) -> None:
        if self.nonfinite.too_many:
            raise hopeless(self)

    # Best and average ------------------------------------------------------------------------------------

    def _judge(self, epoch: int, measured: Mapping[str, float]) -> bool:
        """Whether an epoch is the best so far, and whether it is among those that will be averaged."""
        self._before_save = self.best, self.pool
        entry, larger = scored(epoch, measured, self.key_metric), self.key_metric_asc
        self.pool = admit(self.pool, epoch, entry, self.snapshots.average_best_models, larger)
        if entry is None:
            return False
        best = self.best
        better = best is None or rank(entry, larger) > rank(best, larger)
        if best is not None and best["value"] == entry["value"] and self.processes.is_first:
            log.info(
                "Epochs %d and %d have the same %s, %.4g. The best is epoch %d: %s.",
                *(best["epoch"], epoch, self.key_metric, entry["value"]),
                epoch if better else best["epoch"],
                "it is the later one" if among_equals(entry) == among_equals(best) else _BY_LOSS,
            )
        if better:
            self.best = {**entry, "metric": self.key_metric}
        return better

    def _is_best_still(self) -> bool:
        """Whether an epoch whose save has failed, or was cut off, is the best."""
        if self.best is not None and self.best["epoch"] == self.epoch:
            return True
        return bool(self.history) and self._judge(self.epoch, self.history[-1])

    def _finish(self) -> None:
        """After the last epoch: a last save that failed is tried once more, and the averages are made."""
        self._settle()
        failed = self._saved != (self.epoch, 0) and self.failed_saves > 0
        if self.processes.share(failed):
            self._save(self._is_best_still())
            self._settle()
        save_averages(self)

    # Snapshots -------------------------------------------------------------------------------------------

    def state(self, alone: bool = False) -> dict[str, Any]:
        """All that is needed to go on, under the keys of a snapshot.

        Args:
            alone: whether this process asks by itself, without the others that train with it.
        """
        return training_state(self, alone)

    def load_state(
        self, state: Mapping[str, Any], load_scheduler: bool = True, edits: Edits | None = None
    ) -> None:
        """Go on from a snapshot.

        Args:
            state: what ``state`` returned, read from a file.
            load_scheduler: take up the scheduler's state; otherwise the schedule of this runner is replayed
                to this epoch.
            edits: what of this runner differs from the one that was saved, and stays as it is here; None if
                nothing does.

        Raises:
            SnapshotError: it is the state of another model or scheduler.
        """
        load_training_state(self, state, load_scheduler, edits or Edits())

    def _save(self, is_best: bool = False, within: bool = False) -> None:
        """Begin to save; what became of the save before is taken note of first."""
        self._settle()
        self._look()
        last = self.epoch == self.epochs or self.ended_early is not None
        state = self.state()
        if self.processes.is_first:
            self.snapshots.begin(state, self.epoch, is_best, last, within)

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
        if self.processes.share(self._saved != (self.epoch, self.progress.batches)):
            within = self.progress.batches > 0 or self.epoch == 0
            self._save(not within and self._is_best_still(), within)


RUNNERS: Registry[TrainingRunner] = Registry(
    "runner",
    TrainingRunner,
    aliases=dict.fromkeys(("PoseTrainingRunner", "DetectorTrainingRunner"), "TrainingRunner"),  # DeepLabCut's
)
RUNNERS.register(TrainingRunner)
