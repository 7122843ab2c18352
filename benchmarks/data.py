"""What the data pipeline costs, beside the algorithms that first come to mind.

    python benchmarks/data.py [skeletons targets masks sample waiting] [--rounds 5]
    python benchmarks/data.py real --data DATA_FOLDER

The ways of doing one thing run in turns in one process, and the median of each is printed with its ratio to
the first. The naive ways are written here, plainly: they look at the whole volume, or the whole crop, once
for every object, and resample once for every augmentation.

- skeletons: of a small (64 x 256 x 256, 90 objects) and a large volume (128 x 512 x 512, 400 objects), by one
  thread and by two. Of the large volume the naive ways trace some objects only, and their time is scaled;
- targets: the nearest own skeleton point of every voxel of a crop, and the naive averaging of that field;
- masks: the skeleton mask of a crop, as a training step makes it, beside a ball drawn around every point;
- sample: a crop with every augmentation of the original preset and its targets, and the memory it takes;
- waiting: the share of the time that training with ``model_configs/unet3d.yaml`` waits for its batches;
- real: of each folder of real volumes (``SET/dev/NAME.tif`` with ``NAME.labels.tif``), microseconds a voxel
  of the targets of a crop, and of the whole sample with the default and the original augmentations.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.morphology import skeletonize as thin

from skoots.api.build import build_augmentations
from skoots.api.prepare import prepare, training_crops
from skoots.api.runner import build_runner
from skoots.api.start import Start
from skoots.config import load_config
from skoots.data.dataset import CropDataset
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.normalize import measure_intensity
from skoots.skeletons import Skeletons, nearest_offsets, skeleton_mask, skeletonize
from skoots.synthetic import make_volume
from skoots.training.step import TrainingStep
from skoots.volumes import open_volume
from skoots.volumes.array import ArrayVolume

CONFIG = Path(__file__).parents[1] / "model_configs" / "unet3d.yaml"
SMALL, LARGE, CROP = (64, 256, 256), (128, 512, 512), (20, 300, 300)
ISOTROPIC = (1.0, 1.0, 1.0)
RADIUS = 3  # of the skeleton mask, voxels

Points = dict[int, np.ndarray]


# Figures -------------------------------------------------------------------------------------------------


def skeletons(asked: argparse.Namespace) -> None:
    """Ground-truth skeletons of whole volumes."""
    _skeletons_of(SMALL, 90, 90, asked.rounds)
    _skeletons_of(LARGE, 400, asked.objects, asked.rounds)


def _skeletons_of(shape: tuple[int, ...], count: int, part: int, rounds: int) -> None:
    _, labels = _volume(shape, count)
    ids = np.unique(labels)[1:]
    some = np.random.default_rng(0).permutation(ids)[:part]
    few = some[: max(1, len(some) // 8)]  # to thin a whole volume takes seconds for each object
    ways = {
        "naive: masks of the whole volume, thinned in their boxes": lambda: naive_skeletons(labels, some),
        "naive: masks of the whole volume, thinned as they are": lambda: naive_skeletons(labels, few, False),
        "skeletonize, 1 thread": lambda: skeletonize(labels),
        "skeletonize, 2 threads": lambda: skeletonize(labels, threads=2),
    }
    skeletonize(labels[:8, :32, :32])  # compiles
    print(f"skeletons of {_times(shape)} voxels, {len(ids)} objects;", end=" ")
    print(f"naive of {len(some)} and {len(few)} of them, scaled")
    _print(ways, rounds, [len(some) / len(ids), len(few) / len(ids), 1.0, 1.0])
    found, plain = skeletonize(labels).as_dict(), naive_skeletons(labels, few)
    same = [len(set(map(tuple, found[k])) & set(map(tuple, plain[k]))) / len(plain[k]) for k in plain]
    print(f"  of the naive points ours has {100 * float(np.mean(same)):.1f} %")


def targets(asked: argparse.Namespace) -> None:
    """Nearest own skeleton points in a crop."""
    labels, traced = _crop()
    points = traced.as_dict()
    field = naive_nearest(labels, points)
    distances = [np.linalg.norm(f, axis=0) for f in (field, nearest_offsets(labels, traced))]
    if not np.allclose(*distances, atol=1e-4):
        raise SystemExit("the nearest points disagree")
    print(f"targets of a crop of {_times(labels.shape)} voxels, {_present(labels)} objects, 1 thread")
    ways = {
        "naive: nearest points and averaging": lambda: naive_average(naive_nearest(labels, points), labels),
        "naive: nearest points": lambda: naive_nearest(labels, points),
        "naive: averaging": lambda: naive_average(field, labels),
        "nearest_offsets": lambda: nearest_offsets(labels, traced),
    }
    _print(ways, asked.rounds)


def masks(asked: argparse.Namespace) -> None:
    """Skeleton masks of a crop; ours also keeps to its object, and off other objects' masks."""
    labels, traced = _crop()
    points = traced.as_dict()
    radius = np.zeros(labels.max() + 1, np.float32)
    radius[traced.ids[traced.ids < len(radius)]] = traced.inscribed[traced.ids < len(radius)]
    arrays = (labels.astype(np.int64), nearest_offsets(labels, traced), radius[labels])
    tensors = [torch.from_numpy(array)[None] for array in arrays]
    print(f"skeleton masks of a crop of {_times(labels.shape)} voxels, {_present(labels)} objects, 1 thread")
    ways = {
        "naive: a ball around every point": lambda: naive_mask(labels.shape, points),
        f"skeleton_mask, radius {RADIUS}": lambda: skeleton_mask(*tensors, ISOTROPIC, RADIUS),
        "skeleton_mask, radius auto": lambda: skeleton_mask(*tensors, ISOTROPIC),
    }
    _print(ways, asked.rounds)


