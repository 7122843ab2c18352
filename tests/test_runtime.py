"""Device, seed, threads."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from skoots import runtime
from skoots.errors import SkootsError
from skoots.runtime import (
    CUDNN_TRIALS,
    choose_device,
    cpu_count,
    free_memory,
    seed_everything,
    without_trials,
)


def test_auto_prefers_an_accelerator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "fpga"])
def test_unknown_devices_are_named(name):
    with pytest.raises(
        SkootsError, match=rf"device: '{name}' is no device .* say auto, cpu, cuda, cuda:1 or mps\."
    ):
        choose_device(name)


def test_absent_devices_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(SkootsError, match="'cuda:1' is not on this machine, which has 1 CUDA device"):
        choose_device("cuda:1")
    with pytest.raises(SkootsError, match="'mps' is not on this machine; say auto or cpu"):
        choose_device("mps")


def test_cudnn_tries_few_algorithms_and_none_where_shapes_differ():
    cudnn = torch.backends.cudnn
    before, states = (cudnn.benchmark, cudnn.benchmark_limit), (random.getstate(), torch.get_rng_state())
    try:
        for benchmark in (True, False):
            seed_everything(0, cudnn_benchmark=benchmark)
            assert (cudnn.benchmark, cudnn.benchmark_limit) == (benchmark, CUDNN_TRIALS)
            with pytest.raises(ZeroDivisionError), without_trials():
                assert not cudnn.benchmark
                raise ZeroDivisionError
            assert cudnn.benchmark == benchmark
        assert 0 < CUDNN_TRIALS < 10  # 0 would try all, and 10 is what torch tries
    finally:
        cudnn.benchmark, cudnn.benchmark_limit = before
        random.setstate(states[0])
        torch.set_rng_state(states[1])


def test_seeds_repeat():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_everything(2**40 + 7)
    first = draw()
    seed_everything(2**40 + 7)
    assert draw() == first
    seed_everything(8)
    assert all(a != b for a, b in zip(draw(), first))
    random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])


def test_cpu_count_is_of_this_process(monkeypatch):
    assert cpu_count() >= 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_count() == 1


def test_free_memory_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3_000, 9_000))
    assert free_memory(torch.device("cuda:1")) == 3_000
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 8_000)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 1_000)
    assert free_memory(torch.device("mps")) == 7_000


def test_main_memory_is_bounded_by_the_container(monkeypatch, tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 50 kB\n")
    places = {"/proc/meminfo": meminfo, "/sys/fs/cgroup": tmp_path}
    monkeypatch.setattr(runtime, "Path", lambda place: places[place])
    assert free_memory(torch.device("cpu")) == 50 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("7000\n")
    assert free_memory(torch.device("cpu")) == 50 * 1024
    (tmp_path / "memory.max").write_text("10000\n")
    assert free_memory(torch.device("cpu")) == 3000
    meminfo.unlink(), (tmp_path / "memory.max").unlink()
    assert free_memory(torch.device("cpu")) is None
