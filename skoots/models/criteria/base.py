"""The contract of criteria (losses), and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from skoots.registry import Registry

_SUMMED = ContextVar("summed", default=False)


class Criterion(nn.Module, ABC):
    """A loss between a probability map and its target.

    One whose sums over the batch go through ``of_whole_batch`` is the same whether one process sees the batch
    or each of several a part of it; what others give is averaged over the processes."""

    @abstractmethod
    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """The loss as a scalar.

        Args:
            output: (B, C, *S) probabilities in [0, 1].
            target: (B, C, *S) in [0, 1].
            valid: (B, 1, *S) bool; voxels that are False do not count. None counts all.
        """


def of_whole_batch(*sums: Tensor) -> tuple[Tensor, ...]:
    """Sums over a batch, of which each of several processes that train together has a part.

    Args:
        sums: 0-d tensors of this process's part, float32.

    Returns:
        The same of all processes; where one process has the whole batch, the tensors as they are.
    """
    if not _SUMMED.get():
        return sums
    return tuple(_SumOverProcesses.apply(torch.stack(sums)).unbind())


class _SumOverProcesses(torch.autograd.Function):
    """The gradient is summed, too: what this multiplies by the number of processes,
    DistributedDataParallel divides again."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _all_reduced(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _all_reduced(gradient)


def _all_reduced(values: Tensor) -> Tensor:
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total


@contextmanager
def summed_over_processes(together: bool) -> Iterator[None]:
    """Whether ``of_whole_batch`` sums over all processes: in training steps, where each process has its part
    of the batch, but not in validation, where each has windows of its own."""
    token = _SUMMED.set(together)
    try:
        yield
    finally:
        _SUMMED.reset(token)


CRITERIA: Registry[Criterion] = Registry(
    "criterion",
    Criterion,
    home=[
        "skoots.models.criteria.tversky",
        "skoots.models.criteria.cldice",
        "skoots.models.criteria.voxelwise",
    ],
    aliases={"soft_cldice": "SoftDiceClDice"},  # of the original SKOOTS
)
