"""What watches the training loop. The loop calls these moments by name, in this order::

fit_start
    warmup_step             after every step of the warm-up, if there is one
    epoch_start
        step_end            after every step
    epoch_end               with all that was measured
    saved                   a snapshot is whole on disk: soon after it was begun, perhaps in the next epoch
fit_end                     also after an error or a signal

An observer that remembers something (an early stop its patience) gives it to the snapshot with ``state`` and
gets it back with ``load_state``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skoots.loggers.base import Logger
from skoots.snapshots import Saved, aliases_of
from skoots.terminal import ProgressBar, progress_bar

if TYPE_CHECKING:
    from skoots.training.runner import TrainingRunner

log = logging.getLogger("skoots")


class Observer:
    """Does nothing; override the moments that matter."""

    def fit_start(self, runner: TrainingRunner) -> None: ...

    def warmup_step(self, runner: TrainingRunner, done: int, losses: Mapping[str, Any]) -> None:
        """``done`` counts from 1; ``losses`` as in ``step_end``."""

    def epoch_start(self, runner: TrainingRunner, epoch: int) -> None: ...

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        """``losses`` are tensors that may still be computed; read them at intervals only."""

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None: ...

    def saved(self, runner: TrainingRunner, saved: Saved) -> None: ...

    def fit_end(self, runner: TrainingRunner) -> None: ...

    def state(self) -> dict[str, Any]:
        """What has to be remembered when the run goes on, as tensors and plain values."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Remember what ``state`` gave."""


class LoggerObserver(Observer):
    """Hands what an epoch measured to loggers.

    Args:
        loggers: CSV and whatever else.
        config: the resolved config, as plain values.
    """

    def __init__(self, loggers: Sequence[Logger], config: Mapping[str, object]) -> None:
        self.loggers, self.config = list(loggers), config

    def fit_start(self, runner: TrainingRunner) -> None:
        for logger in self.loggers:
            logger.start(self.config)
            if runner.history:
                logger.history(runner.history)

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
        for logger in self.loggers:
            logger.scalars(measured, epoch)

    def saved(self, runner: TrainingRunner, saved: Saved) -> None:
        aliases = [alias for path in saved.files for alias in aliases_of(path)]
        for logger in self.loggers:
            logger.snapshot(saved.files[0], aliases, saved.epoch)

    def fit_end(self, runner: TrainingRunner) -> None:
        for logger in self.loggers:
            logger.close()


class ProgressObserver(Observer):
    """A bar over the samples of all epochs, with the loss, and a line for every epoch that was validated.

    Args:
        every: steps between updates of the numbers beside the bar.
        show: whether to draw the bar; lines are logged in any case.
    """

    def __init__(self, every: int = 10, show: bool = True) -> None:
        self.every, self.show = every, show
        self.bar: ProgressBar | None = None
        self.warmup: ProgressBar | None = None

    def warmup_step(self, runner: TrainingRunner, done: int, losses: Mapping[str, Any]) -> None:
        if self.warmup is None and self.show:
            self.warmup = progress_bar(total=runner.warmup_steps, unit="step", desc="warm-up")
        if self.warmup is not None:
            self.warmup.update()
            if done % self.every == 0:
                self.warmup.set_postfix_str(f"loss {float(losses['loss']):.3f}")
        if done == runner.warmup_steps:
            log.info("Warm-up of %d steps on one batch: loss %.3f.", done, float(losses["loss"]))
            self._close()

    def epoch_start(self, runner: TrainingRunner, epoch: int) -> None:
        if self.show and self.bar is None:
            samples = runner.samples_of_epoch
            self.bar = progress_bar(
                total=runner.epochs * samples,
                initial=runner.epoch * samples + runner.progress.samples,
                unit=" samples",
                desc="train",
                smoothing=0.05,
            )
        if self.bar is not None:
            self.bar.set_description_str(f"epoch {epoch}/{runner.epochs}")

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        if self.bar is None:
            return
        done = runner.epoch * runner.samples_of_epoch + runner.progress.samples
        self.bar.update(done - self.bar.n)
        if runner.progress.batches % self.every == 0:
            self.bar.set_postfix_str(f"loss {float(losses['loss']):.3f} lr {runner.learning_rate:.1e}")

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
        if "test.loss" in measured or epoch == runner.epochs:
            log.info(_epoch_line(runner, epoch, measured))

    def fit_end(self, runner: TrainingRunner) -> None:
        self._close()

    def _close(self) -> None:
        for bar in (self.bar, self.warmup):
            if bar is not None:
                bar.close()
        self.bar = self.warmup = None


def _epoch_line(runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> str:
    losses = " ".join(
        f"{name.removeprefix('train.loss.')} {value:.3f}"
        for name, value in measured.items()
        if name.startswith("train.loss.")
    )
    line = f"epoch {epoch}/{runner.epochs}: loss {measured['train.loss']:.3f} ({losses})"
    shown = [name for name in ("test.loss", "test.F1", "test.AP50", runner.key_metric) if name in measured]
    if shown:
        line += " | " + ", ".join(f"{name} {measured[name]:.3f}" for name in dict.fromkeys(shown))
    return line + (" (best)" if runner.best is not None and runner.best["epoch"] == epoch else "")
