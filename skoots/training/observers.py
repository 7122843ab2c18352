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

from tqdm import tqdm

from skoots.loggers.base import Logger
from skoots.snapshots import Saved, aliases_of

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
    """One bar over all steps, and a line for every epoch that was validated.

    Args:
        every: steps between updates of the numbers beside the bar.
        show: whether to draw the bar; lines are logged in any case.
    """

    def __init__(self, every: int = 10, show: bool = True) -> None:
        self.every, self.show = every, show
        self.bar: tqdm | None = None

    def fit_start(self, runner: TrainingRunner) -> None:
        if self.show:
            steps = len(runner.loader)
            self.bar = tqdm(
                total=runner.epochs * steps,
                initial=runner.epoch * steps + runner.progress.batches,
                unit="step",
                desc="train",
                dynamic_ncols=True,
                smoothing=0.05,
            )

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        if self.bar is None:
            return
        self.bar.update()
        if self.bar.n % self.every == 0:
            self.bar.set_postfix_str(
                f"epoch {runner.epoch + 1}/{runner.epochs} loss {float(losses['loss']):.3f} lr "
                f"{runner.learning_rate:.1e}"
            )

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
        if "test.loss" in measured or epoch == runner.epochs:
            log.info(_epoch_line(runner, epoch, measured))

    def fit_end(self, runner: TrainingRunner) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


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
