"""What saving a snapshot costs a training: the stall, and its share of the time.

    python benchmarks/snapshots.py [--parameters 10000000] [--saves 20] [--steps 100]

A U-Net of about so many parameters is trained on noise by AdamW, with the snapshots of ``SnapshotManager`` in
a temporary folder below ``--folder``. Taken in one process, interleaved:

- stall: how long training stands still for a save (the state put together, the weights copied, and what is
waited
  for before the next update), beside a save in the foreground;
- share: short blocks of steps with one save in each against blocks without, in turns; the median of what a
save adds,
  at one save in so many steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from skoots.models.backbones.unet import UNet
from skoots.snapshots import SnapshotManager
from skoots.training.random_state import random_state

BLOCK = 4  # steps: a save is written within them


def main() -> None:
    """Measure and print."""
    asked = _arguments()
    model, widths = _model(asked.parameters)
    optimizer = torch.optim.AdamW(model.parameters())
    image = torch.randn(1, 1, *asked.crop)
    size = sum(parameter.numel() for parameter in model.parameters())
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        manager = SnapshotManager(folder, save_epochs=10**9)

        def backward() -> None:
            optimizer.zero_grad(set_to_none=True)
            model(image).square().mean().backward()

        def step() -> None:
            """One step of a training, as the runner makes it."""
            backward()
            manager.wait_for_copy()
            optimizer.step()

        def state() -> dict:
            return {
                "net": model.state_dict(),
                "optimizer_state_dict": optimizer.state_dict(),
                "rng": random_state(),
                "step": 0,
            }

        step()
        manager.reserve(state())
        first, stalls, foreground = _stalls(manager, optimizer, state, backward, step, asked.saves)
        plain, saving = _blocks(manager, state, step, BLOCK, asked.pairs)
        written = (Path(folder) / "snapshot-latest.pt").stat().st_size
    added = statistics.median(b - a for a, b in zip(plain, saving))
    one_step = statistics.median(plain) / BLOCK
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"model: {size / 1e6:.1f} million parameters (U-Net {widths}), snapshot {written / 2**20:.0f} MiB")
    median = _ms(statistics.median(stalls))
    print(f"stall per save: median {median}, largest {_ms(max(stalls))}, the first {_ms(first)}")
    print(f"the same save in the foreground: median {_ms(statistics.median(foreground))}")
    print(f"a save adds, written beside the training: median {_ms(added)}; a step takes {_ms(one_step)}")
    share = 100 * added / (asked.steps * one_step)
    print(f"one save per {asked.steps} steps: {share:+.2f} % of the time of training")


def _stalls(manager, optimizer, state, backward, step, saves):  # type: ignore[no-untyped-def]
    stalls, foreground = [], []
    for epoch in range(1, saves + 2):
        step()
        began = time.perf_counter()
        manager.begin(state(), epoch, within=True)
        stalls.append(time.perf_counter() - began)
        backward()
        began = time.perf_counter()
        manager.wait_for_copy()
        stalls[-1] += time.perf_counter() - began
        optimizer.step()
        _check(manager.settle())
        step()
        began = time.perf_counter()
        manager.save(state(), epoch, within=True)
        foreground.append(time.perf_counter() - began)
    return stalls[0], stalls[1:], foreground


def _blocks(manager, state, step, steps, pairs):  # type: ignore[no-untyped-def]
    """Seconds of short blocks of steps without and with a save, in turns; a block ends when its save is
    written."""
    plain, saving = [], []
    for block in range(2 * pairs):
        saves = block % 2 == 1
        began = time.perf_counter()
        for i in range(steps):
            step()
            if saves and i == 0:
                manager.begin(state(), block, within=True)
        if saves:
            _check(manager.settle())
        (saving if saves else plain).append(time.perf_counter() - began)
    return plain, saving


def _check(saved) -> None:  # type: ignore[no-untyped-def]
    if saved.error is not None:
        raise saved.error


def _model(parameters: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A 3D U-Net of three levels, as wide as brings it near the number."""
    models = [(UNet(1, 3, (w, 2 * w, 4 * w)), (w, 2 * w, 4 * w)) for w in range(4, 128, 4)]
    return min(models, key=lambda pair: abs(sum(p.numel() for p in pair[0].parameters()) - parameters))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What saving costs a training.")
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--crop", type=int, nargs=3, default=[16, 32, 32])
    parser.add_argument("--saves", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the snapshots go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
