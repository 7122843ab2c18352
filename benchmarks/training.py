"""What the parts of a training step cost, beside the plain way to write them.

    python benchmarks/training.py [engine processes convolution vector_loss targets optimizer] [--threads 1]
    [--rounds 15]

All ways of doing one thing run in turns in one process, and the median of each is printed:

- engine: epochs of the network of ``model_configs/unet3d.yaml`` in the runner with all its default observers,
  beside a bare loop over the same tensors;
- processes: the same training in two processes of one thread, beside one process of two, in turns, each
  started by ``skoots train``;
- convolution: one small crop, as a process has it that trains with another on a batch of two;
- vector_loss: the vector head's target and loss, forward and backward, on a crop of 20 x 300 x 300 voxels,
  beside the literal form: a mesh of coordinates, the distance on each axis, sums of true positives, false
  positives and false negatives;
- targets: the targets of the three heads on that crop;
- optimizer: an update by AdamW of the network of ``model_configs/unet3d.yaml``, with each of torch's loops
  over its parameters.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from skoots.api.build import DataFacts, build_model, with_scale
from skoots.api.prepare import prepare
from skoots.api.runner import build_loggers, build_runner
from skoots.api.start import Start
from skoots.config import load_config
from skoots.data.augment import Window
from skoots.data.labelled_volume import make_sample
from skoots.models.conv3d import Conv3d
from skoots.models.criteria.tversky import Tversky
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.samples import Batch
from skoots.skeletons import baked_embed_to_prob, skeletonize, vector_to_embedding
from skoots.synthetic import make_volume
from skoots.training.optimizers import build_optimizer

CONFIG = Path(__file__).parents[1] / "model_configs" / "unet3d.yaml"
ALPHA, BETA, EPS = 0.25, 0.75, 1e-8  # of the vector head's Tversky


def engine(asked: argparse.Namespace) -> None:
    """What the runner costs over a loop in which nothing is watched, saved or counted."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(load_config(CONFIG, ["data.validation=[]", "runner.key_metric=test.loss"]))
        bare = copy.deepcopy(prepared.model).train()
        optimizer = build_optimizer(prepared.config.runner.optimizer, bare)
        runner = build_runner(
            prepared, Start(Path(folder)), build_loggers(prepared.config, Path(folder)), False
        )
        batches = list(runner.loader)
        sampler = SimpleNamespace(set_epoch=lambda epoch, done=0: None, length=runner.loader.sampler.length)
        runner.loader = _Same(batches, sampler, runner.loader.batch_size)  # type: ignore[assignment]
        runner.epochs = 10**9
        for observer in runner.observers:
            observer.fit_start(runner)

        def forward_and_backward() -> None:
            for batch in batches:
                loss, _ = bare.loss(bare(batch.images), bare.targets(batch), batch, 1)
                optimizer.zero_grad()
                loss.backward()

        def bare_loop() -> None:
            for batch in batches:
                loss, _ = bare.loss(bare(batch.images), bare.targets(batch), batch, 1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        forms = {
            "forward and backward alone": forward_and_backward,
            "bare loop": bare_loop,
            "runner": lambda: runner._one_epoch(runner.epoch + 1),
        }
        names, rounds = list(forms), []
        for number in range(asked.rounds + 1):
            seconds = {}
            for name in names[number % 3 :] + names[: number % 3]:
                began = time.perf_counter()
                forms[name]()
                seconds[name] = time.perf_counter() - began
            rounds.append(seconds)
        runner.snapshots.close()
        for observer in runner.observers:
            observer.fit_end(runner)
    rounds = rounds[1:]
    samples = sum(len(batch.origins) for batch in batches)
    print(f"\nengine: epochs of {len(batches)} steps, {samples} crops of {list(batches[0].labels.shape[1:])}")
    for name in names:
        median = statistics.median(seconds[name] for seconds in rounds)
        print(f"  {name:28} {1000 * median / len(batches):8.1f} ms a step {samples / median:7.2f} samples/s")
    over = statistics.median(s["runner"] / s["bare loop"] for s in rounds)
    outside = statistics.median(1 - s["forward and backward alone"] / s["runner"] for s in rounds)
    print(f"  the runner over the bare loop: {100 * (over - 1):+.1f} %")
    print(f"  share of the runner's step outside forward and backward: {100 * outside:.1f} %")


@dataclass
class _Same:
    """The same batches in every epoch, without the time that loading takes."""

    batches: list[Batch]
    sampler: SimpleNamespace
    batch_size: int | None

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


CLOCK = """
import time
from skoots.loggers.base import LOGGERS, Logger

@LOGGERS.register
class Clock(Logger):
    def __init__(self, file):
        self.file = file

    def scalars(self, values, epoch):
        with open(self.file, "a") as stream:
            print(time.monotonic(), file=stream)
"""


def processes(asked: argparse.Namespace) -> None:
    """Throughput of two processes with one thread beside one process with two."""
    epochs = max(3, asked.rounds // 3)
    ratios: list[float] = []
    print(f"\nprocesses: {epochs} epochs in turns, samples/s of the epochs after the first")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "clock.py").write_text(CLOCK)
        for turn in range(3):
            speeds = {count: _speed(Path(folder), count, turn, epochs) for count in (1, 2)}
            ratios.append(speeds[2] / speeds[1])
            print(f"  one process {speeds[1]:7.2f}   two processes {speeds[2]:7.2f}   ratio {ratios[-1]:.2f}")
    print(f"  two processes reach {statistics.median(ratios):.2f} of one")


def _speed(folder: Path, count: int, turn: int, epochs: int) -> float:
    clock = folder / f"clock-{count}-{turn}"
    words = [
        "train",
        str(CONFIG),
        "--quiet",
        "--runs",
        str(folder / "runs"),
        "--plugin",
        str(folder / "clock.py"),
    ]
    words += [
        f"runner.processes={count}",
        f"train_settings.epochs={epochs}",
        "data.validation=[]",
        "data.test=[]",
    ]
    words += [
        "runner.key_metric=test.loss",
        f"logger=[{{type: Clock, file: {clock}}}]",
        "runner.scheduler=null",
    ]
    subprocess.run([sys.executable, "-m", "skoots", *words], check=True, capture_output=True)
    times = [float(line) for line in clock.read_text().split()]
    source = load_config(CONFIG).data.train[0]
    samples = source["volumes"] * source["samples_per_volume"]
    return samples / statistics.median(later - earlier for earlier, later in itertools.pairwise(times))


def convolution(asked: argparse.Namespace) -> None:
    """A convolution of one small crop, forward and backward, as torch computes it and as skoots does."""
    print("convolution, forward and backward, 3 x 3 x 3, one crop")
    for channels, shape in ((12, (24, 64, 64)), (24, (12, 32, 32)), (48, (6, 16, 16))):
        ours = Conv3d(channels, channels, (3, 3, 3), padding=(1, 1, 1))
        torchs = torch.nn.Conv3d(channels, channels, (3, 3, 3), padding=(1, 1, 1))
        crop = torch.randn(1, channels, *shape, requires_grad=True)
        forms = {
            "torch": lambda conv=torchs, crop=crop: conv(crop).sum().backward(),
            "skoots": lambda conv=ours, crop=crop: conv(crop).sum().backward(),
        }
        print(f"  {channels} channels, {' x '.join(map(str, shape))} voxels")
        for name, seconds, times in _table(forms, asked.rounds):  # type: ignore[arg-type]
            print(f"    {name:<32} {1000 * seconds:7.1f} ms  {times:4.1f} x")


def vector_loss(asked: argparse.Namespace) -> None:
    """The vector head's loss, forward and backward, in four forms that agree."""
    batch = _batch(asked.shape)
    dims = len(asked.shape)
    head = VectorHead(1, dims, scale=8.0, sigma=4.0)
    sigma, tversky = head.sigma(1), Tversky(ALPHA, BETA, EPS)
    vector = (torch.rand_like(batch.offset) * 2 - 1).requires_grad_()
    baked = batch.offset + vector_to_embedding((0.0,) * dims, torch.zeros_like(batch.offset))
    counts = batch.valid.unsqueeze(1)

    def literal() -> Tensor:
        target = (batch.labels > 0).unsqueeze(1).float()
        axes = [torch.arange(n, dtype=torch.float32) for n in asked.shape]
        mesh = torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0)
        embedding = mesh + head.scale.view(1, -1, *(1,) * dims) * vector
        distances = [(embedding[:, d] - baked[:, d]) ** 2 / (2 * sigma[d] ** 2) for d in range(dims)]
        probability = torch.exp(-torch.stack(distances, 1).sum(1, keepdim=True)) * target
        hit = (probability * target * counts).sum()
        false_positive = (probability * (1 - target) * counts).sum()
        false_negative = ((1 - probability) * target * counts).sum()
        return 1 - (hit + EPS) / (hit + ALPHA * false_positive + BETA * false_negative + EPS)

    def published() -> Tensor:
        target = batch.foreground
        embedding = vector_to_embedding(head.scale, vector)
        return tversky(baked_embed_to_prob(embedding, baked, sigma) * target, target, counts)

    def from_offset() -> Tensor:
        target, unit = batch.foreground, torch.tensor(sigma).view(1, -1, *(1,) * dims)
        miss = (head.scale.view(1, -1, *(1,) * dims) * vector - batch.offset) / unit
        probability = torch.exp(-(miss**2).sum(1, keepdim=True) / 2) * target
        return tversky(probability, target, counts)

    def of_head() -> Tensor:
        return head.loss({"vector": vector}, head.targets(batch), batch, epoch=1)

    forms = {
        "the literal form": literal,
        "the published helpers and Tversky": published,
        "from the offset, by autograd": from_offset,
        "the vector head": of_head,
    }
    values = [form().item() for form in forms.values()]
    if max(values) - min(values) > 1e-4:
        raise SystemExit(f"the forms disagree: {values}")

    def step(form: Callable[[], Tensor]) -> Callable[[], None]:
        def forward_and_backward() -> None:
            vector.grad = None
            form().backward()

        return forward_and_backward

    print(f"vector loss, forward and backward, {' x '.join(map(str, asked.shape))} voxels")
    kept = {name: _kept(form, (vector, batch.offset, baked)) for name, form in forms.items()}
    for name, seconds, times in _table({name: step(form) for name, form in forms.items()}, asked.rounds):
        memory = f"{kept[name] / 2**20:4.0f} MiB kept for backward"
        print(f"  {name:<34} {1000 * seconds:7.1f} ms  {times:4.1f} x  {memory}")


