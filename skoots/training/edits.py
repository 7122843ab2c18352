"""What was edited since a snapshot was saved, and so is not taken from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from skoots.training.optimizers import SCHEDULED


@dataclass(frozen=True)
class Edits:
    """What of a training differs from what it was when a snapshot was saved.

    Args:
        options: of every parameter group of the optimizer the names of the options that differ; None if its
            class or its groups do.
        schedule: whether the schedule differs, or the metric that it watches.
        swa: whether anything of the mean over epochs (SWA) does.
        swa_start: whether the epoch does from which that mean is made.
        seed: whether the seed of the random draws does.
    """

    options: Sequence[Collection[str]] | None = ()
    schedule: bool = False
    swa: bool = False
    swa_start: bool = False
    seed: bool = False

    @property
    def rates(self) -> bool:
        """Whether the schedule has to be replayed from the first epoch on."""
        base = self.options is None or any(SCHEDULED.intersection(keys) for keys in self.options)
        return base or self.schedule or self.swa

    @property
    def optimizer(self) -> bool:
        """Whether the optimizer goes on with other options than it had."""
        return self.rates or any(self.options or ())
