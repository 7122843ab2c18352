"""Data loaders whose order depends on seed and epoch alone, not on the number of workers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.samples import Batch


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys (epoch, index) in an order shuffled anew each epoch.

    Args:
        length: samples of an epoch.
        seed: of the run.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch, self.done = length, seed, 1, 0

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Say which epoch (counted from 1) the next iteration is, and how many of its samples were used
        before."""
        self.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        return iter([(self.epoch, int(i)) for i in order[self.done :]])


def train_loader(
    dataset: CropDataset, batch_size: int, seed: int, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Batches of random windows; ``loader.sampler.set_epoch`` before each epoch."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # of samples, which collate_fn makes a batch
        batch_size=batch_size,
        sampler=EpochSampler(len(dataset), seed),
        num_workers=workers,
        pin_memory=pin_memory and torch.cuda.is_available(),
        collate_fn=dataset.collate,
        # Its own generator, so that loading never moves the one that dropout draws from.
        generator=torch.Generator(),
        drop_last=len(dataset) >= batch_size,
        worker_init_fn=_one_thread,
        multiprocessing_context=_start_method() if workers else None,
        persistent_workers=workers > 0,
    )


def covering_loader(dataset: CoveringDataset) -> DataLoader[Batch]:
    """One window a batch, since windows differ in shape."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # as above
        batch_size=1,
        collate_fn=Batch.collate,
        generator=torch.Generator(),
    )


def _start_method() -> str | None:
    """How workers begin: forked, which is quick, but if Zarr was read: its library does not survive it."""
    return "forkserver" if "tensorstore" in sys.modules else None


def _one_thread(worker: int) -> None:
    """Workers share the cores with the compute threads: one each. Signals are the training's to answer, which
    ends its workers by word; a terminal or a queue sends them to the whole group."""
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
