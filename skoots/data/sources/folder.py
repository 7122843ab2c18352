"""A folder of images with their labels."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from skoots.data.background import background_volume
from skoots.data.label_index import index_labels
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.pairs import Pair, find_images, find_pairs
from skoots.data.skeleton_cache import load_or_trace
from skoots.data.sources.base import DATASETS, Header, Reading, Source
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.ranges import Count
from skoots.skeletons import Skeletons
from skoots.volumes import Volume, open_volume
from skoots.volumes.array import ArrayVolume
from skoots.volumes.part import PartVolume
from skoots.volumes.segments import SegmentCache

log = logging.getLogger("skoots")


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
    must_keep: bool = False,
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
        must_keep: whether it is a fault that they cannot be kept.

    Returns:
        The skeletons, and whether they were traced now.

    Raises:
        VolumeError: the labels hold no object, or the file cannot be written where it must.
    """
    index = index_labels(labels, reading.ignore_label)
    if not index.boxes:
        raise VolumeError(f"{labels.path} holds no object: every voxel is 0.")
    skeletons, traced = load_or_trace(
        pair.skeletons_of(box),
        labels,
        index,
        voxel_size,
        reading.algorithm,
        reading.threads,
        overwrite,
        must_keep,
    )
    if traced:
        log.info("%s: skeletons of %d objects traced.", pair.labels, len(skeletons))
    return skeletons, traced
