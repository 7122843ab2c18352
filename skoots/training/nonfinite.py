"""What becomes of losses that are no number: named, counted, and after too many in a row the end."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import torch

from skoots.samples import Batch
from skoots.training.distributed import Processes
from skoots.training.step import Losses

log = logging.getLogger("skoots")


@dataclass
class _Pending:
    losses: Losses
    batch: Batch | None
    origins: tuple[str, ...]


class NonFinite:
    """Looks at the losses of the steps, as many at once as the device has computed.

    Args:
        in_a_row: so many updates in a row may be left out; one more is too many.
        every: steps between looks at a device that computes ahead of the program: each look waits for it.
        processes: those that train together; each has a part of the batch whose loss was no number.
    """

    def __init__(self, in_a_row: int = 10, every: int = 1, processes: Processes | None = None) -> None:
        self.limit, self.every, self.processes = in_a_row, every, processes or Processes()
        self.total = 0
        self.in_a_row = 0
        self.heads: list[str] = []
        self.worst: Batch | None = None
        self._pending: list[_Pending] = []
        self._named = False  # whether a batch of the running update was

    def add(self, losses: Losses, batch: Batch, ahead: bool) -> None:
        """One more step, looked at now or later."""
        if self._pending:
            self._pending[-1].batch = None  # only the last batch is kept: they are large
        self._pending.append(_Pending(losses, batch, batch.origins))
        if not ahead or len(self._pending) >= self.every:
            self.look()

    def look(self) -> None:
        """Judge the steps that have not been looked at yet; waits for the device."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        finite = torch.stack([step.losses.finite for step in pending]).tolist()
        for step, good in zip(pending, finite):
            if not good and not self._named:
                self._name(step)
            if step.losses.ends:
                self._named = False
                self.in_a_row = 0 if good else self.in_a_row + 1
                self.total += not good
            if self.too_many:  # whatever came after it
                return

    def _name(self, step: _Pending) -> None:
        """Say which head and which crops it was; the rest of the update is left out with it."""
        values = dict(zip(step.losses.names, step.losses.values.tolist()))
        heads = [name for name, value in values.items() if not math.isfinite(value) and name != "loss"]
        self.heads = heads or ["the weighted sum, or its gradient,"]
        self.worst, self._named = step.batch or self.worst, True
        origins = [origin for part in self.processes.gather(step.origins) for origin in part]
        log.warning(
            "The loss of %s is not finite; step left out. Samples: %s",
            ", ".join(self.heads),
            "; ".join(origins),
        )

    @property
    def too_many(self) -> bool:
        """Whether training should not go on."""
        return self.in_a_row > self.limit
