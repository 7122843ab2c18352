"""Ranges are annotations that pydantic understands."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from skoots.ranges import Count, Length, NotNegative, Number, Share


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Count, [1, 7], [0, -1]),
        (Number, [0, 7], [-1]),
        (Length, [0.1, 3], [0, -1, float("nan"), float("inf")]),
        (NotNegative, [0, 2.5], [-0.1, float("nan")]),
        (Share, [0, 0.5, 1], [-0.1, 1.1]),
    ],
)
def test_what_lies_within(kind: Any, good: list[float], bad: list[float]) -> None:
    adapter = TypeAdapter(kind)
    for value in good:
        assert adapter.validate_python(value) == value
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)
