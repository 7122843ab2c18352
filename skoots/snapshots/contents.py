"""What a snapshot may hold: tensors in host memory and plain Python values."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
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
