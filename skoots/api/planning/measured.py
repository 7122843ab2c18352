"""What a plan is made from: the volumes of a folder, opened and measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from skoots.api.build import DataFacts
from skoots.api.planning.decision import some
from skoots.api.planning.split import Split, choose_split
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.object_geometry import ObjectGeometry, measure_objects, pool
from skoots.data.pairs import find_pairs
from skoots.data.sources import Folder, Reading, check_alike, open_pair
from skoots.data.survey import survey_labels
from skoots.geometry import Box
from skoots.runtime import free_memory
from skoots.volumes import Volume

Store = Literal["memory", "disk"]
MEMORY_SHARE = 0.5  # of the free main memory that volumes may fill


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Args:
        volumes: of the folder.
        headers: image and labels of each, as the files state them.
        split: what is trained on.
        training: the volumes to train on, whole.
        known: of each of these the smallest box that holds every voxel whose truth is known.
        objects: of each of these.
        geometry: of all these objects.
        facts: channels, dimensions, voxel size.
        store: where the volumes are kept.
    """

    volumes: list[LabelledVolume]
    headers: list[tuple[Volume, Volume]]
    split: Split
    training: list[LabelledVolume]
    known: list[Box]
    objects: list[int]
    geometry: ObjectGeometry
    facts: DataFacts
    store: Store

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of what is trained on: of a divided volume a part."""
        return [box.shape for box in self._parts]

    @property
    def voxels(self) -> int:
        """That are trained on; crops keep to what is known."""
        return sum(known.intersect(box).size for known, box in zip(self.known, self._parts))

    @property
    def _parts(self) -> list[Box]:
        cuts = self.split.cuts
        return [
            cuts[volume.name].train if volume.name in cuts else Box.of_shape(volume.shape)
            for volume in self.training
        ]

    @property
    def silent(self) -> list[Volume]:
        """Images of which neither they nor their labels state a voxel size."""
        return [
            image for image, labels in self.headers if image.voxel_size is None and labels.voxel_size is None
        ]


def measure(
    folder: Path | str,
    validation: Path | str | None,
    test: Path | str | None,
    reading: Reading,
    seed: int,
) -> Measured:
    """Open the volumes of a folder, measure their objects and choose what is held out.

    Args:
        folder: to train on.
        validation: a folder of its own, or None.
        test: a folder of its own, or None; it is opened, to find its faults now.
        reading: how volumes are read.
        seed: of the draws.

    Raises:
        VolumeError: a folder or a file cannot be read, or volumes do not go together.
    """
    headers = _headers(folder, reading)
    others = [pair for other in (validation, test) if other is not None for pair in _headers(other, reading)]
    store = _choose_store([*headers, *others])
    volumes = _open(folder, reading, store)
    if test is not None:
        _open(test, reading, store, volumes[0])
    geometries = [measure_objects(volume) for volume in volumes]
    split = _split(volumes, geometries, validation, reading, store, seed)
    learnt = [i for i, volume in enumerate(volumes) if volume.name in split.train]
    return Measured(
        volumes,
        headers,
        split,
        [volumes[i] for i in learnt],
        [_known(volumes[i]) for i in learnt],
        [len(geometries[i]) for i in learnt],
        pool([geometries[i] for i in learnt]),
        DataFacts.of(volumes[0]),
        store,
    )


def _headers(folder: Path | str, reading: Reading) -> list[tuple[Volume, Volume]]:
    return [open_pair(pair, reading.voxel_size) for pair in find_pairs(folder)]


def _known(volume: LabelledVolume) -> Box:
    """The part of a volume that crops keep to."""
    if volume.ignore_label is None:
        return Box.of_shape(volume.shape)
    return survey_labels(volume.labels, volume.ignore_label).labelled


def _open(
    folder: Path | str, reading: Reading, store: Store, first: LabelledVolume | None = None
) -> list[LabelledVolume]:
    volumes = Folder(str(folder), store=store).open(reading)
    for volume in volumes:
        check_alike(first or volumes[0], volume)
    return volumes


def _choose_store(headers: Sequence[tuple[Volume, Volume]]) -> Store:
    """``disk`` if the volumes would fill too much of the main memory."""
    free = free_memory(torch.device("cpu"))
    size = sum(
        math.prod(volume.shape) * (volume.channels or 1) * volume.dtype.itemsize
        for pair in headers
        for volume in pair
    )
    return "disk" if free is not None and size > MEMORY_SHARE * free else "memory"


def _split(
    volumes: Sequence[LabelledVolume],
    geometries: Sequence[ObjectGeometry],
    validation: Path | str | None,
    reading: Reading,
    store: Store,
    seed: int,
) -> Split:
    names = [volume.name for volume in volumes]
    if validation is None:
        return choose_split(names, [v.shape for v in volumes], volumes[0].voxel_size, geometries, seed)
    others = _open(validation, reading, store, volumes[0])
    objects = sum(len(volume.skeletons) for volume in others)
    return Split(
        names, [], {}, objects, f"As asked for: {some(len(others), 'volume')}, {some(objects, 'object')}."
    )
