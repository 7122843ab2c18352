"""The end of a training that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from skoots.training.observers import Observer

if TYPE_CHECKING:
    from skoots.training.runner import TrainingRunner


class EarlyStopping(Observer):
    """Ends a training once a metric has not become better for some time; never before the next validation,
    so that it is known how good the last epoch is.

    It reads the history alone, so a run that goes on needs to remember nothing.

    Args:
        patience: epochs that measured the metric without a better value.
        monitor: the metric.
        larger_is_better: for this metric.
        min_delta: by how much a value must be better to count.
    """

    def __init__(
        self, patience: int, monitor: str, larger_is_better: bool = False, min_delta: float = 0.0
    ) -> None:
        self.patience, self.monitor, self.min_delta = patience, monitor, min_delta
        self.sign = 1.0 if larger_is_better else -1.0

    def fit_start(self, runner: TrainingRunner) -> None:
        """A run that was ended early, and goes on with the same patience, is at its end."""
        self._judge(runner)

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
        self._judge(runner)

    def _judge(self, runner: TrainingRunner) -> None:
        waited, best = self.waited([epoch.get(self.monitor) for epoch in runner.history])
        if waited >= self.patience and (runner.evaluate is None or runner.validates(runner.epoch)):
            runner.end_early(
                f"{self.monitor} has not become better than {self.sign * best:.4g} in {waited} validations"
            )

    def waited(self, values: list[float | None]) -> tuple[int, float]:
        """How many measurements ago the best one was, and it (with the sign that makes larger better)."""
        best, waited = -math.inf, 0
        for value in values:
            if value is None:
                continue
            if self.sign * value > best + self.min_delta:
                best, waited = self.sign * value, 0
            else:
                waited += 1
        return waited, best
