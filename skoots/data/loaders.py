"""Data loaders whose order depends on seed and epoch alone, not on the number of workers."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.errors import ConfigError, Fault
from skoots.samples import Batch

log = logging.getLogger("skoots")


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes takes.

    Args:
        rank: number of the process.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys (epoch, index) in an order shuffled anew each epoch; of every batch this process's share.

    Args:
        length: samples of an epoch, of all processes.
        seed: of the run.
        batch_size: samples of a batch, of all processes.
        share: this process's part of them.
    """

    def __init__(self, length: int, seed: int, batch_size: int = 1, share: Share | None = None) -> None:
        self.length, self.seed, self.epoch, self.done = length, seed, 1, 0
        self.share = share or Share()
        self.batch_size = min(batch_size, length)

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Say which epoch (counted from 1) the next iteration is, and how many of its samples were used
        before, by all processes."""
        self.epoch, self.done = epoch, done

    def __len__(self) -> int:
        if self.share.world == 1:
            return self.length
        return self.length // self.batch_size * (self.batch_size // self.share.world)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)[self.done :]
        if self.share.world > 1:
            batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
            whole = [batch for batch in batches if len(batch) == self.batch_size]
            order = np.concatenate([b[self.share.rank :: self.share.world] for b in whole] or [order[:0]])
        return iter([(self.epoch, int(i)) for i in order])


def train_loader(
    dataset: CropDataset,
    batch_size: int,
    seed: int,
    workers: int = 0,
    pin_memory: bool = False,
    share: Share | None = None,
) -> DataLoader[Batch]:
    """Batches of random windows; ``loader.sampler.set_epoch`` before each epoch.

    Args:
        dataset: of windows.
        batch_size: windows of a batch, of all processes.
        seed: of the run.
        workers: processes that load for this one.
        pin_memory: page-locked memory, where there is CUDA.
        share: this process's part of every batch.

    Raises:
        ConfigError: there are fewer windows in an epoch than processes, or the batch cannot be shared evenly.
    """
    share = share or Share()
    sampler = EpochSampler(len(dataset), seed, batch_size, share)
    if sampler.batch_size % share.world:
        few = f" (an epoch has {len(dataset)} crops)" if len(dataset) < batch_size else ""
        problem = (
            f"makes batches of {sampler.batch_size}{few}, which {share.world} processes cannot share evenly"
        )
        remedy = "It counts the crops of all: give a multiple of their number"
        raise ConfigError([Fault("train_settings.batch_size", problem, remedy)])
    if sampler.batch_size < batch_size and share.rank == 0:
        log.warning(
            "An epoch has %d crops, so that batches have %d instead of %d (train_settings.batch_size).",
            len(dataset),
            sampler.batch_size,
            batch_size,
        )
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # of samples, which collate_fn makes a batch
        batch_size=sampler.batch_size // share.world,
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory and torch.cuda.is_available(),
        collate_fn=dataset.collate,
        # Its own generator, so that loading never moves the one that dropout draws from.
        generator=torch.Generator(),
        drop_last=True,
        worker_init_fn=_one_thread,
        multiprocessing_context=_start_method() if workers else None,
        persistent_workers=workers > 0,
    )


def covering_loader(dataset: CoveringDataset, share: Share | None = None) -> DataLoader[Batch]:
    """One window a batch, since windows differ in shape; of several processes each has every so many."""
    share = share or Share()
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # as above
        batch_size=1,
        sampler=range(share.rank, len(dataset), share.world),
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
