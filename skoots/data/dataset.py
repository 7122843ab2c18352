"""Sources of labelled volumes, and the dataset that draws windows from them."""

from __future__ import annotations

import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset

from skoots.data.augment import Augmentation, Frame, Sequential
from skoots.data.crops import covering_crops, random_crop
from skoots.data.labelled_volume import LabelledVolume, make_sample
from skoots.data.normalize import NormalizationKind, measure_intensity
from skoots.data.pairs import Pair, find_pairs
from skoots.data.raw_batch import RawBatch, RawSample, Unmade
from skoots.data.resident import ResidentSample, keep_resident
from skoots.data.skeleton_cache import load_or_trace
from skoots.errors import VolumeError
from skoots.geometry import Box, relative_spacing
from skoots.ranges import Count, Length, NotNegative
from skoots.registry import Registry
from skoots.runtime import cpu_count
from skoots.samples import Batch, Sample
from skoots.skeletons import Skeletons, skeletonize
from skoots.skeletons.skeletonize import Algorithm
from skoots.synthetic import make_volume
from skoots.volumes import Volume, open_volume, read_labels
from skoots.volumes.array import ArrayVolume

log = logging.getLogger("skoots")


@dataclass(frozen=True)
class Reading:
    """How the volumes of a source are read; the same for all sources of a run.

    Args:
        voxel_size: D edge lengths that override what the files say.
        normalize: kind of intensity normalisation.
        ignore_label: label that means "not known".
        algorithm: of skeletonisation.
        threads: for skeletonisation.
    """

    voxel_size: Sequence[float] | None = None
    normalize: NormalizationKind = "zscore"
    ignore_label: int | None = None
    algorithm: Algorithm = "thinning"
    threads: int = 1


class Source(ABC):
    """Where labelled volumes come from.

    Attributes:
        samples_per_volume: windows drawn from each volume in an epoch.
    """

    samples_per_volume: int

    @abstractmethod
    def open(self, reading: Reading) -> list[LabelledVolume]:
        """All volumes of the source."""


DATASETS: Registry[Source] = Registry("dataset", Source)


@DATASETS.register
class Folder(Source):
    """A folder of ``NAME.tif`` with ``NAME.labels.tif``, and ``NAME.skeletons.trch``, made if missing.

    Args:
        path: the folder.
        samples_per_volume: windows drawn from each volume in an epoch.
        names: only these volumes; None takes all.
        box: only a part of each volume: start and stop voxel per axis, e.g. [[0, 0, 0], [20, 256, 292]].
        store: ``memory`` reads each volume once; ``disk`` reads the windows as they come; ``gpu`` keeps
            each volume on the device that trains, which needs ``augment_on: device``.
    """

    def __init__(
        self,
        path: str,
        samples_per_volume: Count = 32,
        names: list[str] | None = None,
        box: list[list[int]] | None = None,
        store: Literal["memory", "disk", "gpu"] = "memory",
    ) -> None:
        self.path, self.samples_per_volume, self.names, self.store = (
            Path(path),
            samples_per_volume,
            names,
            store,
        )
        self.box = None if box is None else Box(tuple(box[0]), tuple(box[1]))

    def open(self, reading: Reading) -> list[LabelledVolume]:
        pairs = find_pairs(self.path)
        if self.names is not None:
            missing = set(self.names) - {pair.name for pair in pairs}
            if missing:
                raise VolumeError(
                    f"{self.path} holds no volume named {', '.join(sorted(missing))}; "
                    f"it holds {', '.join(pair.name for pair in pairs)}."
                )
            pairs = [pair for pair in pairs if pair.name in self.names]
        return [self._open_pair(pair, reading) for pair in pairs]

    def _open_pair(self, pair: Pair, reading: Reading) -> LabelledVolume:
        image, labels = open_pair(pair, reading.voxel_size)
        voxel_size = image.voxel_size or labels.voxel_size or (1.0,) * image.spatial_dims
        if self.store != "disk" or self.box is not None:
            image, labels = ArrayVolume.of(image), ArrayVolume.of(labels)
        if self.box is not None:
            image, labels = _cut(image, self.box), _cut(labels, self.box)
        skeletons, _ = volume_skeletons(pair, labels, voxel_size, reading, cache=self.box is None)
        intensity = measure_intensity(image, reading.normalize)
        resident = uuid.uuid4().hex if self.store == "gpu" else ""
        return LabelledVolume(
            pair.name, image, labels, skeletons, intensity, voxel_size, reading.ignore_label, resident
        )


