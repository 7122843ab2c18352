"""How many processes load crops: what ``train_settings.dataloader_workers: auto`` means."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from skoots.data.channel import pack
from skoots.data.dataset import CropDataset
from skoots.data.workers import COPIES, has_memory_in_common
from skoots.runtime import cpu_count, free_memory
from skoots.samples import Batch
from skoots.training.distributed import local_world
from skoots.training.random_state import random_state, set_random_state

SECONDS_A_VOXEL = 6e-9
"""Of the fastest step that is to be fed: 13 ms on two crops of 64 x 128 x 128. This is assumed of a network
of five million parameters in bfloat16 on a data-centre GPU; ``benchmarks/gpu_feeding.py`` measures it."""
SHORTEST_STEP = 0.005
"""Seconds, assumed too: some hundred kernels are started one after the other, however small the crops are."""
MOST_WORKERS = 16
MEMORY_SHARE = 0.5  # of what is free, for all that workers keep
CROPS = 8  # that are timed


@dataclass(frozen=True)
class Feeding:
    """What the decision rests on, for one of the processes that train on this machine.

    Args:
        seconds: in which one core prepares a crop.
        voxels: of a crop.
        crops: that this process takes of every batch.
        cores: for this process.
        memory: bytes that workers may take; None if the system does not say.
        memory_each: bytes that each of them takes.
    """

    seconds: float
    voxels: int
    crops: int
    cores: int
    memory: int | None = None
    memory_each: int = 1

    @property
    def step(self) -> float:
        """Seconds of the fastest step that is to be fed."""
        return max(SHORTEST_STEP, SECONDS_A_VOXEL * self.voxels * self.crops)

    def decide(self) -> tuple[int, str]:
        """The number of workers, and why."""
        needed = max(1, math.ceil(self.seconds * self.crops / self.step))
        bounds = {f"one core of {self.cores} is left to the training": self.cores - 1}
        if self.memory is not None:
            each, free = self.memory_each / 2**20, self.memory / 2**20
            bounds[f"each keeps {each:,.0f} MiB of {free:,.0f} MiB"] = self.memory // self.memory_each
        bounds["more are never taken"] = MOST_WORKERS
        limit = min(bounds, key=lambda why: bounds[why])
        reason = (
            f"a core prepares a crop in {1000 * self.seconds:.3g} ms, and {needed} keep ahead of a step of "
            f"{1000 * self.step:.3g} ms on {self.crops}"
        )
        if needed <= bounds[limit]:
            return needed, reason
        return max(0, bounds[limit]), f"{reason}; {limit}"


def choose_workers(dataset: CropDataset, crops: int, channels: int) -> tuple[int, str]:
    """The number of workers beside a GPU, and why; measured here and now.

    Args:
        dataset: of the training.
        crops: that this process takes of every batch.
        channels: of the images.
    """
    free = free_memory(torch.device("cpu"))
    own = 0 if has_memory_in_common() else sum(part.nbytes for part in pack(dataset))
    return Feeding(
        seconds_of_a_crop(dataset),
        math.prod(dataset.crop),
        crops,
        cpu_count() // local_world(),
        None if free is None else int(MEMORY_SHARE * free) // local_world(),
        own + COPIES * Batch.bytes_of(crops, channels, dataset.crop),
    ).decide()


def seconds_of_a_crop(dataset: CropDataset, crops: int = CROPS) -> float:
    """Mean time in which one core prepares a crop, as a worker does it; no random generator is touched.

    The mean, because a crop that is turned costs several times one that is not, and workers make both.

    Args:
        dataset: of the training.
        crops: how many are timed, spread over the volumes.
    """
    taken = []
    with _as_in_a_worker():
        for index in (0, *np.linspace(0, len(dataset) - 1, crops).round().astype(int)):
            began = time.perf_counter()
            dataset.collate([dataset[1, int(index)]])
            taken.append(time.perf_counter() - began)
    return sum(taken[1:]) / crops  # the first one compiles


@contextmanager
def _as_in_a_worker() -> Iterator[None]:
    threads, generators = torch.get_num_threads(), random_state()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        set_random_state(generators)
