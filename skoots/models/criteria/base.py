"""The contract of criteria (losses), and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from skoots.registry import Registry

_SUMMED = ContextVar("summed", default=False)


class Criterion(nn.Module, ABC):
    """A loss between a probability map and its target.

    One that is made of ``batch_sums`` is the same whether one process sees the batch or each of several a
    part of it; what others give is averaged over the processes.
    """

    @abstractmethod
    def forward(self, output: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """The loss as a scalar.

        Args:
            output: (B, C, *S) probabilities in [0, 1].
            target: (B, C, *S) in [0, 1].
            valid: (B, 1, *S) bool; voxels that are False do not count. None counts all.
        """


def batch_sums(*values: Tensor) -> tuple[Tensor, ...]:
    """The sum of each tensor over the batch: of all processes, where these train together.

    Args:
        values: tensors of any shape, on one device.

    Returns:
        As many 0-d tensors.
    """
    sums = torch.stack([value.sum(dtype=torch.float32) for value in values])
    if _SUMMED.get():
        from torch.distributed.nn.functional import all_reduce

        sums = all_reduce(sums)  # with a gradient: DistributedDataParallel averages what this multiplies
    return tuple(sums.unbind())


@contextmanager
def summed_over_processes(together: bool) -> Iterator[None]:
    """Whether ``batch_sums`` are of all processes: in training steps, where each process has its part of the
    batch, but not in validation, where each has windows of its own."""
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
)
