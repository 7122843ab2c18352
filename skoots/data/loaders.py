"""Data loaders whose order depends on seed and epoch alone, not on the number of workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.data.workers import COPIES, Waiting, Workers
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


class EpochSampler:
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


class Loader:
    """Batches of a data set; iterating gives those of an epoch.

    Args:
        dataset: gives the sample of a key.
        sampler: gives the keys of an epoch in their order; those left over from whole batches are left out.
        batch_size: samples of a batch.
        collate: makes a batch of samples.
        workers: processes that load for this one, until ``close``; 0 loads here.
        pin_memory: whether batches are put into page-locked memory.
        seed: of the random numbers of workers.
    """

    def __init__(
        self,
        dataset: Any,
        sampler: Any,
        batch_size: int,
        collate: Callable[[Sequence[Any]], Any],
        workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
    ) -> None:
        self.dataset, self.sampler, self.batch_size = dataset, sampler, batch_size
        self._make, self._finish = _Making(dataset, collate), _pinned() if pin_memory else _as_it_is
        self._workers = Workers(self._make, workers, seed, self._finish) if workers else None

    def __len__(self) -> int:
        return len(self.sampler) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, waiting: Waiting = lambda seconds: None) -> Generator[Batch, None, None]:
        """The batches of an epoch.

        Args:
            waiting: called again and again while workers are waited for, with the seconds so far; what it
                raises ends the wait.

        Raises:
            SkootsError: a worker was killed, or could not be started.
        """
        order = list(self.sampler)
        keys = [order[i * self.batch_size :][: self.batch_size] for i in range(len(order) // self.batch_size)]
        if self._workers is not None:
            yield from self._workers.batches(keys, waiting)
            return
        for each in keys:
            yield self._finish(self._make(each))

    @property
    def has_workers(self) -> bool:
        """Whether other processes load."""
        return self._workers is not None

    @property
    def held(self) -> int:
        """Batches that are in memory at once, at most."""
        return 1 if self._workers is None else COPIES * self._workers.count + 1

    def close(self) -> None:
        """End the workers; to be called when no more batches are needed."""
        if self._workers is not None:
            self._workers.close()


@dataclass(frozen=True)
class _Making:
    """What makes a batch of keys, here or in a worker."""

    dataset: Any
    collate: Callable[[Sequence[Any]], Any]

    def __call__(self, keys: Iterable[Any]) -> Any:
        return self.collate([self.dataset[key] for key in keys])


def _as_it_is(batch: Any) -> Any:
    return batch


def _pinned() -> Callable[[Any], Any]:
    device = torch.cuda.current_device()

    def pin(batch: Any) -> Any:
        torch.cuda.set_device(device)  # of this thread, which would take up memory on the first GPU otherwise
        return batch.pin_memory()

    return pin


def train_loader(
    dataset: CropDataset,
    batch_size: int,
    seed: int,
    workers: int = 0,
    pin_memory: bool = False,
    share: Share | None = None,
) -> Loader:
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
    return Loader(
        dataset,
        sampler,
        sampler.batch_size // share.world,
        dataset.collate,
        workers,
        pin_memory and torch.cuda.is_available(),
        seed,
    )


def covering_loader(dataset: CoveringDataset, share: Share | None = None) -> Loader:
    """One window a batch, since windows differ in shape; of several processes each has every so many."""
    share = share or Share()
    return Loader(dataset, range(share.rank, len(dataset), share.world), 1, Batch.collate)