def sample(asked: argparse.Namespace) -> None:
    """A whole augmented sample, everything on."""
    volume, dataset, names = _dataset()
    # As far as a turn by 45 degrees and the smallest scale reach, else corners would be empty.
    plane = math.ceil(max(CROP) * math.sqrt(2) / 0.85)
    start = [(n - c) // 2 for n, c in zip(LARGE, (CROP[0], plane, plane))]
    box = tuple(slice(s, s + c) for s, c in zip(start, (CROP[0], plane, plane)))
    points = {k: p - start for k, p in volume.skeletons.as_dict().items()}
    image, labels = (array[box] for array in _volume(LARGE, 400))
    dataset[1, 0]  # compiles
    drawn = iter(range(1, 10**9))
    print(f"an augmented sample of {_times(CROP)} voxels, 1 thread; ours: {', '.join(names)}")
    ways = {
        "naive: one pass after the other": lambda: naive_sample(image, labels, points, next(drawn)),
        "CropDataset": lambda: dataset[1, next(drawn) % len(dataset)],
    }
    _print(ways, asked.rounds)
    for name, way in ways.items():
        print(f"  {name:<58} {_extra_memory(way) / 2**20:8.0f} MiB besides the volume")


def waiting(asked: argparse.Namespace) -> None:
    """How long a training step waits for ``next(loader)``."""
    torch.set_num_threads(asked.threads)
    print(f"waiting for data, {CONFIG.name}, threads that compute: {torch.get_num_threads()}")
    for workers in asked.workers:
        config = load_config(CONFIG, [f"train_settings.dataloader_workers={workers}", "device=cpu"])
        with tempfile.TemporaryDirectory() as folder:
            runner = build_runner(prepare(config), Start(Path(folder)), progress=False)
            step = TrainingStep(runner.model.train(), runner.optimizer)
            # Workers start, and loops are compiled, in the first epoch.
            epochs = [_epoch(runner.loader, step, epoch) for epoch in range(1, 2 + asked.epochs)][1:]
            del runner
        shares = [waited / (waited + worked) for waited, worked, _ in epochs]
        waited, worked, steps = (sum(epoch[i] for epoch in epochs) for i in range(3))
        print(
            f"  {workers} workers: waits {100 * statistics.median(shares):5.2f} % of the time of an epoch, "
            f"{1000 * waited / steps:.1f} ms of {1000 * (waited + worked) / steps:.0f} ms a step",
            flush=True,
        )
    torch.set_num_threads(1)


def real(asked: argparse.Namespace) -> None:
    """What crops of real volumes cost, by set and by size of the crop."""
    if asked.data is None:
        print("real: needs --data DATA_FOLDER")
        return
    print("real volumes, microseconds of one core a voxel: targets; sample with augment: default, original")
    for folder in sorted(asked.data.glob("*/dev")):
        for edge in (48, 96, 128):
            _real(folder, edge)


def real_volumes(data: Path, dims: int) -> Iterator[tuple[Path, str]]:
    """Folder and name of each labelled volume of so many dimensions, ``SET/dev/NAME.labels.tif``."""
    for path in sorted(data.glob("*/dev/*.labels.tif")):
        if open_volume(path).spatial_dims == dims:
            yield path.parent, path.name.removesuffix(".labels.tif")


def learning_from(folder: Path, crops: int, name: str | None = None) -> list[str]:
    """Overrides of a config that is to learn from a folder, or from one volume in it, alone."""
    names = "" if name is None else f", names: ['{name}']"
    train = f"data.train=[{{path: '{folder}', samples_per_volume: {crops}{names}}}]"
    return [train, "data.validation=[]", "data.test=[]"]


def _real(folder: Path, edge: int, crops: int = 12) -> None:
    """One line: medians over crops of a set."""
    labels = open_volume(sorted(folder.glob("*.labels.tif"))[0])
    crop = [min(edge if labels.spatial_dims == 3 else 4 * edge, n) for n in labels.shape]
    datasets = {}
    for preset in ("default", "original"):
        config = load_config(
            CONFIG.with_name(f"unet{labels.spatial_dims}d.yaml"),
            [*learning_from(folder, crops), "device=cpu", f"data.crop_size={crop}", f"data.augment={preset}"],
        )
        datasets[preset] = training_crops(prepare(config))
    plain, rng = datasets["default"], np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in ("targets", *datasets)}
    for index in range(-1, min(crops, len(plain))):  # the first compiles, and does not count
        volume, box = plain.volumes[0], plain.draw(0, rng)
        window = volume.window(box)
        began = time.process_time()
        nearest_offsets(window.labels, window.skeletons, window.voxel_size)
        seconds["targets"].append(time.process_time() - began)
        for name, dataset in datasets.items():
            began = time.process_time()
            dataset[1, max(index, 0)]
            seconds[name].append(time.process_time() - began)
    medians = {name: 1e6 * statistics.median(taken[1:]) / math.prod(crop) for name, taken in seconds.items()}
    print(f"  {folder.parent.name:<22} {_times(tuple(crop)):<15}", end="")
    print("  ".join(f"{value:7.3f}" for value in medians.values()), flush=True)


