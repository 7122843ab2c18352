"""The embedded example data."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from skoots.data.background import background_volume
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.sources.base import DATASETS, Header, Reading, Source
from skoots.ranges import Count, Length, NotNegative, Samples, Seed
from skoots.skeletons import skeletonize
from skoots.synthetic import make_volume
from skoots.volumes.array import ArrayVolume

MOST_VOXELS = 2**30


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
        samples_per_volume: Samples = 32,
        seed: Seed = 0,
        objects: Literal["tubes", "blobs"] = "tubes",
        radius: tuple[Length, Length] = (3.0, 5.0),
        noise: NotNegative = 0.12,
    ) -> None:
        if math.prod(shape) * volumes > MOST_VOXELS:
            raise ValueError(f"shape {shape} times {volumes} volumes are more than {MOST_VOXELS:,} voxels")
        if not 0.5 <= radius[0] <= radius[1] <= max(shape):
            raise ValueError(
                f"radius {list(radius)} must rise from 0.5 or more to the edge of the volume at most"
            )
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