def targets(asked: argparse.Namespace) -> None:
    """What the heads' target generators take."""
    batch, dims = _batch(asked.shape), len(asked.shape)
    heads = {
        "vector": VectorHead(1, dims, scale=8.0),
        "semantic": SemanticHead(1, dims),
        "skeleton": SkeletonHead(1, dims),
    }
    print(f"targets, {' x '.join(map(str, asked.shape))} voxels")
    makers = {name: lambda head=head: head.targets(batch) for name, head in heads.items()}  # type: ignore[misc]
    for name, seconds, _ in _table(makers, asked.rounds):
        print(f"  {name:<34} {1000 * seconds:7.1f} ms")


def optimizer(asked: argparse.Namespace) -> None:
    """An update by AdamW with each of torch's loops over parameters."""
    loops = {
        "one parameter at a time": {"foreach": False},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
    }
    config = with_scale(load_config(CONFIG), (8.0,) * 3)
    steps, tensors, numbers = {}, 0, 0
    for name, loop in loops.items():
        parameters = list(build_model(config, DataFacts(1, 3, (1.0,) * 3)).parameters())
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        tensors, numbers = len(parameters), sum(parameter.numel() for parameter in parameters)
        steps[name] = torch.optim.AdamW(parameters, lr=1e-3, **loop).step
    print(f"an update by AdamW of {tensors} tensors with {numbers} parameters ({CONFIG.name})")
    for name, seconds, times in _table(steps, 10 * asked.rounds):
        print(f"  {name:<34} {1000 * seconds:7.2f} ms  {times:4.1f} x")


