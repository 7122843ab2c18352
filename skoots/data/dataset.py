"""Sources of labelled volumes, and the dataset that draws windows from them."""

from __future__ import annotations

import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from torch.utils.data import Dataset

from skoots.data.augment import Augmentation, Frame, Sequential
from skoots.data.background import background_volume
from skoots.data.crops import covering_crops, random_crop
from skoots.data.label_index import index_labels
from skoots.data.labelled_volume import LabelledVolume, make_sample
from skoots.data.mixture import Mixture
from skoots.data.normalize import Intensity, NormalizationKind, measure_intensity
from skoots.data.pairs import Pair, find_images, find_pairs
from skoots.data.raw_batch import RawBatch, RawSample, Unmade
from skoots.data.resident import ResidentSample, keep_resident
from skoots.data.sampling import Places, Sampling
from skoots.data.skeleton_cache import load_or_trace
from skoots.data.survey import Survey, survey_labels
from skoots.errors import ConfigError, Fault, SkootsError, VolumeError
from skoots.geometry import Box, relative_spacing
from skoots.ranges import Count, Length, NotNegative
from skoots.registry import Registry
from skoots.runtime import cpu_count
from skoots.samples import Batch, Sample
from skoots.skeletons import Skeletons, skeletonize
from skoots.skeletons.skeletonize import Algorithm
from skoots.synthetic import make_volume
from skoots.volumes import Volume, open_volume
from skoots.volumes.array import ArrayVolume
from skoots.volumes.part import PartVolume
from skoots.volumes.segments import SegmentCache

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
        own_intensity: whether each volume is normalised by its own statistics, so that it must have some.
    """

    voxel_size: Sequence[float] | None = None
    normalize: NormalizationKind = "zscore"
    ignore_label: int | None = None
    algorithm: Algorithm = "thinning"
    threads: int = 1
    own_intensity: bool = True

    def measure(self, image: Volume) -> Intensity:
        """The normalisation of an image."""
        return measure_intensity(image, self.normalize, self.own_intensity)


class Described(Protocol):
    """What is known of a volume before it is read."""

    @property
    def image(self) -> Volume:
        """The image."""

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """D edge lengths of a voxel."""


@dataclass(frozen=True)
class Header:
    """A labelled volume as its files state it.

    Args:
        image: opened, and not read.
        voxel_size: D edge lengths of a voxel.
    """

    image: Volume
    voxel_size: tuple[float, ...]


class Source(ABC):
    """Where labelled volumes come from.

    Attributes:
        samples_per_volume: windows drawn from each volume in an epoch.
    """

    samples_per_volume: int

    @abstractmethod
    def open(self, reading: Reading) -> list[LabelledVolume]:
        """All volumes of the source."""

    def headers(self, reading: Reading) -> list[Header]:
        """What ``open`` would give, to be compared with other volumes; cheaper where a source knows how."""
        return [Header(volume.image, volume.voxel_size) for volume in self.open(reading)]

    def open_background(self, reading: Reading) -> list[LabelledVolume]:
        """All volumes of the source as images that show no objects.

        Raises:
            ConfigError: the source has no such images.
        """
        problem = f"{type(self).__name__} has no images without objects"
        raise ConfigError([Fault("data.background", problem, "Name a folder of images")])


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
        cache_mb: with ``disk``, mebibytes of decoded chunks that each process keeps for the source.
    """

    def __init__(
        self,
        path: str,
        samples_per_volume: Count = 32,
        names: list[str] | None = None,
        box: list[list[int]] | None = None,
        store: Literal["memory", "disk", "gpu"] = "memory",
        cache_mb: Count = 256,
    ) -> None:
        self.path, self.samples_per_volume, self.names, self.store = (
            Path(path),
            samples_per_volume,
            names,
            store,
        )
        if names is not None and not names:
            raise ValueError("names is empty. Leave it out to take all volumes")
        self.box = None if box is None else _box(box)
        self.chunks = SegmentCache(cache_mb * 2**20)

    def open(self, reading: Reading) -> list[LabelledVolume]:
        pairs = {pair.name: pair for pair in find_pairs(self.path)}
        return [self._open_pair(pairs[name], reading) for name in self._chosen(pairs)]

    def headers(self, reading: Reading) -> list[Header]:
        pairs = {pair.name: pair for pair in find_pairs(self.path)}
        return [self._header(pairs[name], reading) for name in self._chosen(pairs)]

    def _header(self, pair: Pair, reading: Reading) -> Header:
        image, labels = open_pair(pair, reading.voxel_size)
        voxel_size = image.voxel_size or labels.voxel_size or (1.0,) * image.spatial_dims
        return Header(self._part(image), voxel_size)

    def open_background(self, reading: Reading) -> list[LabelledVolume]:
        images = find_images(self.path)
        return [self._open_image(name, images[name], reading) for name in self._chosen(images)]

    def _chosen(self, found: Iterable[str]) -> list[str]:
        """The names that are asked for, in the order found."""
        known = list(found)
        missing = set(self.names or ()) - set(known)
        if missing:
            raise VolumeError(
                f"{self.path} holds no volume named {', '.join(sorted(missing))}; "
                f"it holds {', '.join(known)}."
            )
        return [name for name in known if self.names is None or name in self.names]

    def _open_image(self, name: str, path: Path, reading: Reading) -> LabelledVolume:
        image = self._stored(open_volume(path, voxel_size=reading.voxel_size))
        voxel_size = image.voxel_size or (1.0,) * image.spatial_dims
        volume = background_volume(name, image, reading.measure(image), voxel_size)
        return replace(volume, resident=self._resident())

    def _resident(self) -> str:
        return uuid.uuid4().hex if self.store == "gpu" else ""

    def _part(self, volume: Volume) -> Volume:
        return volume if self.box is None else PartVolume(volume, self.box)

    def _stored(self, volume: Volume) -> Volume:
        """The volume, or the box of it, where ``store`` says."""
        part = self._part(volume)
        return part.cached_in(self.chunks) if self.store == "disk" else ArrayVolume.of(part)

    def _open_pair(self, pair: Pair, reading: Reading) -> LabelledVolume:
        image, labels = open_pair(pair, reading.voxel_size)
        voxel_size = image.voxel_size or labels.voxel_size or (1.0,) * image.spatial_dims
        image, labels = self._stored(image), self._stored(labels)
        skeletons, _ = volume_skeletons(pair, labels, voxel_size, reading, self.box)
        intensity, resident = reading.measure(image), self._resident()
        return LabelledVolume(
            pair.name, image, labels, skeletons, intensity, voxel_size, reading.ignore_label, resident
        )


