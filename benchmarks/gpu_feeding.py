"""Whether a GPU waits for its data: the shipped 3D configs, each with a network of five million parameters.

    python benchmarks/gpu_feeding.py DATA_FOLDER [--of-each 1] [--configs nuclei.yaml]
    [--augment-on cpu device] [--crop 64 128 128]

DATA_FOLDER holds ``SET/dev/NAME.tif`` with ``NAME.labels.tif``. Each volume is trained on with each config,
in bfloat16 and with ``dataloader_workers: auto``. One row of a Markdown table says

- where crops and targets are made (``data.augment_on``), and how many workers were chosen;
- crops/s: what the workers give while nothing is trained;
- first: seconds of the first step, in which cuDNN tries out algorithms;
- step: milliseconds of a step on a batch that is there;
- fed: milliseconds of a step on batches as they come;
- waits: the share of the fed step that the GPU waits, (fed - step) / fed. The aim is less than 10 %.

Without a GPU the table has the side of the CPU: what a core prepares, how long the training process takes to
receive a batch from its workers, and how many cores feed a step of ``--step-ms``, of as many crops as
``--batch`` says.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from data import learning_from, real_volumes

from skoots.api.feeding import Feeding, seconds_of_a_crop
from skoots.api.prepare import Prepared, prepare, training_crops
from skoots.api.runner import build_runner
from skoots.api.start import Start
from skoots.config import load_config
from skoots.data.channel import pack
from skoots.data.workers import Workers
from skoots.training.prefetch import on_device

CONFIGS = Path(__file__).parents[1] / "model_configs"
NETWORK = "model.backbone.channels=[32, 64, 128, 256]"  # 5.3 million parameters with isotropic kernels
LENT_CORES = 16  # beside the GPU that is planned for


def on_gpu(prepared: Prepared, steps: int) -> list[str]:
    """What the columns of the docstring say, of one training."""
    with tempfile.TemporaryDirectory() as folder:
        runner = build_runner(prepared, Start(Path(folder)), progress=False)
        loader, device = runner.loader, prepared.device
        runner.model.train()
        with closing(loader):
            loader.sampler.set_epoch(1)
            deque(loader.batches(), 1)  # workers start
            loader.sampler.set_epoch(2)
            began = time.perf_counter()
            last = deque(loader.batches(), 1).pop()
            loading = time.perf_counter() - began
            batch = last.to(device)
            first = _seconds(lambda: runner.learn(batch, 1), device)
            for _ in range(3):
                runner.learn(batch, 1)
            alone = _seconds(lambda: [runner.learn(batch, 1) for _ in range(steps)], device) / steps
            loader.sampler.set_epoch(3)
            coming = on_device(loader.batches(), device)
            runner.learn(next(coming), 1)
            fed = _seconds(lambda: [runner.learn(each, 1) for each in coming], device) / (len(loader) - 1)
        runner.snapshots.close()
    return [
        prepared.config.data.augment_on,
        str(prepared.workers),
        f"{len(loader) * loader.batch_size / loading:.0f}",
        f"{first:.1f} s",
        f"{1000 * alone:.1f} ms",
        f"{1000 * fed:.1f} ms",
        f"{100 * max(0.0, 1 - alone / fed):.1f} %",
    ]


ON_GPU = ["made on", "workers", "crops/s", "first", "step", "fed", "waits"]


@dataclass(frozen=True)
class Same:
    """Makes the same batch of whatever keys."""

    batch: Any

    def __call__(self, keys: Sequence[Any]) -> Any:
        return self.batch


def handed_over(batch: Any, times: int = 20) -> float:
    """Seconds for each of several batches that two workers have ready."""
    workers = Workers(Same(batch), 2)
    with closing(workers):
        deque(workers.batches([[0]] * 4, lambda seconds: None), 1)  # they start
        began = time.perf_counter()
        deque(workers.batches([[0]] * times, lambda seconds: None), 1)
        return (time.perf_counter() - began) / times


def on_cpu(prepared: Prepared, crops: int, batch: int, step_ms: float) -> list[str]:
    """What a core prepares, and how many are needed."""
    dataset, voxels = training_crops(prepared), math.prod(prepared.crop)
    seconds = seconds_of_a_crop(dataset, crops)
    ready = dataset.collate([dataset[1, 0]] * batch)
    size, received = sum(part.nbytes for part in pack(ready)), handed_over(ready)
    return [
        prepared.config.data.augment_on,
        f"{1 / seconds:.1f}",
        f"{1e6 * seconds / voxels:.3f} us",
        f"{size / 2**20:.1f} MiB",
        f"{1000 * received:.1f} ms",
        f"{batch * seconds / (step_ms / 1000):.1f}",
        str(Feeding(seconds, voxels, batch, LENT_CORES).decide()[0]),
    ]


def _on_cpu_titles(batch: int, step_ms: float) -> list[str]:
    return [
        "made on",
        "crops/s of a core",
        "a voxel",
        f"batch of {batch}",
        "received in",
        f"cores for a step of {step_ms:g} ms",
        f"workers that auto takes of {LENT_CORES} cores",
    ]


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Until the device is done."""
    _wait_for(device)
    began = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _trainings(asked: argparse.Namespace, has_gpu: bool) -> Iterator[tuple[list[str], Prepared]]:
    volumes = itertools.groupby(real_volumes(asked.data, 3), key=lambda volume: volume[0])
    chosen = [volume for _, of_set in volumes for volume in itertools.islice(of_set, asked.of_each)]
    for (folder, name), config, made_on in itertools.product(chosen, asked.configs, asked.augment_on):
        crops = asked.batch * (asked.steps + 1) if has_gpu else asked.crops
        settings = [
            *(*learning_from(folder, crops, name), NETWORK, f"data.augment_on={made_on}"),
            *(f"train_settings.batch_size={asked.batch}", "runner.key_metric=test.loss"),
        ]
        if asked.crop:
            settings.append(f"data.crop_size={asked.crop}")
        if has_gpu:
            settings += ["runner.precision=bfloat16", "train_settings.dataloader_pin_memory=true"]
        prepared = prepare(load_config(CONFIGS / config, settings))
        shape = " x ".join(map(str, prepared.crop))
        yield [f"{folder.parent.name}/{name}", config.removesuffix(".yaml"), shape], prepared


