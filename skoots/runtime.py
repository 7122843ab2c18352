"""Device, threads, seed and cache: asked once, at the start of a run."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from skoots.errors import SkootsError

CHOICE = "say auto, cpu, cuda, cuda:1 or mps"
CUDNN_TRIALS = 4
"""Algorithms that cuDNN tries for each convolution of a new shape, in the order of its heuristics, which name
the likely best first. With torch's default of ten, a minute passed before the first step of a network for
large 3D crops in float32."""


def choose_device(name: str | None = None) -> torch.device:
    """The device to compute on.

    Args:
        name: ``auto`` or None (CUDA if there is one, else Apple's MPS, else the CPU), or a torch device name.

    Raises:
        SkootsError: the device is not on this machine or not known to torch.
    """
    if name in (None, "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SkootsError(f"device: {name!r} is no device that torch knows; {CHOICE}.") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise SkootsError(f"device: {name!r} is no device that skoots computes on; {CHOICE}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SkootsError(
            f"device: {name!r} is not on this machine, which has {torch.cuda.device_count()} CUDA devices."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SkootsError("device: 'mps' is not on this machine; say auto or cpu.")
    return device


def seed_everything(seed: int, deterministic: bool = False, cudnn_benchmark: bool = True) -> None:
    """Seed the generators of Python, NumPy and torch, and say how torch chooses its algorithms.

    Args:
        seed: of every generator.
        deterministic: whether torch is held to algorithms that give the same bits every time; where it has
            none it warns.
        cudnn_benchmark: whether cuDNN tries out its convolutions, ``CUDNN_TRIALS`` algorithms for each; never
            when ``deterministic``.
    """
    if deterministic:  # cuBLAS reads it when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = cudnn_benchmark and not deterministic
    torch.backends.cudnn.benchmark_limit = CUDNN_TRIALS
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def without_trials() -> Iterator[None]:
    """cuDNN takes what its heuristics name: for windows and tiles of many shapes, each seen a few times."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def cpu_count() -> int:
    """Cores that this process may use; a container's limit is honoured."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free: of a GPU its own, else main memory within a container's limit.

    None where the system does not say.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    known = [*_available(Path("/proc/meminfo")), *_left_in_container(Path("/sys/fs/cgroup"))]
    return min(known, default=None)


def _available(meminfo: Path) -> list[int]:
    if not meminfo.is_file():
        return []
    fields = (line.split() for line in meminfo.read_text().splitlines())
    return [1024 * int(words[1]) for words in fields if words[0] == "MemAvailable:"]


def _left_in_container(group: Path) -> list[int]:
    limit, used = group / "memory.max", group / "memory.current"
    if not (limit.is_file() and used.is_file()) or limit.read_text().strip() == "max":
        return []
    return [max(0, int(limit.read_text()) - int(used.read_text()))]


def user_cache() -> Path:
    """The folder for what can be computed or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skoots"
