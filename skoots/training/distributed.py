"""Several processes that train one network together, each on its share of every batch.

The config says what is computed, the number of processes only how fast: ``batch_size`` counts the crops of
all processes, losses that are sums over the batch are summed over all of them, and metrics are put together
in the order of the windows."""

from __future__ import annotations

import atexit
import datetime
import os
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from skoots.errors import ConfigError, Fault, SkootsError
from skoots.models.segmentation_model import SegmentationModel
from skoots.terminal import settle

T = TypeVar("T")
PATIENCE = datetime.timedelta(minutes=30)
"""How long a device waits for the others; one that dies is noticed at once by its closed connection."""

HOST_PATIENCE = datetime.timedelta(days=2)
"""How long a process waits for what the first one does alone: skeletons of large volumes take hours."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; alone by default.

    Args:
        rank: number of this process; 0 alone writes.
        world: how many there are.
        local_rank: number of this process on its machine.
        host: group for what is agreed upon without waiting for a device.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    host: Any = field(default=None, repr=False)

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """What each process gives, by rank; on every process."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.host)
        return values

    def share(self, value: T) -> T:
        """What the first process gives, on every process."""
        if self.world == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0, group=self.host)
        return holder[0]

    def largest(self, *values: int) -> tuple[int, ...]:
        """The largest of each of some whole numbers over all processes."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.host)
        return tuple(tensor.tolist())

    def all_true(self, flag: Tensor) -> Tensor:
        """Whether a 0-d bool is True on every process; computed on the device."""
        if self.world == 1:
            return flag
        number = flag.to(torch.uint8)
        dist.all_reduce(number, dist.ReduceOp.MIN)
        return number.bool()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.world

    def on_first(self, action: Callable[[], T]) -> T:
        """Do something on the first process alone and hand the result, or the failure, to all.

        Raises:
            SkootsError: as ``action`` did.
        """
        if self.world == 1:
            return action()
        result: T | None = None
        error: SkootsError | None = None
        if self.is_first:
            try:
                result = action()
            except SkootsError as caught:
                error = caught
        result, error = self.share((result, error))
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process does the work, and what it leaves behind (a cache) spares the others theirs."""
        if not self.is_first:
            self.largest(0)
        yield
        if self.is_first:
            self.largest(0)


def lost_touch(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    told = str(error)
    by_network = isinstance(error, RuntimeError) and (
        "gloo/" in told or "NCCL" in told or "onnection" in told
    )
    return by_network or isinstance(error, dist.DistError)


def is_one_of_several() -> bool:
    """Whether ``torchrun``, or skoots itself, has started this process with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_rank() -> int:
    """Number of this process among those that were started on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_one_of_several() else 0


def was_restarted() -> bool:
    """Whether the launcher has started this process anew after one died."""
    return is_one_of_several() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """This process among those that were started with it; alone if none was.

    Args:
        device: that it trains on; CUDA exchanges gradients with NCCL, anything else with Gloo.

    Raises:
        ConfigError: two processes have one GPU.
    """
    if not is_one_of_several():
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store, rank, world = next(dist.rendezvous("env://"))
    # After a restart the store may still hold the addresses of those that died.
    round_of = dist.PrefixStore(f"skoots-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=round_of, rank=rank, world_size=world, timeout=PATIENCE)
    try:
        host = dist.new_group(backend="gloo", timeout=HOST_PATIENCE)
        processes = Processes(rank, world, local_rank(), host)
        _check_devices(processes, device)
        yield processes
    finally:
        dist.destroy_process_group()


def leave(status: int) -> NoReturn:
    """End a process that was one of several, without taking its interpreter down.

    A thread of Gloo lets go of the tensors of the last exchange some moments after it. If it has to wait for
    the interpreter while that shuts down, Python before 3.14 ends the thread, and with it, in the middle of
    C++, the process: ``terminate called without an active exception``, after all was trained and saved
    (pytorch/pytorch issue 190489).

    Args:
        status: of the process.
    """
    atexit._run_exitfuncs()
    settle()
    os._exit(status)


def _check_devices(processes: Processes, device: torch.device) -> None:
    if device.type != "cuda":
        return
    places = processes.gather((socket.gethostname(), torch.cuda.current_device()))
    if len(set(places)) < len(places):
        host, number = next(place for place in places if places.count(place) > 1)
        problem = f"give GPU {number} of {host} to two processes"
        remedy = "Start as many processes as there are GPUs, and leave out device: cuda:N"
        raise ConfigError([Fault("runner.gpus", problem, remedy)])


class Network:
    """How the runner calls the model: as it is, or compiled, or as one of several processes.

    A head whose ``start_epoch`` has not come gets no gradient; torch must know so when it exchanges them.

    Args:
        model: on its device.
        processes: those that train together.
        compiled: makes of a module its compiled form.
        sharded: whether each process has a part of the weights alone, see ``sharding.py``.
    """

    def __init__(
        self,
        model: SegmentationModel,
        processes: Processes | None = None,
        compiled: Callable[[nn.Module], nn.Module] = lambda module: module,
        sharded: bool = False,
    ) -> None:
        self.model, self.processes, self.compiled = model, processes or Processes(), compiled
        self.sharded = sharded
        self._trainable = {name for name, p in model.named_parameters() if p.requires_grad}
        self._waiting: frozenset[str] | None = None
        self.module: nn.Module = compiled(model) if self.processes.world == 1 or sharded else model

    def begin_epoch(self, epoch: int) -> None:
        """Say which epoch comes; 0 is the warm-up, in which every head counts."""
        if self.processes.world == 1:
            return
        waiting = frozenset(name for name, head in self.model.named_heads() if 0 < epoch < head.start_epoch)
        if waiting == self._waiting:
            return
        self._waiting = waiting
        for name, parameter in self.model.named_parameters():
            head = name.split(".")[1] if name.startswith("heads.") else ""
            parameter.requires_grad_(name in self._trainable and head not in waiting)
        if self.sharded:
            return
        if len(waiting) == len(self.model.heads):
            self.module = self.model  # nothing learns yet
            return
        device = next(self.model.parameters()).device
        # The weights of 1 x 1 x 1 convolutions lie in memory in two ways that are the same.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self.module = self.compiled(
            DistributedDataParallel(
                self.model,
                device_ids=[device.index] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
            )
        )

    def without_exchange(self) -> AbstractContextManager[Any]:
        """For all but the last of the batches that make one update: gradients stay on their process, where
        there is room for them."""
        bare = getattr(self.module, "_orig_mod", self.module)
        return bare.no_sync() if isinstance(bare, DistributedDataParallel) else nullcontext()

    def share_buffers(self, model: nn.Module) -> None:
        """Statistics of batch norms as the first process has them."""
        if self.processes.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def __call__(self, images: Tensor) -> Any:
        return self.module(images)


def with_sync_batchnorm(model: SegmentationModel, device: torch.device) -> SegmentationModel:
    """The model with batch norms whose statistics are those of all processes.

    Raises:
        ConfigError: not on CUDA; torch has them for GPUs only.
    """
    if device.type != "cuda":
        problem = f"needs CUDA, and this training is on {device.type}"
        remedy = "Take backbone.norm: layer, which does not depend on the batch"
        raise ConfigError([Fault("runner.sync_batchnorm", problem, remedy)])
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