def _epoch(loader, step: TrainingStep, epoch: int) -> tuple[float, float, int]:  # type: ignore[no-untyped-def]
    """Seconds of waiting and of work, and steps, of one epoch."""
    loader.sampler.set_epoch(epoch)
    waited = worked = 0.0
    steps = 0
    began = time.perf_counter()
    batches = iter(loader)
    while (batch := next(batches, None)) is not None:
        there = time.perf_counter()
        step(batch, epoch)
        done = time.perf_counter()
        waited, worked, steps, began = waited + there - began, worked + done - there, steps + 1, done
    return waited, worked, steps


# The naive algorithms ------------------------------------------------------------------------------------


def naive_skeletons(labels: np.ndarray, ids: np.ndarray, boxed: bool = True) -> Points:
    """For every object a mask of the whole volume, thinned; its mean where nothing is left."""
    found = {}
    for object_id in ids:
        mask = labels == object_id
        voxels = np.argwhere(mask)
        start = voxels.min(0) if boxed else np.zeros(labels.ndim, int)
        if boxed:
            mask = mask[tuple(slice(a, b) for a, b in zip(start, voxels.max(0) + 1))]
        points = np.argwhere(thin(mask, method="lee")) + start
        found[int(object_id)] = points if len(points) else voxels.mean(0).round()[None]
    return found


