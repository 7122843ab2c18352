"""What a config may hold: texts, finite numbers, lists and mappings, within bounds that no real one reaches.

The bounds hold wherever a config comes from: a YAML file, the command line, Python, a snapshot, W&B.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skoots.config.faults import Faults
from skoots.config.words import shown
from skoots.errors import Fault

_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # NUL, and halves of characters
MAX_BYTES = 1 << 20
MAX_VALUES = 20_000  # a folder stands for all volumes in it
MAX_DEPTH = 64


def fits_64_bits(value: int) -> bool:
    """Whether an integer is one that torch and NumPy can take."""
    return -(2**63) <= value < 2**64


def plain(value: Any, path: str, faults: Faults) -> Any:
    """A copy in dicts, lists, texts and numbers, whatever kinds of them a caller in Python has used.

    Args:
        value: a config, or a part of one.
        path: its place in the config; empty for the whole.
        faults: what a config cannot hold is added to them, and becomes None.

    Raises:
        ConfigError: it is nested too deeply or too large.
    """
    return _Copy(faults).of(value, path, 0)


class _Copy:
    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.values = 0

    def of(self, value: Any, path: str, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            what = f"is nested deeper than {MAX_DEPTH} levels"
            if depth <= MAX_DEPTH:
                what = f"holds more than {MAX_VALUES:,} values"
            self.faults.append(Fault(path.split(".")[0], what))
            self.faults.end()
        if isinstance(value, Mapping):
            return {
                name: self.of(item, _below(path, name), depth + 1)
                for key, item in value.items()
                if (name := self.key(key, path)) is not None
            }
        if isinstance(value, list | tuple):
            return [self.of(item, _below(path, str(i)), depth + 1) for i, item in enumerate(value)]
        if isinstance(value, Path):
            return str(value)
        if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
            return self.of(value.tolist(), path, depth)
        if problem := _problem(value):
            self.faults.append(Fault(path, *problem))
            return None
        return value

    def key(self, key: Any, path: str) -> str | None:
        """A key as text; None if it cannot be one."""
        if problem := _problem(key):
            self.faults.append(Fault(path, f"has a key that {problem[0]}", problem[1]))
            return None
        return key if isinstance(key, str) else shown(key)


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _problem(value: Any) -> tuple[str, str] | None:
    """What is wrong with a single value, and the remedy."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {'nan' if math.isnan(value) else 'infinite'}", "Write a number, or leave the key out."
    if isinstance(value, int) and not fits_64_bits(value):
        return "is an integer of more than 64 bits", ""
    if isinstance(value, str) and _NO_TEXT.search(value):
        return "holds a character that no file name or text can hold", ""
    if value is not None and not isinstance(value, bool | int | float | str):
        return f"is a {type(value).__name__}", "A config holds texts, numbers, lists and mappings."
    return None