def _box(corners: Sequence[Sequence[int]]) -> Box:
    """A box as a config gives it.

    Raises:
        ValueError: it is none.
    """
    lengths = [len(corner) for corner in corners]
    if lengths not in ([2, 2], [3, 3]):
        raise ValueError(
            f"box is {corners}, must be a start and a stop voxel of two or three numbers each. "
            "Write for instance [[0, 0, 0], [20, 256, 256]]"
        )
    start, stop = corners
    if not all(0 <= a < b for a, b in zip(start, stop)):
        raise ValueError(
            f"box is {corners}, whose stop must lie behind its start along every axis. Count from 0"
        )
    return Box(tuple(start), tuple(stop))


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

    def headers(self, reading: Reading) -> list[Header]:
        size = tuple(reading.voxel_size or (1.0,) * len(self.shape))
        image = ArrayVolume(f"synthetic {self.objects}", np.broadcast_to(np.float32(0), self.shape), size)
        return [Header(image, size)] * self.count

    def open_background(self, reading: Reading) -> list[LabelledVolume]:
        return [self._make_background(self.seed + i, reading) for i in range(self.count)]

    def _make_background(self, seed: int, reading: Reading) -> LabelledVolume:
        image, _ = make_volume(self.shape, seed, count=0, noise=self.noise)
        size = tuple(reading.voxel_size or (1.0,) * len(self.shape))
        volume = ArrayVolume(f"synthetic background {seed}", image, size)
        return background_volume(volume.path, volume, reading.measure(volume), size)

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
            reading.measure(volume),
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
    box: Box | None = None,
    overwrite: bool = False,
) -> tuple[Skeletons, bool]:
    """Skeletons of a label volume: from the file beside it, else traced and kept there.

    The labels are read block by block and object by object.

    Args:
        pair: names the file.
        labels: the label volume, or a part of it.
        voxel_size: D edge lengths of a voxel.
        reading: how skeletons are traced.
        box: which part it is; each part has a file of its own. None is the whole.
        overwrite: trace anew also where a file fits.

    Returns:
        The skeletons, and whether they were traced now.

    Raises:
        VolumeError: the labels hold no object.
    """
    index = index_labels(labels, reading.ignore_label)
    if not index.boxes:
        raise VolumeError(f"{labels.path} holds no object: every voxel is 0.")
    skeletons, traced = load_or_trace(
        pair.skeletons_of(box), labels, index, voxel_size, reading.algorithm, reading.threads, overwrite
    )
    if traced:
        log.info("%s: skeletons of %d objects traced.", pair.labels, len(skeletons))
    return skeletons, traced


