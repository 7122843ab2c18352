"""Maps and weights that are NaN or infinite."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skoots.errors import SkootsError


class NonFiniteMapError(SkootsError):
    """A head of a network gives NaN or infinite values; the message names it."""


def check_map(head: str, name: str, values: Tensor) -> None:
    """Refuse a map that no decoding could make anything of; waits for the device.

    Args:
        head: that made it.
        name: of the map.
        values: any shape.

    Raises:
        NonFiniteMapError: a value is NaN or infinite.
    """
    if bool(torch.isfinite(values).all()):
        return
    what = "NaN" if bool(torch.isnan(values).any()) else "infinite values"
    raise NonFiniteMapError(f"The network's head {head!r} gives {what} in its map {name!r}.")


def nonfinite_weights(model: nn.Module) -> list[str]:
    """Names of the parameters that hold NaN or infinite values."""
    named = list(model.named_parameters())
    finite = torch.stack([torch.isfinite(values).all() for _, values in named]).tolist() if named else []
    return [name for (name, _), good in zip(named, finite) if not good]
