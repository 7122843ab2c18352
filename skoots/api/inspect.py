"""``skoots inspect``: what a snapshot holds, without building its model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skoots.config.changes import changes
from skoots.errors import SnapshotError
from skoots.snapshots import checksum, find_snapshot, read_reference, read_weights


@dataclass(frozen=True)
class SnapshotReport:
    """What a file says about itself; it is whole, or it would have been refused.

    Args:
        path: the file.
        layout: whose file it is: ``skoots``, ``SuperGradients``, ...
        size: bytes.
        parameters: numbers in the tensors of each part, e.g. ``{"backbone": 9408, "heads.vector": 99}``.
        contents: bytes of tensors under each key; 0 for plain values.
        format: of the layout; None for files of others.
        epoch: epochs completed.
        step: steps completed.
        batches: used of the next epoch.
        metrics: of the last epoch that was measured.
        best: epoch, metric and value of the best so far.
        averaging: of an average: how many and which epochs; of others: those that would be averaged.
        provenance: versions, platform, command, parent.
        config: as resolved.
        checksum: SHA-256 of the content, as sealed into the file.
        decoding: decoder and settings that ``tune`` has chosen; empty if those of the config count.
    """

    path: Path
    layout: str
    size: int
    parameters: dict[str, int]
    contents: dict[str, int]
    format: int | None = None
    epoch: int | None = None
    step: int | None = None
    batches: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    averaging: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    checksum: str = ""
    decoding: dict[str, Any] = field(default_factory=dict)


def inspect(snapshot: Path | str) -> SnapshotReport:
    """Read a snapshot, or weights of another program, and say what is in it.

    Args:
        snapshot: a file, a run folder or ``runs/mito:best``.

    Raises:
        SnapshotError: it is missing, damaged, or nothing that is known.
    """
    try:
        state, path = read_reference(snapshot)
    except SnapshotError:
        path = find_snapshot(snapshot)
        weights, layout = read_weights(path, "raw")
        if layout == "skoots":
            raise
        size = path.stat().st_size
        return SnapshotReport(path, layout, size, _by_part(weights), {layout: _bytes(weights)})
    return SnapshotReport(
        path,
        "skoots",
        path.stat().st_size,
        _by_part(state["net"]),
        {key: _bytes(value) for key, value in state.items()},
        state["format"],
        state.get("epoch"),
        state.get("step"),
        state.get("sampler", {}).get("batches", 0),
        dict(state.get("metrics") or {}),
        state.get("best"),
        dict(state.get("averaging") or {}),
        dict(state.get("provenance") or {}),
        state["cfg"] if isinstance(state.get("cfg"), dict) else {},
        _checksum(path),
        dict(state.get("decoding") or {}),
    )


def compare(snapshot: Path | str, other: Path | str) -> list[str]:
    """What differs between two snapshots, a sentence each; empty if nothing does.

    Args:
        snapshot: as for ``inspect``.
        other: likewise.
    """
    first, second = inspect(snapshot), inspect(other)
    lines = list(changes(_told(first), _told(second)))
    a, b = read_weights(first.path, "raw")[0], read_weights(second.path, "raw")[0]
    equal = sum(name in b and torch.equal(value, b[name]) for name, value in a.items())
    if equal < max(len(a), len(b)):
        lines.append(f"weights: {equal} of {len(a)} tensors are equal; the other file has {len(b)}")
    return lines


def _told(report: SnapshotReport) -> dict[str, Any]:
    names = ("layout", "format", "epoch", "step", "parameters", "metrics", "provenance", "config", "decoding")
    return {name: getattr(report, name) for name in names}


def _by_part(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Numbers in ``backbone``, ``neck`` and each of the heads; in other networks by the first word."""
    counts: Counter[str] = Counter()
    for name, value in weights.items():
        words = name.split(".")
        counts[".".join(words[: 2 if words[0] == "heads" else 1])] += value.numel()
    return dict(counts)


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0


def _checksum(path: Path) -> str:
    try:
        return checksum(path)
    except SnapshotError:  # saved again by hand
        return ""