def open_sources(
    sources: Sequence[Source], reading: Reading, background: bool = False
) -> list[tuple[LabelledVolume, int]]:
    """All volumes of several sources, each with the number of windows that an epoch draws from it.

    Args:
        sources: to open.
        reading: how.
        background: whether they are images that show no objects.

    Raises:
        VolumeError: volumes differ in dimensions, channels or proportions of their voxels.
    """
    opened = [
        (volume, source.samples_per_volume)
        for source in sources
        for volume in (source.open_background(reading) if background else source.open(reading))
    ]
    for volume, _ in opened[1:]:
        check_alike(opened[0][0], volume)
    return opened


def check_alike(first: Described, other: Described) -> None:
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
    if not _proportions_alike(first.voxel_size, other.voxel_size):
        raise VolumeError(
            f"{b.path} has voxels of {other.voxel_size} and {a.path} of {first.voxel_size}: other "
            f"proportions, which one "
            "network cannot serve. Resample one, or state data.voxel_size if a file is wrong."
        )


def _proportions_alike(one: Sequence[float], other: Sequence[float]) -> bool:
    ratios = [p / q for p, q in zip(relative_spacing(one), relative_spacing(other))]
    return all(0.8 < ratio < 1.25 for ratio in ratios)


def as_network_sees(volume: LabelledVolume, voxel_size: Sequence[float]) -> LabelledVolume:
    """A volume with the voxels that a network is built for, if its own are nearly of these proportions; so
    that its targets do not depend on what else is in a batch."""
    if not _proportions_alike(voxel_size, volume.voxel_size):
        return volume
    return replace(volume, voxel_size=tuple(voxel_size))


