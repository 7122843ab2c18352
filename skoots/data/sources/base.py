"""Where labelled volumes come from, and how they are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from skoots.data.labelled_volume import LabelledVolume
from skoots.data.normalize import Intensity, NormalizationKind, measure_intensity
from skoots.data.sources.alike import check_alike
from skoots.errors import ConfigError, Fault
from skoots.registry import Registry
from skoots.runtime import cpu_count
from skoots.skeletons.skeletonize import Algorithm
from skoots.volumes import Volume


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


def reading_threads() -> int:
    """Threads for work that is done once, before training."""
    return cpu_count()


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