@DATASETS.register
class Synthetic(Source):
    """Seeded volumes of touching tubes or blobs, made in memory: the embedded example data.

    Args:
        shape: voxels per axis, two or three.
        volumes: how many.
        samples_per_volume: windows drawn from each volume in an epoch.
        seed: of the first volume; the others follow.
        objects: ``tubes`` or ``blobs``.
        radius: smallest and largest radius, voxels.
        noise: standard deviation of the image noise.
    """

    def __init__(
        self,
        shape: list[Count],
        volumes: Count = 1,
        samples_per_volume: Count = 32,
        seed: int = 0,
        objects: Literal["tubes", "blobs"] = "tubes",
        radius: tuple[Length, Length] = (3.0, 5.0),
        noise: NotNegative = 0.12,
    ) -> None:
        self.shape, self.count, self.samples_per_volume, self.seed = shape, volumes, samples_per_volume, seed
        self.objects, self.radius, self.noise = objects, radius, noise

    def open(self, reading: Reading) -> list[LabelledVolume]:
        return [self._make(self.seed + i, reading) for i in range(self.count)]

    def _make(self, seed: int, reading: Reading) -> LabelledVolume:
        image, labels = make_volume(self.shape, seed, self.objects, radius=self.radius, noise=self.noise)
        name = f"synthetic {self.objects} {seed}"
        size = tuple(reading.voxel_size or (1.0,) * len(self.shape))
        volume = ArrayVolume(name, image, size)
        skeletons = skeletonize(labels, size, reading.algorithm, reading.threads)
        return LabelledVolume(
            name,
            volume,
            ArrayVolume(name, labels, size),
            skeletons,
            measure_intensity(volume, reading.normalize),
            size,
        )


def open_pair(pair: Pair, voxel_size: Sequence[float] | None = None) -> tuple[Volume, Volume]:
    """Open an image and its labels and check that they belong together.

    Raises:
        VolumeError: their shapes differ.
    """
    image, labels = (
        open_volume(pair.image, voxel_size=voxel_size),
        open_volume(pair.labels, voxel_size=voxel_size),
    )
    if image.shape != labels.shape:
        raise VolumeError(
            f"{pair.labels} has shape {labels.shape} and its image {pair.image.name} has {image.shape}; "
            f"they must be equal."
        )
    return image, labels


def volume_skeletons(
    pair: Pair,
    labels: Volume,
    voxel_size: Sequence[float],
    reading: Reading,
    cache: bool = True,
    overwrite: bool = False,
) -> tuple[Skeletons, bool]:
    """Skeletons of a label volume: from the file beside it, else traced and (if ``cache``) kept there.

    Returns:
        The skeletons, and whether they were traced now.

    Raises:
        VolumeError: the labels hold no object.
    """
    ids = read_labels(labels, ignore_label=reading.ignore_label)
    if reading.ignore_label is not None:
        ids = np.where(ids == reading.ignore_label, 0, ids)
    if not (ids > 0).any():
        raise VolumeError(f"{labels.path} holds no object: every voxel is 0.")
    if not cache:
        return skeletonize(ids, voxel_size, reading.algorithm, reading.threads), True
    skeletons, traced = load_or_trace(
        pair.skeletons, ids, voxel_size, reading.algorithm, reading.threads, overwrite
    )
    if traced:
        log.info("%s: skeletons of %d objects traced.", pair.labels, len(skeletons))
    return skeletons, traced


def _cut(volume: Volume, box: Box) -> ArrayVolume:
    if not Box.of_shape(volume.shape).contains(box):
        raise VolumeError(
            f"{volume.path}: box {box.start} to {box.stop} reaches outside the volume of shape "
            f"{volume.shape}."
        )
    return ArrayVolume(
        volume.path, volume.read(box), volume.voxel_size, volume.unit, volume.channels is not None
    )


def open_sources(sources: Sequence[Source], reading: Reading) -> list[tuple[LabelledVolume, int]]:
    """All volumes of several sources, each with the number of windows that an epoch draws from it.

    Raises:
        VolumeError: volumes differ in dimensions, channels or proportions of their voxels.
    """
    opened = [(volume, source.samples_per_volume) for source in sources for volume in source.open(reading)]
    for volume, _ in opened[1:]:
        check_alike(opened[0][0], volume)
    return opened


