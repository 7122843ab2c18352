"""Processes that load batches for the one that trains.

They end when they are told to and, by themselves, when the process that started them is gone. They are told
by SIGKILL, since they hold nothing that could be left half done. Other signals are not theirs to answer: a
terminal or a queue sends them to the whole process group, and the training, which may need batches up to the
end of its step, ends its workers itself.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import queue
import random
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.context import DefaultContext, ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, NamedTuple

import numpy as np
import torch

from skoots.data.channel import pack, receive, send
from skoots.errors import STOP_SIGNALS, SkootsError
from skoots.registry import load_plugin, plugin_files

AHEAD = 2  # batches that each worker is asked for before the first of them is used
TURN = 0.1  # seconds between two looks for signals while a batch is awaited
GRACE = 1.0  # seconds in which a signal that ended a worker reaches this process too

COPIES = AHEAD + 1  # batches that exist for each worker at most: those, and one between the two processes

Make = Callable[[Sequence[Any]], Any]
Waiting = Callable[[float], None]


class WorkerLostError(SkootsError):
    """A worker has died; trying again may go well."""


class WorkerError(Exception):
    """The traceback of an error in a worker: the cause of the same error here."""


@dataclass(frozen=True)
class _Failure:
    error: Exception
    trace: str

    @classmethod
    def of(cls, error: Exception) -> _Failure:
        """Of the error that is being handled."""
        trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # whatever its class does there: it has to reach the training somehow
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, trace)


class _Worker(NamedTuple):
    process: BaseProcess
    end: socket.socket


def has_memory_in_common() -> bool:
    """Whether workers that are started now are forked, and so share what they are given with this process;
    else each has a copy of its own."""
    return _context().get_start_method() == "fork"


def _context() -> DefaultContext | ForkServerContext:
    # Zarr's library does not survive a fork.
    if "tensorstore" in sys.modules:
        return multiprocessing.get_context("forkserver")
    return multiprocessing.get_context()


class Workers:
    """Started with the first batch; ``close`` ends them.

    Args:
        make: gives the batch of some keys; each worker has a copy of it.
        count: how many there are.
        seed: of their random numbers, for whatever draws from the generators of Python, NumPy and torch.
        finish: what is done with each batch in this process, in a thread beside the training.
    """

    def __init__(self, make: Make, count: int, seed: int = 0, finish: Make = lambda batch: batch) -> None:
        self.make, self.count, self.seed, self.finish = make, count, seed, finish
        self._workers: list[_Worker] = []
        Finalize(self, _end, (self._workers,), exitpriority=100)  # for a program that ends without a close

    def batches(self, keys: Sequence[Sequence[Any]], waiting: Waiting) -> Generator[Any, None, None]:
        """The batch of each list of keys, in their order. Who stops before the last one ends the workers.

        Args:
            keys: of each batch.
            waiting: called again and again while a batch is awaited, with the seconds so far.

        Raises:
            SkootsError: a worker was killed, or could not be started.
        """
        arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        given = itertools.count()
        everything = False
        try:
            equipment = [] if self._workers else self._start()
            threading.Thread(
                target=self._receive, args=(equipment, len(keys), arrived), name="skoots-batches", daemon=True
            ).start()
            if equipment:
                _next_of(arrived, waiting)
            for _ in range(AHEAD * self.count):
                self._ask(next(given), keys)
            for _ in keys:
                batch = _next_of(arrived, waiting)
                self._ask(next(given), keys)
                if isinstance(batch, _Failure):
                    raise batch.error from WorkerError(f"\n{batch.trace}")
                if isinstance(batch, _Worker):
                    raise _how_it_ended(batch.process, waiting)
                yield batch
            everything = True
        finally:
            if not everything:
                self.close()

    def close(self) -> None:
        """End the processes; the next batches would start others."""
        _end(self._workers)

    def _start(self) -> list[memoryview]:
        """Returns what each is to be given, packed; a fork has it."""
        context = _context()
        forks = context.get_start_method() == "fork"
        try:
            for number in range(self.count):
                ours, theirs = socket.socketpair()
                with theirs:
                    inherited = [ours, *(worker.end for worker in self._workers)] if forks else []
                    process = context.Process(
                        target=_work,
                        args=(theirs, self.make if forks else None, self.seed + number, inherited),
                        name=f"skoots-worker-{number}",
                        daemon=True,
                    )
                    self._workers.append(_Worker(process, ours))
                    process.start()
        except OSError as error:
            self.close()
            raise SkootsError(
                f"train_settings.dataloader_workers: process {number + 1} of {self.count} that loads crops "
                f"could not be started: {error.strerror or error}. Write a smaller number; with 0 the "
                "training loads them itself."
            ) from error
        return [] if forks else pack((plugin_files(), pickle.dumps(self.make)))

    def _ask(self, number: int, keys: Sequence[Sequence[Any]]) -> None:
        if number < len(keys):
            _tell(self._workers[number % self.count], pack(keys[number]))

    def _receive(self, equipment: Sequence[memoryview], count: int, arrived: queue.SimpleQueue[Any]) -> None:
        workers = list(self._workers)
        if equipment:
            for worker in workers:  # which take it once they are up, after seconds
                _tell(worker, equipment)
            arrived.put(None)
        for number in range(count):
            worker = workers[number % len(workers)]
            try:
                batch = receive(worker.end)
                arrived.put(batch if isinstance(batch, _Failure) else self.finish(batch))
            except (EOFError, OSError):
                arrived.put(worker)
                return
            except Exception as error:  # is raised where the batch is awaited
                arrived.put(_Failure(error, traceback.format_exc()))
                return


def _tell(worker: _Worker, parts: Sequence[memoryview]) -> None:
    with contextlib.suppress(OSError):  # that it is gone is found where its batch is awaited
        send(worker.end, parts)


def _next_of(arrived: queue.SimpleQueue[Any], waiting: Waiting) -> Any:
    began = time.monotonic()
    while True:
        try:
            return arrived.get(timeout=TURN)
        except queue.Empty:
            waiting(time.monotonic() - began)


def _end(workers: list[_Worker]) -> None:
    ending = [worker for worker in workers if worker.process.pid is not None]
    for worker in ending:
        worker.process.kill()
    for worker in ending:
        worker.process.join(GRACE)
    for worker in workers:
        worker.end.close()
    workers.clear()


def _how_it_ended(process: BaseProcess, waiting: Waiting) -> WorkerLostError:
    end = time.monotonic() + GRACE
    while time.monotonic() < end:  # if a signal to all has ended it, this process learns of it now
        process.join(TURN)
        waiting(0.0)
    status = process.exitcode
    how = "has closed its connection" if status is None else f"ended with status {status}"
    if status is not None and status < 0:
        how = f"was killed by {signal.Signals(-status).name}"
    return WorkerLostError(
        f"A process that loads crops {how}. Often memory ran out: fewer "
        "train_settings.dataloader_workers, a smaller train_settings.batch_size or data.crop_size need less. "
        "skoots resume goes on from the latest snapshot."
    )


# In a worker ------------------------------------------------------------------------------------------------


def _work(end: socket.socket, make: Make | None, seed: int, inherited: Sequence[socket.socket]) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for other in inherited:  # which would stay open as long as this process lives
        other.close()
    threading.Thread(target=_end_with_parent, name="skoots-parent", daemon=True).start()
    torch.set_num_threads(1)  # workers share the cores with the compute threads
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    with contextlib.suppress(EOFError, OSError):  # the training is gone
        answer = _answering(make or _made(*receive(end)))
        while True:
            send(end, answer(receive(end)))


def _end_with_parent() -> None:
    """In the middle of a batch too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _made(plugins: Sequence[str], pickled: bytes) -> Make:
    """What a fork is given; the parts of plugins are found once these are loaded."""

    def broken(keys: Sequence[Any]) -> Any:
        raise error

    try:
        for plugin in plugins:
            load_plugin(plugin)
        return pickle.loads(pickled)
    except Exception as caught:  # is raised where the first batch is awaited
        error = caught
        return broken


def _answering(make: Make) -> Callable[[Sequence[Any]], list[memoryview]]:
    def answer(keys: Sequence[Any]) -> list[memoryview]:
        try:
            return pack(make(keys))
        except Exception as error:  # is raised where the batch is awaited
            return pack(_Failure.of(error))

    return answer
