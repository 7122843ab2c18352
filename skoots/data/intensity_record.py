"""The intensity statistics of a training, as a snapshot keeps them and segmenting applies them again."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skoots.data.normalize import Intensity
from skoots.geometry import Box
from skoots.volumes import Volume

PROBES = 3
PROBE_EDGE = 8


@dataclass(frozen=True)
class IntensityRecord:
    """Shift and scale of each training volume, and of all together.

    Args:
        kind: of normalisation.
        pooled: of all training volumes together.
        volumes: of each by its mark, see ``content_mark``.
    """

    kind: str
    pooled: Intensity
    volumes: dict[str, Intensity]

    @classmethod
    def of(cls, kind: str, measured: Sequence[tuple[str, Intensity, int]]) -> IntensityRecord:
        """From the mark, the statistics and the number of voxels of each training volume."""
        pooled = pool([intensity for _, intensity, _ in measured], [voxels for _, _, voxels in measured])
        return cls(kind, pooled, {mark: intensity for mark, intensity, _ in measured if mark})

    def known(self, volume: Volume) -> Intensity | None:
        """The statistics that a volume had in training, None if it was not there."""
        return self.volumes.get(content_mark(volume)) if self.volumes else None

    def plain(self) -> dict[str, Any]:
        """For a snapshot."""
        volumes = {mark: _plain(intensity) for mark, intensity in self.volumes.items()}
        return {"kind": self.kind, "pooled": _plain(self.pooled), "volumes": volumes}

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> IntensityRecord:
        """From a snapshot."""
        volumes = {mark: _from_plain(values) for mark, values in stored["volumes"].items()}
        return cls(stored["kind"], _from_plain(stored["pooled"]), volumes)


def pool(intensities: Sequence[Intensity], voxels: Sequence[int]) -> Intensity:
    """One normalisation for several volumes: the mean shift, and the scale of their spread about it.

    For ``zscore`` this is exactly the mean and standard deviation of all voxels together.

    Args:
        intensities: of the volumes.
        voxels: of each, their weight.
    """
    weight = np.asarray(voxels, float)[:, None] / np.sum(voxels)
    shifts = np.array([i.shift for i in intensities], float)
    scales = np.array([i.scale for i in intensities], float)
    shift = (weight * shifts).sum(0)
    scale = np.sqrt((weight * (scales**2 + (shifts - shift) ** 2)).sum(0))
    return Intensity(shift.astype(np.float32), scale.astype(np.float32), intensities[0].compress)


def content_mark(volume: Volume) -> str:
    """A short name for what an image shows, whatever its file is called: shape, type and some of its voxels.

    Args:
        volume: the image; small boxes of it are read.
    """
    edge = [min(PROBE_EDGE, n) for n in volume.shape]
    starts = [np.linspace(0, n - e, PROBES).astype(int) for n, e in zip(volume.shape, edge)]
    checksum = 0
    for start in zip(*starts):
        checksum = zlib.crc32(volume.read(Box.at(tuple(int(s) for s in start), edge)).tobytes(), checksum)
    middle = Box.at(
        [n // 2 for n in volume.shape[:-1]] + [0], [1] * (volume.spatial_dims - 1) + [volume.shape[-1]]
    )
    checksum = zlib.crc32(volume.read(middle).tobytes(), checksum)
    size = "x".join(map(str, (*([] if volume.channels is None else [volume.channels]), *volume.shape)))
    return f"{checksum:08x}-{size}-{volume.dtype.name}"


def _plain(intensity: Intensity) -> dict[str, Any]:
    return {
        "shift": [float(v) for v in intensity.shift],
        "scale": [float(v) for v in intensity.scale],
        "compress": intensity.compress,
    }


def _from_plain(stored: Mapping[str, Any]) -> Intensity:
    shift, scale = (np.array(stored[key], np.float32) for key in ("shift", "scale"))
    return Intensity(shift, scale, stored["compress"])