def _row(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Whether a GPU waits for its data.")
    parser.add_argument("data", type=Path, help="folder of sets of volumes")
    shipped = sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name != "unet2d.yaml")
    parser.add_argument("--configs", nargs="+", default=shipped, help="of model_configs; all 3D ones")
    parser.add_argument("--crop", nargs=3, type=int, help="z, y, x; that of the config")
    parser.add_argument("--of-each", type=int, help="volumes of each set; all")
    parser.add_argument("--augment-on", nargs="+", default=["cpu"], choices=["cpu", "device"])
    parser.add_argument("--batch", type=int, default=2, help="crops of a step")
    parser.add_argument("--steps", type=int, default=60, help="that are measured on a GPU")
    parser.add_argument("--crops", type=int, default=9, help="that are measured without one")
    parser.add_argument("--step-ms", type=float, default=15, help="the step that cores are counted for")
    asked = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(torch.cuda.get_device_name() if has_gpu else "There is no GPU here: this is the side of the CPU.")
    titles = ON_GPU if has_gpu else _on_cpu_titles(asked.batch, asked.step_ms)
    print()
    _row(["volume", "config", "crop", *titles])
    _row(["---"] * (3 + len(titles)))
    for named, prepared in _trainings(asked, has_gpu):
        figures = (
            on_gpu(prepared, asked.steps)
            if has_gpu
            else on_cpu(prepared, asked.crops, asked.batch, asked.step_ms)
        )
        _row([*named, *figures])


if __name__ == "__main__":
    main()
