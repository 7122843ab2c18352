from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from skoots.config.yaml12 import dump, parse, scalar
from skoots.errors import ConfigError

SCALARS: dict[str, Any] = {
    "1e-3": 1e-3,
    "1E5": 1e5,
    "-1.5e+3": -1500.0,
    ".5": 0.5,
    "5.": 5.0,
    "+3": 3,
    "010": 10,
    "0x10": 16,
    "0o10": 8,
    "1:30": "1:30",
    "yes": "yes",
    "no": "no",
    "on": "on",
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "2024-01-01": "2024-01-01",
    "1_000": "1_000",
    "1e": "1e",
    "'1e-3'": "1e-3",
    "cuda:0": "cuda:0",
    "1.2.3": "1.2.3",
    "e3": "e3",
    "[1e-5, 2]": [1e-5, 2],
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_follow_yaml_1_2(text: str) -> None:
    value = scalar(text)
    assert (type(value), value) == (type(SCALARS[text]), SCALARS[text])


def test_not_a_number() -> None:
    assert math.isnan(scalar(".nan"))


def test_dump_reads_back_in_both_versions_of_yaml() -> None:
    value = {
        "texts": [*(text.strip("'") for text in SCALARS), "...", "a\n...\nb\n", " lead", "é: #", "<<", "- x"],
        "numbers": [1e-5, 1e22, 0.1, 3, -0.0, math.inf, 1e-300],
        "others": [True, None, {}, [], {"a": [[1], [2.5]]}],
    }
    value["again"] = value["others"]  # no aliases
    text = dump(value)
    assert parse(text) == (value, [])
    assert yaml.safe_load(text) == value
    assert "&" not in text


def test_elisions_read_as_empty_but_not_inside_text() -> None:
    text = "a:\n  ...\nb: x\n   ...  # more\n...\n"
    text += "c: |\n  first\n  ...\n  last\nd: >-  # folded\n  ...\ne:\n - 1\n - ...\n"
    assert parse(text)[0] == {"a": None, "b": "x", "c": "first\n...\nlast\n", "d": "...", "e": [1, "..."]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "a:\n\tb: 1",
            "line 2, column 1: found character '\\t' that cannot start any token. Indent with spaces",
        ),
        ("x: 1\na: b: c", "line 2, column 5: mapping values are not allowed here. A colon too many"),
        ("a: [1, 2", "line 1, column 4: the bracket or quote that opens here is never closed"),
        ("...\n...\nx: 'open", "line 3, column 4: the bracket or quote that opens here is never closed"),
        ("a: 1\n---\nb: 2", "line 2, column 1: but found another document. A config is one document"),
        ("a: &x\n  b: *x", "line 1, column 4: an alias stands inside what it repeats"),
        ("a: *y", "line 1, column 4: found undefined alias 'y'"),
        (
            "a: !!python/object:os.system x",
            "line 1, column 4: a config knows no tag !!python/object:os.system",
        ),
        ("a: \x01", "is not allowed in YAML. Save the file as plain UTF-8 text."),
    ],
)
def test_syntax_errors_say_line_and_column(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "my.yaml")
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("The config in my.yaml has a fault: ")


def test_duplicate_keys_are_faults_at_any_depth() -> None:
    _, faults = parse("a: 1\nb:\n  - c: 1\n    c: 2\na: 3\nd: {e: 1, e: 2}")
    assert [str(fault) for fault in faults] == [
        "a: is given twice (lines 1 and 5). Keep one of the two.",
        "b.0.c: is given twice (lines 3 and 4). Keep one of the two.",
        "d.e: is given twice (line 6). Keep one of the two.",
    ]


def test_merging_is_no_duplicate() -> None:
    assert parse("a: &x {q: 1, r: 1}\nb:\n  <<: *x\n  r: 2") == (
        {"a": {"q": 1, "r": 1}, "b": {"q": 1, "r": 2}},
        [],
    )
