"""The end of a training that no longer gets better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from skoots.snapshots import Scored, among_equals, scored
from skoots.training.observers import Observer

if TYPE_CHECKING:
    from skoots.training.runner import TrainingRunner


class EarlyStopping(Observer):
    """Ends a training once a metric has not become better for some time; never before the next validation,
    so that it is known how good the last epoch is. Where the metric stays equal, as while nothing is found
    yet, a lower validation loss is better.

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
        waited, best = self.waited(runner.history)
        if waited >= self.patience and (runner.evaluate is None or runner.validates(runner.epoch)):
            runner.end_early(f"{self.monitor} has not become better than {best:.4g} in {waited} validations")

    def waited(self, history: Sequence[Mapping[str, float]]) -> tuple[int, float]:
        """How many measurements ago the best one was, and its value.

        Args:
            history: what each epoch measured.
        """
        best: Scored | None = None
        waited = 0
        for epoch, measured in enumerate(history, start=1):
            if self.monitor not in measured:
                continue
            entry = scored(epoch, measured, self.monitor)
            if entry is not None and (best is None or self._is_better(entry, best)):
                best, waited = entry, 0
            else:
                waited += 1
        return waited, math.nan if best is None else best["value"]

    def _is_better(self, entry: Scored, best: Scored) -> bool:
        if entry["value"] == best["value"]:
            return among_equals(entry) > among_equals(best)
        return self.sign * (entry["value"] - best["value"]) > self.min_delta
