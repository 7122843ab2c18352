"""How a training ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
            without one.
        ended_early: why it ended before its last epoch of its own accord.
        history: what each epoch measured.
    """

    epochs: int
    best_epoch: int | None
    best_value: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    stopped_by: int | None = None
    failed_saves: int = 0
    average: dict[str, Any] | None = None
    ended_early: str | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def interrupted(self) -> bool:
        """Whether it ended early."""
        return self.stopped_by is not None
