"""Tables and phrases."""

from __future__ import annotations

from pathlib import Path

import pytest

from skoots.cli import console


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
