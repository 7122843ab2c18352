from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from skoots.config.arguments import argument_faults, signature_of, without_empty

if TYPE_CHECKING:
    from somewhere import Unknown


class Part:
    def __init__(
        self,
        size: int,
        rate: float = 0.5,
        name: str | None = None,
        shape: tuple[int, ...] = (),
        pair: tuple[float, float] = (0, 1),
        steps: Iterable[int] = (),
        both: float | Sequence[float] | Literal["auto"] = "auto",
        mode: Literal["max", "min"] = "min",
        flag: bool = False,
        folder: Path | str = ".",
        table: Mapping[str, float] = {},
        limited: Annotated[float, Field(ge=0, le=1)] = 0,
        unknown: Unknown = 1,
        array: np.ndarray | None = None,
        function: Callable[[int], int] = abs,
        anything: Any = None,
        bare=None,  # type: ignore[no-untyped-def]
    ) -> None: ...


GOOD: dict[str, list[Any]] = {
    "size": [3],
    "rate": [0.5, 1, 1e-3],
    "name": ["a", None],
    "shape": [[1, 2, 3], []],
    "pair": [[1, 2.5]],
    "steps": [[1, 2]],
    "both": [1, 0.5, [1, 2.5], "auto"],
    "mode": ["max"],
    "flag": [True],
    "folder": ["a/b"],
    "table": [{"a": 1}],
    "limited": [0.5],
    "unknown": ["x"],
    "anything": [[1, "a"]],
    "bare": [{"a": 1}],
}
BAD: dict[str, list[tuple[Any, str]]] = {
    "size": [
        ("3", 'is "3", must be an integer'),
        (3.5, "is 3.5, must be"),
        (True, "is true, must be"),
        ([3], "[3]"),
    ],
    "rate": [("1e-3", 'is "1e-3", must be a number'), (True, "true"), ([1], "[1]")],
    "name": [(3, "is 3, must be text or null")],
    "shape": [([1, "a"], "a list of integers"), (3, "a list of integers"), ("abc", "a list of integers")],
    "pair": [([1], "is [1], must be a list of 2 numbers"), ([1, 2, 3], "a list of 2 numbers")],
    "steps": [([1, "a"], "a list of integers"), (1, "a list of integers")],
    "both": [("auo", 'is "auo", must be a number or a list of numbers or "auto"'), ([1, "a"], "a list")],
    "mode": [("mx", 'is "mx", must be "max" or "min"')],
    "flag": [(1, "is 1, must be true or false"), ("yes", "true or false")],
    "folder": [(3, "a path or text")],
    "table": [({"a": "x"}, "a section of keys and values"), ([1], "a section")],
    "limited": [(2, "a number of at least 0 and of at most 1")],
    "function": [("abs", "a function, which a config cannot give")],
}


def faults(part: Any, **given: Any) -> list[str]:
    return [str(fault) for fault in argument_faults(signature_of(part), given, lambda name: f"at.{name}")]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in GOOD for value in GOOD[name]])
def test_what_fits(name: str, value: Any) -> None:
    assert faults(Part, **{"size": 1, name: value}) == []


@pytest.mark.parametrize(("name", "value", "said"), [(name, *case) for name in BAD for case in BAD[name]])
def test_what_does_not(name: str, value: Any, said: str) -> None:
    (fault,) = faults(Part, **{"size": 1, name: value})
    assert fault.startswith(f"at.{name}: is ") and said in fault


def test_unknown_missing_and_supplied() -> None:
    assert faults(Part, siz=3) == [
        "at.siz: unknown key of Part. Did you mean size?",
        "at.size: is missing. Part needs it (an integer).",
    ]
    assert faults(Part, size=None) == ["at.size: is missing. Part needs it (an integer)."]
    assert list(argument_faults(signature_of(Part), {}, str, supplied={"size"})) == []


def test_empty_arguments() -> None:
    given = {
        "size": None,
        "rate": None,
        "name": None,
        "array": None,
        "anything": None,
        "other": None,
        "flag": True,
    }
    assert without_empty(signature_of(Part), given) == {
        "name": None,
        "array": None,
        "anything": None,
        "other": None,
        "flag": True,
    }


def test_other_kinds_of_parts() -> None:
    @dataclass(frozen=True)
    class Data:
        steps: int = 3
        reach: float = 1.0

    class Child(Part):
        """The constructor of the parent."""

    class Open:
        def __init__(self, name: str, **others: int) -> None: ...

    def function(size: int) -> None: ...

    assert faults(Data, steps=1.5, reach=2) == ["at.steps: is 1.5, must be an integer."]
    assert faults(Child, size="x") == ['at.size: is "x", must be an integer.']
    assert faults(Open, name="a", anything={"goes": 1}) == []
    assert faults(Open, name=1) == ["at.name: is 1, must be text."]
    assert faults(function, sze=1)[0] == "at.sze: unknown key of function. Did you mean size?"
    assert "params" not in signature_of(Part, without=["size"]).parameters
    assert "size" not in signature_of(Part, without=["size"]).parameters
