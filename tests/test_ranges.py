"""Ranges are annotations that pydantic understands."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from skoots.ranges import Count, Length, NotNegative, Number, Ratio, Share, check_range


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Count, [1, 7], [0, -1]),
        (Number, [0, 7], [-1]),
        (Length, [0.1, 3], [0, -1, float("nan"), float("inf")]),
        (NotNegative, [0, 2.5], [-0.1, float("nan")]),
        (Share, [0, 0.5, 1], [-0.1, 1.1]),
        (Ratio, [0.01, 0.99], [0, 1]),
    ],
)
def test_what_lies_within(kind: Any, good: list[float], bad: list[float]) -> None:
    adapter = TypeAdapter(kind)
    for value in good:
        assert adapter.validate_python(value) == value
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


@pytest.mark.parametrize(
    ("value", "annotation", "sentence"),
    [
        (1, Share, None),
        (0.5, Share, None),
        (3, Count, None),
        (1.01, Share, "it is 1.01: input should be less than or equal to 1"),
        (0, Count, "it is 0: input should be greater than or equal to 1"),
        (True, Count, "it is True: input should be a valid integer"),
        ("3", Length, "it is '3': input should be a valid number"),
        (float("inf"), Length, "it is inf: input should be a finite number"),
        (None, Ratio, "it is None: input should be a valid number"),
    ],
)
def test_constructors_can_check_ranges_too(value: Any, annotation: Any, sentence: str | None) -> None:
    if sentence is None:
        check_range("it", value, annotation)
        return
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_range("it", value, annotation)
