"""How far the running epoch is, and the sums of its losses so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class EpochProgress:
    """Part of every snapshot, so that an epoch can be gone on with in its middle.

    Args:
        samples: drawn from the sampler and used.
        batches: used.
        counted: batches whose losses are in the sums.
        sums: of the losses, by name; on the device, so that adding does not wait for the computation.
    """

    samples: int = 0
    batches: int = 0
    counted: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, samples: int, losses: Mapping[str, Tensor] | None) -> None:
        """One more batch; None for one that was left out."""
        self.samples += samples
        self.batches += 1
        if losses is None:
            return
        self.counted += 1
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def means(self) -> dict[str, float]:
        """Of the losses; without any batch the loss is no number."""
        return {name: float(value) / self.counted for name, value in self.sums.items()} or {"loss": math.nan}

    def plain(self) -> dict[str, Any]:
        """For a snapshot."""
        return {
            "samples": self.samples,
            "batches": self.batches,
            "counted": self.counted,
            "sums": dict(self.sums),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> EpochProgress:
        """What ``plain`` gave."""
        sums = {name: value.to(device) for name, value in state["sums"].items()}
        return cls(state["samples"], state["batches"], state["counted"], sums)
