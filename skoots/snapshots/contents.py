"""What a snapshot may hold: tensors in host memory and plain Python values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skoots.errors import SnapshotError


def plain(value: Any, where: str = "state") -> Any:
    """The same state as tensors in host memory and plain Python values, all that a snapshot may hold.

    Mappings become dicts, NumPy scalars numbers, NumPy arrays tensors, paths and devices strings.

    Args:
        value: a state, nested in any way.
        where: its name, for the message.

    Raises:
        SnapshotError: something else is in it.
    """
    if value is None or type(value) in (bool, int, float, complex, str, bytes, torch.dtype):
        return value
    if isinstance(value, Tensor):
        return _host_tensor(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, (os.PathLike, torch.device)):
        return str(value)
    if isinstance(value, Counter):  # stays one: MultiStepLR asks its milestones for their elements
        return Counter({plain(key, where): count for key, count in value.items()})
    if isinstance(value, Mapping):
        return {plain(key, where): plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    for kind in (list, tuple, set):
        if isinstance(value, kind):
            return kind(plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    for scalar in (str, int, float):  # subclasses, such as enumerations, would not load again
        if isinstance(value, scalar):
            return scalar(value)
    raise SnapshotError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which a snapshot cannot hold: "
        "store tensors and plain Python values only."
    )


def _host_tensor(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    if tensor.layout == torch.strided and tensor.untyped_storage().nbytes() != tensor.nbytes:
        return tensor.clone()  # of a view, torch.save would store all that lies behind it
    return tensor


# What a file may hold ---------------------------------------------------------------------------------------

DEEPEST = 100
"""Levels of nesting; a config has about ten."""

MOST_VALUES = 5_000_000
"""Values, each counted as often as it is referred to."""

LARGEST_NUMBER = 2**130
"""Of an integer: generators of random numbers have states of 128 bits."""

_ELEMENTARY = (type(None), bool, float, complex, str, bytes, torch.dtype)


def check_plain(state: Any, path: Path) -> None:
    """Whether what was read from a file can be walked through, copied and printed: values are plain and of a
    sensible number and depth, and every tensor has its numbers in the file.

    A pickle may refer to one list twice, which holds another one twice, and so on, or to a list that holds
    itself; a tensor may say any shape over a single number.

    Raises:
        SnapshotError: something is not; names the file and the key.
    """
    _Walk(path).count(state, "", 0)


class _Walk:
    """Counts values; what is referred to again is looked at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left = 4 * path.stat().st_size + 2**20  # bytes; weights that are tied are there twice
        self._counted: dict[int, int] = {}

    def count(self, value: Any, key: str, depth: int) -> int:
        """Values in a value, itself among them."""
        if isinstance(value, torch.Tensor):
            self._check_tensor(value, key)
            return 1
        if type(value) is int:
            if abs(value) > LARGEST_NUMBER:
                raise self.refusal(key, f"is a number of {value.bit_length()} bits")
            return 1
        if isinstance(value, _ELEMENTARY):
            return 1
        if not isinstance(value, dict | list | tuple | set):
            raise self.refusal(key, f"is a {type(value).__name__}")
        if depth > DEEPEST:
            raise self.refusal(key, f"is nested more than {DEEPEST} levels deep")
        if id(value) not in self._counted:
            self._counted[id(value)] = 1 + self._inner(value, key, depth)
        total = self._counted[id(value)]
        if total > MOST_VALUES:
            raise self.refusal(key, f"holds more than {MOST_VALUES:,} values")
        return total

    def _inner(self, value: Any, key: str, depth: int) -> int:
        named = value.items() if isinstance(value, dict) else enumerate(value)
        keys = sum(self.count(name, key, depth + 1) for name in value) if isinstance(value, dict) else 0
        return keys + sum(
            self.count(item, f"{key}.{name}" if key else str(name), depth + 1) for name, item in named
        )

    def _check_tensor(self, tensor: Tensor, key: str) -> None:
        if tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.is_quantized:
            raise self.refusal(key, "is a tensor without plain numbers")
        self.left -= tensor.nbytes
        if tensor.nbytes > tensor.untyped_storage().nbytes() or self.left < 0:
            raise self.refusal(key, f"is a tensor of {tensor.nbytes:,} bytes, more than the file holds")

    def refusal(self, key: str, problem: str) -> SnapshotError:
        at = key if len(key) <= 100 else f"{key[:100]}..."
        return SnapshotError(f"{self.path}: {at or 'its content'} {problem}, and was refused.")