class CropDataset(Dataset["Sample | Unmade"]):
    """Random windows; a key (epoch, index) and the seed say everything about one, whoever asks for it.

    Args:
        volumes: each with the number of windows that an epoch draws from it.
        crop: voxels of a window per axis.
        augmentations: as of a ``Sequential``: one map for all that move voxels, then the others.
        seed: of the run.
        sampling: what windows are drawn around.
        background: volumes without objects, drawn from along with the others.
        background_augmentations: applied to windows of these.
        samples_per_epoch: windows of an epoch, shared out in proportion; None takes all that volumes ask for.
        on_device: windows are only read and drawn here; a ``RawBatch`` makes them where it is moved to.
    """

    def __init__(
        self,
        volumes: Sequence[tuple[LabelledVolume, int]],
        crop: Sequence[int],
        augmentations: Sequence[Augmentation] = (),
        seed: int = 0,
        sampling: Sampling | None = None,
        background: Sequence[tuple[LabelledVolume, int]] = (),
        background_augmentations: Sequence[Augmentation] = (),
        samples_per_epoch: int | None = None,
        on_device: bool = False,
    ) -> None:
        self.crop, self.seed, self.sampling = tuple(crop), seed, sampling or Sampling()
        self.augment, self.augment_background = (
            Sequential(augmentations),
            Sequential(background_augmentations),
        )
        self.on_device = on_device
        self.labelled = len(volumes)
        self.volumes = [volume for volume, _ in (*volumes, *background)]
        self.mixture = Mixture([count for _, count in (*volumes, *background)], samples_per_epoch, seed)
        surveys = [self._survey(volume) for volume in self.volumes]
        self.places = [Places(v.skeletons, s.boundaries) for v, s in zip(self.volumes, surveys)]
        self.within = [None if s.labelled.is_empty else s.labelled for s in surveys]
        for volume in self.volumes[:1]:
            self._rehearse(self.augment, volume, "data.augment")
        for volume in self.volumes[self.labelled :][:1]:
            self._rehearse(self.augment_background, volume, "data.background_augment")
        for volume in self.volumes:
            if volume.resident:
                self._keep(volume)
            if any(c > n for c, n in zip(self.crop, volume.shape)):
                log.warning(
                    "%s: the crop %s is larger than the volume %s and is padded.",
                    volume.name,
                    crop,
                    volume.shape,
                )

    def _rehearse(self, augment: Sequential, volume: LabelledVolume, path: str) -> None:
        try:
            augment.rehearse(Frame(self.crop, volume.voxel_size))
        except SkootsError as error:
            raise ConfigError([Fault(path, str(error).rstrip("."), "")]) from error

    def _survey(self, volume: LabelledVolume) -> Survey:
        """The pass through the labels, for volumes of which there is more to know than skeletons."""
        if len(volume.skeletons) and (self.sampling.boundaries or volume.ignore_label is not None):
            return survey_labels(volume.labels, volume.ignore_label, seed=self.seed)
        return Survey(Box.of_shape(volume.shape), np.zeros((0, len(volume.shape)), np.int32))

    def __len__(self) -> int:
        return len(self.mixture)

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
        row = self.mixture.volume_of(epoch, index)
        volume, box = self.volumes[row], self.draw(row, rng)
        augment = self.augment if row < self.labelled else self.augment_background
        origin = f"{volume.name} from {box.start} to {box.stop}, epoch {epoch}, sample {index}"
        frame = Frame(self.crop, volume.voxel_size)
        spatial_map = augment.draw_map(frame, rng)
        if self.on_device:
            changes = augment.draw_changes(frame, rng)
            if volume.resident:
                return ResidentSample(volume.resident, box, spatial_map, changes, origin)
            return RawSample.read(volume, box, spatial_map, changes, origin)
        return make_sample(augment.change(volume.window(box, spatial_map), rng), origin)

    def sample(self, key: tuple[int, int]) -> Sample:
        """A window with all that is made of it, also where that is left to a device; for whoever looks."""
        drawn = self[key]
        if isinstance(drawn, Sample):
            return drawn
        batch = RawBatch.collate([drawn]).to("cpu")
        arrays: dict[str, Any] = {name: tensor[0].numpy() for name, tensor in batch.tensors().items()}
        return Sample(
            image=arrays.pop("images"), **arrays, voxel_size=batch.voxel_size, origin=batch.origins[0]
        )

    def draw(self, row: int, rng: np.random.Generator) -> Box:
        """The next window of a volume, by its row."""
        point = self.places[row].draw(self.sampling.kind(rng), rng)
        return random_crop(self.volumes[row].shape, self.crop, rng, point, self.within[row])


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
