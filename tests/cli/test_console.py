"""Tables, phrases and the log."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest
from tqdm import tqdm

from skoots.cli import console

log = logging.getLogger("skoots")


def test_columns_are_aligned_and_lines_have_no_trailing_blanks() -> None:
    assert console.table([["a", "1", "x"], ["bcd", "234", ""]], "<><") == "a      1  x\nbcd  234"
    assert console.table([["a", "1", "22"], ["b", "333", "4"]]) == "a    1  22\nb  333   4"
    assert console.table([]) == ""


def test_score_table_sets_methods_against_each_other() -> None:
    nan = float("nan")
    ours = {"F1": 0.9, "F1@0.75": 0.5, "AP50": 1.0, "VOI_split": 0.25, "VOI_merge": nan, "ARAND": 0.125}
    text = console.score_table({"skoots": ours, "connected components": {"F1": 0.31}, "watershed": None})
    header, *rows = (line.split("  ") for line in text.splitlines())
    assert [cell.strip() for cell in header if cell.strip()] == list(console.SCORES.values())
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["skoots", "0.900", "0.500", "1.000", "0.250", "-", "0.125"],
        ["connected", "components", "0.310", "-", "-", "-", "-", "-"],
    ]
    assert len(rows) == 2
    assert len({len(line) for line in text.splitlines()}) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (3.21, "3.2 s"), (59.97, "1 min 00 s"), (245, "4 min 05 s"), (7623, "2 h 07 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_commands_can_be_copied() -> None:
    assert console.next_command("segment", "VOLUME", "-s", Path("my runs/a")) == (
        "Next: skoots segment VOLUME -s 'my runs/a'"
    )


def test_places_leave_out_what_is_not_there() -> None:
    assert console.places({"Run": Path("a"), "Picture": None, "Labels": Path("b")}) == "Run     a\nLabels  b"


def test_log_goes_to_stderr_while_a_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    before = (log.level, list(log.handlers))
    with console.log_to_stderr():
        log.info("epoch %d", 3)
        log.warning("odd")
        log.debug("hidden")
        console.show_warnings_only()
        log.info("hidden too")
        log.error("bad")
    log.info("after")
    captured = capsys.readouterr()
    assert captured.err == "epoch 3\nwarning: odd\nerror: bad\n"
    assert captured.out == ""
    assert (log.level, list(log.handlers)) == before


def test_quiet_hides_nothing_from_other_handlers() -> None:
    lines = io.StringIO()
    other = logging.StreamHandler(lines)
    log.addHandler(other)
    try:
        with console.log_to_stderr():
            console.show_warnings_only()
            log.info("for the file")
    finally:
        log.removeHandler(other)
    assert lines.getvalue() == "for the file\n"


def test_log_does_not_break_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.log_to_stderr(), tqdm(total=2, file=terminal, ncols=40, mininterval=0) as bar:
        bar.update()
        log.info("epoch 1")
        bar.update()
    lines = terminal.getvalue().split("\n")
    written = next(line for line in lines if "epoch 1" in line)
    assert written.split("\r")[-1] == "epoch 1"  # the bar was wiped from the line before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not console.wants_bars(quiet=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert console.wants_bars(quiet=False)
    assert not console.wants_bars(quiet=True)
