"""The intensity statistics of a training, as a snapshot keeps them and segmenting applies them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from skoots.data.labelled_volume import LabelledVolume
from skoots.data.normalize import PERCENTS, Intensity, NormalizationKind, measure_together
from skoots.errors import VolumeError


@dataclass(frozen=True)
class IntensityRecord:
    """Shift and scale of each training volume, and of all together.

    Args:
        kind: of normalisation.
        pooled: of all training volumes together.
        volumes: name and statistics of each.
        dtypes: types of their voxels.
    """

    kind: str
    pooled: Intensity
    volumes: tuple[tuple[str, Intensity], ...]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, kind: NormalizationKind, volumes: Sequence[LabelledVolume]) -> IntensityRecord:
        """The statistics of volumes, as they were measured when these were opened; percentiles of all
        together are measured here.

        Raises:
            VolumeError: all together have no spread.
        """
        pooled = _together(kind, volumes)
        dtypes = sorted({volume.image.dtype.name for volume in volumes})
        return cls(kind, pooled, tuple((v.name, v.intensity) for v in volumes), tuple(dtypes))

    def plain(self) -> dict[str, Any]:
        """For a snapshot."""
        volumes = [{"name": name, **_plain(intensity)} for name, intensity in self.volumes]
        pooled = _plain(self.pooled)
        return {"kind": self.kind, "pooled": pooled, "volumes": volumes, "dtypes": list(self.dtypes)}

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> IntensityRecord:
        """From a snapshot."""
        volumes = tuple((values["name"], _from_plain(values)) for values in stored["volumes"])
        return cls(stored["kind"], _from_plain(stored["pooled"]), volumes, tuple(stored["dtypes"]))


def _together(kind: NormalizationKind, volumes: Sequence[LabelledVolume]) -> Intensity:
    alone = len(volumes) == 1 and volumes[0].intensity.scale.all()
    if kind in PERCENTS and not alone:
        return measure_together([volume.image for volume in volumes], kind)
    pooled = pool([volume.intensity for volume in volumes], [int(np.prod(v.shape)) for v in volumes])
    if not (pooled.scale > 0).any():
        paths = " and ".join(volume.image.path for volume in volumes)
        raise VolumeError(f"{paths}: every voxel is {pooled.shift[0]:g}, so there is nothing to learn from.")
    return replace(pooled, scale=np.where(pooled.scale > 0, pooled.scale, 1.0))


def pool(intensities: Sequence[Intensity], voxels: Sequence[int]) -> Intensity:
    """One normalisation for several volumes: the mean shift, and the scale of their spread about it.

    For ``zscore`` this is exactly the mean and standard deviation of all voxels together. Where shifts agree,
    it is the quadratic mean of the scales.

    Args:
        intensities: of the volumes.
        voxels: of each, their weight.
    """
    total = sum(voxels)
    exact = [intensity.exact_shift for intensity in intensities]
    shift = [
        sum((each * n for each, n in zip(channel, voxels)), Fraction(0)) / total for channel in zip(*exact)
    ]
    apart = np.array([[float(a - b) for a, b in zip(each, shift)] for each in exact])
    weight = np.asarray(voxels, float)[:, None] / total
    scales = np.array([intensity.scale for intensity in intensities], float)
    scale = np.sqrt((weight * (scales**2 + apart**2)).sum(0))
    return Intensity.of_exact(shift, scale, intensities[0].compress)


def _plain(intensity: Intensity) -> dict[str, Any]:
    rest = {} if intensity.rest is None else {"rest": [float(v) for v in intensity.rest]}
    return {
        "shift": [float(v) for v in intensity.shift],
        "scale": [float(v) for v in intensity.scale],
        "compress": intensity.compress,
        **rest,
    }


def _from_plain(stored: Mapping[str, Any]) -> Intensity:
    shift, scale = (np.array(stored[key], np.float64) for key in ("shift", "scale"))
    rest = np.array(stored["rest"], np.float64) if "rest" in stored else None
    return Intensity(shift, scale, stored["compress"], rest)