def _table(forms: dict[str, Callable[[], object]], rounds: int) -> list[tuple[str, float, float]]:
    """Name, median seconds, and how many times faster than the first; all run in turns, the first two rounds
    do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds + 2):
        for name, form in forms.items():
            began = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(taken[2:]) for name, taken in seconds.items()}
    first = next(iter(medians.values()))
    return [(name, median, first / median) for name, median in medians.items()]


def _kept(form: Callable[[], Tensor], inputs: tuple[Tensor, ...]) -> int:
    """Bytes of the tensors, inputs aside, that the forward pass keeps for the backward pass."""
    known = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = form()
    del loss
    return sum(size for pointer, size in storages.items() if pointer not in known)


def _batch(shape: list[int]) -> Batch:
    """A batch of one synthetic volume."""
    voxel_size = (1.0,) * len(shape)
    image, labels = make_volume(tuple(shape), 0)
    skeletons = skeletonize(labels, voxel_size)
    window = Window(image[None], labels, np.ones(labels.shape, bool), skeletons, voxel_size)
    return Batch.collate([make_sample(window)])


FIGURES = {
    figure.__name__: figure for figure in (engine, processes, convolution, vector_loss, targets, optimizer)
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the parts of a training step cost.")
    known = ", ".join(FIGURES)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {known}; none means all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shape", type=int, nargs="+", default=[20, 300, 300], help="of the crop, in voxels")
    asked = parser.parse_args()
    unknown = set(asked.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {known}")
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, threads {torch.get_num_threads()}")
    for name in asked.figures or FIGURES:
        FIGURES[name](asked)


if __name__ == "__main__":
    main()
