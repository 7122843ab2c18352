"""A network of somebody else's config is built within the size of its weights, or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skoots.errors import SnapshotError

SPARE_NUMBERS = 2**24
"""Numbers that may be had besides: constants, and what a constructor needs for a moment."""


class AllocationLimit(TorchDispatchMode):
    """Refuses the memory of tensors that are no part of given weights: a config of a few bytes can ask for
    terabytes, while the weights that belong to it lie in the file.

    Args:
        weights: tensors of the file; in all, a few times as many numbers may be had, and as many tensors.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        sizes = [weight.numel() for weight in weights]
        self.numbers = 4 * sum(sizes) + SPARE_NUMBERS
        self.tensors = 100 * len(sizes) + 10_000

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        shape = args[0] if args and isinstance(args[0], list | tuple) else None
        if shape is not None and all(isinstance(length, int) for length in shape):
            self.numbers -= math.prod(shape)
            self.tensors -= 1
            if self.numbers < 0 or self.tensors < 0:
                raise SnapshotError(
                    f"asks for a tensor of {' x '.join(map(str, shape))} numbers, far more than its weights"
                )
        return func(*args, **(kwargs or {}))
