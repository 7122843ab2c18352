"""How far the running epoch is, and the sums of its losses so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from skoots.training.distributed import Processes
from skoots.training.step import Losses


@dataclass
class EpochProgress:
    """Part of every snapshot, so that an epoch can be gone on with in its middle.

    Args:
        samples: drawn from the sampler and used, by all processes.
        batches: used.
        names: of the losses.
        sums: (losses,) of the steps that were not left out; on the device, so that adding does not wait for
            the computation.
        counted: steps in the sums, 0-d on the device.
        rates: learning rates of its first step.
    """

    samples: int = 0
    batches: int = 0
    names: tuple[str, ...] = ()
    sums: Tensor | None = None
    counted: Tensor | None = None
    rates: dict[str, float] = field(default_factory=dict)

    def add(self, samples: int, losses: Losses) -> None:
        """One more batch."""
        self.samples += samples
        self.batches += 1
        values = torch.where(losses.finite, losses.values, 0.0).to(_wide(losses.values.device))
        one = losses.finite.long()
        self.names = losses.names
        self.sums = values if self.sums is None else self.sums + values
        self.counted = one if self.counted is None else self.counted + one

    def means(self, processes: Processes | None = None) -> dict[str, float]:
        """Of the losses, over all processes; without any batch the loss is no number."""
        if self.sums is None or self.counted is None:
            return {"loss": math.nan}
        sums = self.sums if processes is None else processes.mean(self.sums)
        counted = int(self.counted)
        if not counted:
            return {"loss": math.nan}
        return {name: value / counted for name, value in zip(self.names, sums.tolist())}

    def plain(self, processes: Processes | None = None) -> dict[str, Any]:
        """For a snapshot: the sums are the means over all processes."""
        state: dict[str, Any] = {
            "samples": self.samples,
            "batches": self.batches,
            "rates": self.rates,
            "counted": 0,
            "sums": {},
        }
        if self.sums is not None and self.counted is not None:
            sums = self.sums if processes is None else processes.mean(self.sums)
            state |= {"counted": self.counted, "sums": dict(zip(self.names, sums.unbind()))}
        return state

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> EpochProgress:
        """What ``plain`` gave."""
        progress = cls(state["samples"], state["batches"], tuple(state["sums"]))
        progress.rates = dict(state.get("rates", {}))
        if progress.names:
            values = [torch.as_tensor(value, dtype=_wide(device)) for value in state["sums"].values()]
            progress.sums = torch.stack([value.to(device) for value in values])
            progress.counted = torch.as_tensor(state["counted"]).to(device).clone()
        return progress


def _wide(device: torch.device) -> torch.dtype:
    """In which sums are kept; Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
