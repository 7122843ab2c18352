"""One decision of a plan, and how decisions become a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decision:
    """One value of a config.

    Args:
        key: its dotted path, e.g. ``model.heads.vector.scale``.
        value: a plain value.
        reason: a sentence with the numbers that it follows from; empty for what goes without saying.
    """

    key: str
    value: Any
    reason: str = ""


def as_tree(decisions: Sequence[Decision]) -> dict[str, Any]:
    """The config that decisions make, keys in their order."""
    tree: dict[str, Any] = {}
    for decision in decisions:
        *above, last = decision.key.split(".")
        here = tree
        for key in above:
            here = here.setdefault(key, {})
        here[last] = decision.value
    return tree


def by(numbers: Sequence[float]) -> str:
    """``20 x 64 x 64``."""
    return " x ".join(f"{n:g}" for n in numbers)


def some(n: int, noun: str) -> str:
    """``1 object``, ``12 objects``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
