"""What differs between two configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skoots.config.words import shown

ABSENT = object()


def changes(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Every key whose value differs, with both values, e.g. ``train_settings.epochs: 10, now 20``.

    Args:
        before: a resolved config, or a part of one, as plain values.
        after: the other.
        path: of the part.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            inner = f"{path}.{key}" if path else str(key)
            yield from changes(before.get(key, ABSENT), after.get(key, ABSENT), inner)
    elif before != after:
        yield f"{path}: {_shown(before)}, now {_shown(after)}"


def _shown(value: Any) -> str:
    return "not there" if value is ABSENT else shown(value)