def naive_nearest(labels: np.ndarray, points: Points) -> np.ndarray:
    """For every object of the crop a look at the whole crop, and all distances, voxels to points."""
    offset = np.zeros((labels.ndim, *labels.shape), np.float32)
    for object_id in np.unique(labels):
        if object_id == 0 or object_id not in points:
            continue
        mask = labels == object_id
        voxels = np.argwhere(mask)
        nearest = cdist(voxels, points[object_id]).argmin(1)
        offset[:, mask] = (points[object_id][nearest] - voxels).T
    return offset


def naive_average(offset: np.ndarray, labels: np.ndarray, reach: int = 1) -> np.ndarray:
    """The place that a voxel leads to, as the mean over the objects' voxels in the cube around it."""
    baked = (offset + np.indices(labels.shape, np.float32)) * (labels > 0)
    edge = 2 * reach + 1
    around = [(0, 0), *[(reach, reach)] * labels.ndim]
    axes = tuple(range(1, labels.ndim + 1))
    cubes = np.lib.stride_tricks.sliding_window_view(np.pad(baked, around), (edge,) * labels.ndim, axes)
    inside = np.lib.stride_tricks.sliding_window_view(np.pad(labels > 0, reach), (edge,) * labels.ndim)
    window = tuple(range(-labels.ndim, 0))
    return cubes.sum(window) / np.maximum(inside.sum(window), 1) * (labels > 0)


def naive_mask(shape: tuple[int, ...], points: Points) -> np.ndarray:
    """A ball drawn around every point."""
    mask = np.zeros(shape, bool)
    steps = np.indices((2 * RADIUS + 1,) * len(shape)) - RADIUS
    ball = (steps**2).sum(0) <= RADIUS**2
    for of_object in points.values():
        for point in of_object.astype(int):
            low, high = np.maximum(point - RADIUS, 0), np.minimum(point + RADIUS + 1, shape)
            if (low >= high).any():
                continue
            part = ball[tuple(slice(a, b) for a, b in zip(low - point + RADIUS, high - point + RADIUS))]
            mask[tuple(slice(a, b) for a, b in zip(low, high))] |= part
    return mask


def naive_sample(image: np.ndarray, labels: np.ndarray, points: Points, seed: int) -> tuple[np.ndarray, ...]:
    """Flip, turn, bend, change grey values: each a pass of its own; then targets object by object."""
    rng = np.random.default_rng(seed)
    shape = np.array(labels.shape)
    for axis in range(labels.ndim):
        if rng.random() < 0.5:
            image, labels = np.flip(image, axis), np.flip(labels, axis)
            points = {
                k: np.where(np.arange(len(shape)) == axis, shape[axis] - 1 - p, p) for k, p in points.items()
            }
    angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.85, 1.1)
    turn = np.eye(labels.ndim)
    turn[-2:, -2:] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    centre = (shape - 1) / 2
    grid = np.indices(labels.shape, float).reshape(labels.ndim, -1)
    where = turn @ (grid - centre[:, None]) + centre[:, None]
    image, labels = _looked_up(image, where, 1), _looked_up(labels, where, 0)
    points = {k: (p - centre) @ np.linalg.inv(turn).T + centre for k, p in points.items()}
    reach = np.array(CROP) / 2 * [0.01, 0.05, 0.05]
    coarse = rng.normal(size=(labels.ndim, 2, 6, 6)) * reach[:, None, None, None]
    bend = np.stack([ndimage.zoom(c, shape / c.shape, order=1) for c in coarse])
    where = grid + bend.reshape(labels.ndim, -1)
    image, labels = _looked_up(image, where, 1), _looked_up(labels, where, 0)
    points = {k: p - _at(bend, p) for k, p in points.items()}
    start = (shape - CROP) // 2
    inner = tuple(slice(s, s + c) for s, c in zip(start, CROP))
    image, labels, points = image[inner], labels[inner], {k: p - start for k, p in points.items()}
    image = 1 - image
    image = image + rng.uniform(-0.1, 0.1)
    image = (image - image.mean()) * rng.uniform(0.75, 2) + image.mean()
    image = image + rng.normal(size=image.shape) * 0.1
    image = np.clip(image, 0, 1)
    image = (image - image.mean()) / image.std()
    present = {int(k): points[int(k)] for k in np.unique(labels) if k and (labels == k).any()}
    offset = naive_nearest(labels, present)
    return image, labels, offset, naive_average(offset, labels), naive_mask(labels.shape, present)


