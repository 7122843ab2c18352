"""What the commands write: the log on stderr, results on stdout."""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SCORES = {  # name in the results -> heading
    "F1": "F1",
    "F1@0.75": "F1@0.75",
    "AP50": "AP50",
    "VOI_split": "VOI split",
    "VOI_merge": "VOI merge",
    "ARAND": "ARAND",
}


# The log ----------------------------------------------------------------------------------------------------


class StderrHandler(logging.Handler):
    """Writes to what stderr is at the moment, above progress bars instead of through them."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def speaks() -> bool:
    """Whether this process is the one that talks to the user: of those that ``torchrun`` starts, the first."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Show what the package logs for as long as a command runs."""
    logger, handler = logging.getLogger("skoots"), StderrHandler()
    level = logger.level
    if not speaks():
        handler.setLevel(logging.CRITICAL)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def show_warnings_only() -> None:
    """Hide the rest from stderr; a log file of the run still receives it."""
    for handler in logging.getLogger("skoots").handlers:
        if isinstance(handler, StderrHandler):
            handler.setLevel(logging.WARNING)


def wants_bars(quiet: bool) -> bool:
    """Whether to draw progress bars: a bar in a file or a pipe is a flood of half lines."""
    return not quiet and speaks() and sys.stderr.isatty()


# Tables and phrases -----------------------------------------------------------------------------------------


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
