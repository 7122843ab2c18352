"""One row an epoch in ``learning_stats.csv``."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from skoots.loggers.base import LOGGERS, Logger
from skoots.unfinished import Unfinished

log = logging.getLogger("skoots")


@LOGGERS.register
class CSVLogger(Logger):
    """Writes numbers to ``learning_stats.csv``: ``epoch`` first, then every name in the order in which it
    first appeared.

    Rows are appended; the file is rewritten, under a temporary name, only when a name is new or a row
    changes. When a run goes on from epoch k, the file becomes what it was after epoch k, so that no epoch is
    there twice or missing, whatever a crash has left of it.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / "learning_stats.csv"
        self._columns: list[str] = ["epoch"]
        self._rows: dict[int, dict[str, str]] = {}
        self._began = False
        self._file_is_whole = False
        self._failed = False

    def history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Keep the rows of a run that goes on for the first time that something is written."""
        self._columns = list(dict.fromkeys(["epoch", *(name for row in rows for name in row)]))
        self._rows = {
            epoch: {"epoch": str(epoch), **{name: _text(value) for name, value in row.items()}}
            for epoch, row in enumerate(rows, start=1)
            if row
        }
        self._began = True

    def close(self) -> None:
        """Write what a crash has lost of a history after which nothing came."""
        if self._rows and not self._file_is_whole and not self._failed:
            try:
                self._rewrite()
            except OSError as error:
                log.warning("%s cannot be written (%s).", self.path, error)

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """Add numbers to the row of an epoch."""
        try:
            if not self._began:
                self._read(before=epoch)
            new = [name for name in values if name not in self._columns]
            appends = self._file_is_whole and not new and epoch > max(self._rows, default=0)
            self._columns += new
            self._rows = {number: row for number, row in self._rows.items() if number <= epoch}
            row = self._rows.setdefault(epoch, {"epoch": str(epoch)})
            row.update({name: _text(value) for name, value in values.items()})
            self._file_is_whole = False
            if appends:
                self._append(row)
            else:
                self._rewrite()
            self._file_is_whole = True
        except OSError as error:
            if not self._failed:
                log.warning("%s cannot be written (%s); training goes on without it.", self.path, error)
            self._failed = True

    def _read(self, before: int) -> None:
        """Take over the rows of the run so far up to an epoch, less a last line that was cut off."""
        lines = []
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8", errors="replace") as file:
                lines = [line for line in file if line.endswith("\n")]
        self._began = True
        if not lines:
            return
        header, *rows = csv.reader(lines)
        if header[:1] != ["epoch"]:
            os.replace(self.path, self.path.with_name(f"{self.path.name}.bak"))
            log.warning("%s was not written by skoots; it is kept as %s.bak.", self.path, self.path.name)
            return
        self._columns = header
        for cells in rows:
            if len(cells) == len(header) and cells[0].isdecimal() and int(cells[0]) < before:
                self._rows[int(cells[0])] = {name: cell for name, cell in zip(header, cells) if cell}

    def _append(self, row: Mapping[str, str]) -> None:
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            file.write(self._lines([row]))

    def _rewrite(self) -> None:
        header = dict(zip(self._columns, self._columns))
        text = self._lines([header, *(self._rows[epoch] for epoch in sorted(self._rows))])
        with Unfinished(self.path) as file:
            file.temporary.write_text(text, encoding="utf-8", newline="")

    def _lines(self, rows: Sequence[Mapping[str, str]]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([row.get(name, "") for name in self._columns] for row in rows)
        return text.getvalue()


def _text(value: float) -> str:
    """The shortest text that reads back as the same number."""
    return str(value) if type(value) is int else repr(float(value))
