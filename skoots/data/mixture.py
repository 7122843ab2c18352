"""How several volumes share the samples of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Mixture:
    """Which volume a sample is drawn from, known from seed, epoch and index alone.

    Args:
        weights: samples an epoch that each volume asks for.
        length: samples of an epoch; None takes what the volumes ask for together. A number shares itself out
            in their proportion: in each epoch a volume gets its share, rounded up or down.
        seed: of the run; it decides, epoch by epoch, which way shares are rounded.
    """

    def __init__(self, weights: Sequence[int], length: int | None = None, seed: int = 0) -> None:
        self._ends = np.cumsum(weights)
        self._length, self._seed = length, seed

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._length is None else self._length

    def volume_of(self, epoch: int, index: int) -> int:
        """Row of the volume."""
        place: float = index
        if self._length is not None:
            # systematic sampling: equal steps through the weights from a random start
            start = np.random.default_rng((self._seed, epoch)).random()
            place = (index + start) / self._length * float(self._ends[-1])
        return min(int(np.searchsorted(self._ends, place, side="right")), len(self._ends) - 1)