def _looked_up(values: np.ndarray, where: np.ndarray, order: int) -> np.ndarray:
    found = ndimage.map_coordinates(values, where, order=order, mode="nearest" if order else "constant")
    return found.reshape(values.shape)


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    place = np.clip(points.round().astype(int), 0, np.array(field.shape[1:]) - 1)
    return field[(slice(None), *place.T)].T


# What is measured ----------------------------------------------------------------------------------------


@functools.lru_cache
def _volume(shape: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Touching tubes; some attempts to place one fail, so more are made and the surplus is left out."""
    image, labels = make_volume(shape, 0, count=3 * count // 2, radius=(4.0, 8.0))
    return image, np.where(labels <= count, labels, 0)


@functools.lru_cache
def _crop() -> tuple[np.ndarray, Skeletons]:
    """A crop of the large volume, and the skeletons of its objects in voxels of the crop."""
    _, labels = _volume(LARGE, 400)
    start = [(n - c) // 2 for n, c in zip(LARGE, CROP)]
    crop = np.ascontiguousarray(labels[tuple(slice(s, s + c) for s, c in zip(start, CROP))])
    near = skeletonize(labels, threads=2).select(np.unique(crop))
    return crop, Skeletons(near.ids, near.starts, near.points - np.array(start, np.float32), near.inscribed)


def _dataset() -> tuple[LabelledVolume, CropDataset, list[str]]:
    """The large volume, crops of it with every augmentation on, and the names of these."""
    image, labels = _volume(LARGE, 400)
    volume = ArrayVolume("tubes", image, ISOTROPIC)
    labelled = LabelledVolume(
        "tubes",
        volume,
        ArrayVolume("tubes", labels, ISOTROPIC),
        skeletonize(labels, threads=2),
        measure_intensity(volume, "zscore"),
        ISOTROPIC,
    )
    augmentations = build_augmentations(load_config(CONFIG, ["data.augment=original"]))
    for augmentation in augmentations:
        augmentation.rate = 1.0  # type: ignore[attr-defined]
    names = [type(augmentation).__name__ for augmentation in augmentations]
    return labelled, CropDataset([(labelled, 64)], CROP, augmentations), names


def _extra_memory(way: Callable[[], object], times: int = 3) -> int:
    """Most bytes that the arrays of NumPy, which all of both ways are made of, take besides those there."""
    tracemalloc.start()
    for _ in range(times):
        way()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


# Measuring -----------------------------------------------------------------------------------------------


def _print(ways: dict[str, Callable[[], object]], rounds: int, shares: list[float] | None = None) -> None:
    """Median seconds of each way, all run in turns, and how many times faster than the first it is."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    whole = shares or [1.0] * len(ways)
    medians = {name: statistics.median(taken) / s for (name, taken), s in zip(seconds.items(), whole)}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"  {name:<58} {median:8.3f} s  {first / median:6.1f} x", flush=True)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _present(labels: np.ndarray) -> int:
    return len(np.unique(labels)) - 1


FIGURES = {figure.__name__: figure for figure in (skeletons, targets, masks, sample, waiting, real)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the data pipeline costs.")
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; none means all"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--objects", type=int, default=40, help="of the large volume that the naive way traces"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="that compute in waiting")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="that load in waiting")
    parser.add_argument("--data", type=Path, help="folder of sets of real volumes")
    parser.add_argument("--epochs", type=int, default=5, help="of the training that is watched")
    asked = parser.parse_args()
    unknown = set(asked.figures) - set(FIGURES)
    if unknown:
        parser.error(f"no figure {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name in asked.figures or FIGURES:
        FIGURES[name](asked)


if __name__ == "__main__":
    main()