def check_alike(first: LabelledVolume, other: LabelledVolume) -> None:
    """One network sees all volumes, so they must agree in what it is built for.

    Raises:
        VolumeError: dimensions, channels or proportions of voxels differ.
    """
    a, b = first.image, other.image
    if a.spatial_dims != b.spatial_dims:
        raise VolumeError(
            f"{b.path} is {b.spatial_dims}D and {a.path} {a.spatial_dims}D; train on one kind at a time."
        )
    if (a.channels or 1) != (b.channels or 1):
        raise VolumeError(
            f"{b.path} has {b.channels or 1} channels and {a.path} {a.channels or 1}; they must be equal."
        )
    ratios = [p / q for p, q in zip(relative_spacing(first.voxel_size), relative_spacing(other.voxel_size))]
    if any(not 0.8 < ratio < 1.25 for ratio in ratios):
        raise VolumeError(
            f"{b.path} has voxels of {other.voxel_size} and {a.path} of {first.voxel_size}: other "
            f"proportions, which one "
            "network cannot serve. Resample one, or state data.voxel_size if a file is wrong."
        )


class CropDataset(Dataset["Sample | Unmade"]):
    """Random windows; a key (epoch, index) and the seed say everything about one, whoever asks for it.

    Args:
        volumes: each with the number of windows that an epoch draws from it.
        crop: voxels of a window per axis.
        augmentations: as of a ``Sequential``: one map for all that move voxels, then the others.
        seed: of the run.
        object_rate: share of windows drawn around an object, see ``random_crop``.
        on_device: windows are only read and drawn here; a ``RawBatch`` makes them where it is moved to.
    """

    def __init__(
        self,
        volumes: Sequence[tuple[LabelledVolume, int]],
        crop: Sequence[int],
        augmentations: Sequence[Augmentation] = (),
        seed: int = 0,
        object_rate: float = 0.5,
        on_device: bool = False,
    ) -> None:
        self.volumes = [volume for volume, count in volumes for _ in range(count)]
        self.crop, self.seed, self.object_rate = tuple(crop), seed, object_rate
        self.augment, self.on_device = Sequential(augmentations), on_device
        for volume, _ in volumes:
            if volume.resident:
                self._keep(volume)
        for volume, _ in volumes[:1]:
            self.augment.rehearse(Frame(self.crop, volume.voxel_size))
        for volume, _ in volumes:
            if any(c > n for c, n in zip(self.crop, volume.shape)):
                log.warning(
                    "%s: the crop %s is larger than the volume %s and is padded.",
                    volume.name,
                    crop,
                    volume.shape,
                )

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def collate(self) -> Callable[[Sequence[Any]], Batch | RawBatch]:
        """From samples to a batch."""
        return RawBatch.collate if self.on_device else Batch.collate

    def _keep(self, volume: LabelledVolume) -> None:
        if not self.on_device:
            raise VolumeError(
                f"{volume.name} is to stay on the device (store: gpu), but its crops are made elsewhere. "
                "Write data.augment_on: device, or store: memory."
            )
        keep_resident(volume)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unmade:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        volume = self.volumes[index]
        box = random_crop(volume.shape, self.crop, volume.skeletons, rng, self.object_rate)
        origin = f"{volume.name} from {box.start} to {box.stop}, epoch {epoch}, sample {index}"
        frame = Frame(self.crop, volume.voxel_size)
        spatial_map = self.augment.draw_map(frame, rng)
        if self.on_device:
            changes = self.augment.draw_changes(frame, rng)
            if volume.resident:
                return ResidentSample(volume.resident, box, spatial_map, changes, origin)
            return RawSample.read(volume, box, spatial_map, changes, origin)
        return make_sample(self.augment.change(volume.window(box, spatial_map), rng), origin)


class CoveringDataset(Dataset[Sample]):
    """Windows that together cover volumes, without augmentation: what validation looks at.

    Args:
        volumes: to cover.
        crop: largest window.
    """

    def __init__(self, volumes: Sequence[LabelledVolume], crop: Sequence[int]) -> None:
        self.windows = [(volume, box) for volume in volumes for box in covering_crops(volume.shape, crop)]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        volume, box = self.windows[index]
        return make_sample(volume.window(box), f"{volume.name} from {box.start} to {box.stop}")


def reading_threads() -> int:
    """Threads for work that is done once, before training."""
    return cpu_count()
