"""The average of the best snapshots, as of SuperGradients' ``average_best_models``.

The weights of the best epochs so far, the *pool*, are kept as snapshots of their own in the run folder's
``averaging``. They are further names of files that are written anyway. The average is made at the end, one
file after the other, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skoots.errors import SnapshotError
from skoots.snapshots.files import read_snapshot
from skoots.snapshots.ranking import Scored, rank

WHICH = ("auto", "ema", "raw")


def admit(
    pool: Sequence[Scored], epoch: int, entry: Scored | None, size: int, larger_is_better: bool
) -> list[Scored]:
    """The pool after an epoch was validated: the ``size`` best, see ``ranking``.

    Args:
        pool: members so far, as ``scored`` gave them.
        epoch: the epoch.
        entry: what ``scored`` gave; None never enters.
        size: most members.
        larger_is_better: direction of the metric.

    Returns:
        Members in the order of their epochs.
    """
    members = [member for member in pool if member["epoch"] < epoch] + ([] if entry is None else [entry])
    best = sorted(members, key=lambda member: rank(member, larger_is_better), reverse=True)[:size]
    return sorted(best, key=lambda member: member["epoch"])


def average_weights(paths: Iterable[Path]) -> dict[str, Tensor]:
    """The mean of the weights of snapshots, in the order given; of a run with EMA, of its EMA weights.

    One file is in memory at a time, beside the sum in double precision. What is no floating-point number (a
    counter) comes from the last.

    Raises:
        SnapshotError: there is none, one is damaged, or they are of different models.
    """
    total: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    count = 0
    for path in paths:
        weights = trained_weights(read_snapshot(path))
        if count and weights.keys() != total.keys():
            raise SnapshotError(f"{path} holds the weights of another model than the snapshots before it.")
        for name, value in weights.items():
            kinds[name] = value.dtype
            if not value.is_floating_point():
                total[name] = value
            elif count:
                total[name] += value
            else:
                total[name] = value.double()
        count += 1
    if not count:
        raise SnapshotError("There is no snapshot to average.")
    return {
        name: (value / count).to(kinds[name]) if kinds[name].is_floating_point else value
        for name, value in total.items()
    }


def trained_weights(state: Mapping[str, Any], which: str = "auto") -> dict[str, Tensor]:
    """The weights of a snapshot that are meant to be used: those of the moving average (EMA) if it has any.

    Args:
        state: a snapshot.
        which: ``auto``, ``ema`` (there must be some) or ``raw``: those that the optimizer moves.

    Raises:
        SnapshotError: there are no EMA weights, or the word is not known.
    """
    check_word(which)
    if which == "ema" and "ema_net" not in state:
        raise SnapshotError("The snapshot has no EMA weights; leave out --weights, or say raw.")
    return state["net"] if which == "raw" or "ema_net" not in state else state["ema_net"]


def check_word(which: str) -> None:
    """Whether a word for weights is known.

    Raises:
        SnapshotError: it is not.
    """
    if which not in WHICH:
        raise SnapshotError(f"weights: {which!r} is not known. Say auto, ema or raw.")
