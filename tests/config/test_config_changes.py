"""What differs between two configs, in words."""

from __future__ import annotations

from skoots.config.changes import changes


def test_every_difference_has_its_path_and_both_values() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "gone": None, "same": {"x": "y"}}
    after = {"a": {"b": 2, "c": [1, 3]}, "new": {"deep": 0.5}, "same": {"x": "y"}}
    assert list(changes(before, after)) == [
        "a.b: 1, now 2",
        "a.c: [1, 2], now [1, 3]",
        "gone: null, now not there",
        'new: not there, now {"deep": 0.5}',
    ]
    assert list(changes(before, before)) == []
