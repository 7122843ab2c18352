"""Names of snapshots, and which of them to keep: pure functions, no file is touched."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

PREFIX = "snapshot"
POOL = "averaging"
"""Folder in the run folder, of the snapshots that are to be averaged."""


def snapshot_name(epoch: int, best: bool = False, prefix: str = PREFIX) -> str:
    """File name of an epoch (counted from 1): ``snapshot-010.pt`` or ``snapshot-best-010.pt``."""
    return f"{prefix}-{'best-' if best else ''}{epoch:03d}.pt"


def epochs_by_name(names: Iterable[str], best: bool = False, prefix: str = PREFIX) -> dict[str, int]:
    """Epoch of every regular (or best) snapshot among file names; other names are left out."""
    pattern = re.compile(rf"{re.escape(prefix)}-{'best-' if best else ''}(\d{{3,}})\.pt")
    return {name: int(match[1]) for name in names if (match := pattern.fullmatch(name))}


def newest_first(names: Collection[str], prefix: str = PREFIX) -> list[str]:
    """The snapshots among file names, in the order in which resuming tries them."""
    fixed = [name for tag in ("latest", "previous") if (name := f"{prefix}-{tag}.pt") in names]
    numbered = {**epochs_by_name(names, best=True, prefix=prefix), **epochs_by_name(names, prefix=prefix)}
    return fixed + sorted(numbered, key=lambda name: numbered[name], reverse=True)


def names_of_epoch(epoch: int, is_best: bool, is_due: bool, prefix: str = PREFIX) -> list[str]:
    """The names that an epoch's snapshot gets beside ``latest``: regular if due, best if best, both if
    both."""
    regular = [snapshot_name(epoch, prefix=prefix)] if is_due else []
    return regular + ([snapshot_name(epoch, best=True, prefix=prefix)] if is_best else [])


def aliases_of(path: Path, prefix: str = PREFIX) -> list[str]:
    """What a file is called in words: ``latest``, ``best``, ``average``, or its epoch, ``010``."""
    if path.parent.name == POOL:
        return []
    return [path.name.removeprefix(f"{prefix}-").removesuffix(".pt").partition("-")[0]]


def pool_name(epoch: int, prefix: str = PREFIX) -> str:
    """File name of an epoch that is to be averaged, relative to the run folder."""
    return f"{POOL}/{snapshot_name(epoch, prefix=prefix)}"


def names_to_remove(
    names: Collection[str],
    epoch: int,
    max_snapshots: int,
    keep_best: int = 1,
    save_epoch_list: Collection[int] = (),
    prefix: str = PREFIX,
) -> list[str]:
    """What rotation deletes once the snapshot of ``epoch`` is in place.

    Regular and best snapshots are counted apart. Epochs later than ``epoch`` stem from a part of the run that
    was abandoned when it went on from an earlier snapshot: they go first, whatever their number.

    Args:
        names: file names in the run folder.
        epoch: the epoch just saved.
        max_snapshots: regular snapshots to keep.
        keep_best: best snapshots to keep.
        save_epoch_list: epochs whose regular snapshots stay and do not count.
        prefix: how the names begin.
    """

    def all_but_newest(epochs: dict[str, int], count: int) -> list[str]:
        oldest_first = sorted(epochs, key=lambda name: (epochs[name] <= epoch, epochs[name]))
        return oldest_first[: max(0, len(oldest_first) - count)]

    regular = epochs_by_name(names, prefix=prefix)
    rotating = {name: number for name, number in regular.items() if number not in save_epoch_list}
    best = epochs_by_name(names, best=True, prefix=prefix)
    return all_but_newest(rotating, max_snapshots) + all_but_newest(best, keep_best)
