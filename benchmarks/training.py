"""What the parts of a training step cost, beside the plain way to write them.

    python benchmarks/training.py [vector_loss targets optimizer] [--threads 1] [--rounds 15]

All ways of doing one thing run in turns in one process, and the median of each is printed:

- vector_loss: the vector head's target and loss, forward and backward, on a crop of 20 x 300 x 300 voxels,
  beside the literal form: a mesh of coordinates, the distance on each axis, sums of true positives, false
  positives and false negatives;
- targets: the targets of the three heads on that crop;
- optimizer: an update by AdamW of the network of ``model_configs/unet3d.yaml``, with each of torch's loops
  over its parameters.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skoots.api.build import DataFacts, build_model, with_scale
from skoots.config import load_config
from skoots.data.augment import Window
from skoots.data.labelled_volume import make_sample
from skoots.models.criteria.tversky import Tversky
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.samples import Batch
from skoots.skeletons import baked_embed_to_prob, skeletonize, vector_to_embedding
from skoots.synthetic import make_volume

CONFIG = Path(__file__).parents[1] / "model_configs" / "unet3d.yaml"
ALPHA, BETA, EPS = 0.25, 0.75, 1e-8  # of the vector head's Tversky


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


FIGURES = {figure.__name__: figure for figure in (vector_loss, targets, optimizer)}


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
