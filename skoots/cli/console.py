"""Tables and phrases of what the commands write."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

SCORES = {  # name in the results -> heading
    "F1": "F1",
    "F1@0.75": "F1@0.75",
    "AP50": "AP50",
    "VOI_split": "VOI split",
    "VOI_merge": "VOI merge",
    "ARAND": "ARAND",
}


def table(rows: Sequence[Sequence[str]], align: str = "<>") -> str:
    """Rows as aligned columns.

    Args:
        rows: texts, equally many in every row.
        align: ``<`` or ``>`` for each column; the last one holds for those that follow.
    """
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows)]
    sides = align.ljust(len(widths), align[-1])
    cells = [[f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in cells)


def number(value: float | None) -> str:
    """Three decimals, and a dash where there is no value."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def score_table(scores: Mapping[str, Mapping[str, float] | None]) -> str:
    """Methods against each other, one a row; those without scores are left out.

    Args:
        scores: name of the method -> its scores by the names of ``skoots.metrics.score``.
    """
    known = {method: values for method, values in scores.items() if values is not None}
    rows = [[method, *(number(values.get(name)) for name in SCORES)] for method, values in known.items()]
    return table([["", *SCORES.values()], *rows])


def places(paths: Mapping[str, Path | None]) -> str:
    """Where things lie, one a line; what does not exist is left out."""
    return table([[name, str(path)] for name, path in paths.items() if path is not None], "<<")


def duration(seconds: float) -> str:
    """``3.2 s``, ``4 min 05 s``, ``2 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def count(n: int, noun: str) -> str:
    """``1 object``, ``12 objects``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def command(*words: str | Path) -> str:
    """A command to copy; words in capitals stand for something to fill in."""
    return shlex.join(map(str, ("skoots", *words)))


def next_command(*words: str | Path) -> str:
    """The line that says what to type next."""
    return f"Next: {command(*words)}"
