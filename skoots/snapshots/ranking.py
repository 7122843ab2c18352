"""Which of two epochs is the better one: by the key metric, and where that is equal, as it is while nothing
is found yet, by the validation loss, and else the later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Scored = dict[str, Any]
LOSS = "test.loss"


def scored(epoch: int, measured: Mapping[str, float], metric: str) -> Scored | None:
    """What is remembered of an epoch to compare it: its ``epoch`` and ``value``, and for equal values its
    validation ``loss``, and of how many heads that is: heads may begin late. None without a finite value.

    Args:
        epoch: the epoch.
        measured: its metrics by name.
        metric: the one that decides.
    """
    value = measured.get(metric)
    if value is None or not math.isfinite(value):
        return None
    entry: Scored = {"epoch": epoch, "value": value}
    loss = measured.get(LOSS)
    if metric != LOSS and loss is not None and math.isfinite(loss):
        entry |= {"loss": loss, "losses": sum(name.startswith(f"{LOSS}.") for name in measured)}
    return entry


def among_equals(entry: Scored) -> tuple[int, float]:
    """What decides between equal values; larger is better. Losses of more heads are larger, and no worse."""
    return entry.get("losses", 0), -entry.get("loss", math.inf)


def rank(entry: Scored, larger_is_better: bool) -> tuple[float, int, float, int]:
    """Sorts epochs from worst to best.

    Args:
        entry: from ``scored``.
        larger_is_better: direction of the metric.
    """
    sign = 1.0 if larger_is_better else -1.0
    return (sign * entry["value"], *among_equals(entry), entry["epoch"])
