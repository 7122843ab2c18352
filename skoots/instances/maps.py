"""The maps of a network as decoders read them: quantised, with the facts that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from skoots.geometry import Box


@dataclass(frozen=True)
class MapType:
    """How a kind of map is kept.

    Args:
        dtype: of an element.
        levels: element of the value 1; values are rounded to the nearest of them.
        per_axis: whether it holds vectors, with a channel for every axis and a scale, or one channel.
    """

    dtype: type[np.integer]
    levels: int
    per_axis: bool = False

    def channels(self, ndim: int) -> int:
        return ndim if self.per_axis else 1

    def quantise(self, values: np.ndarray) -> np.ndarray:
        """Elements for values in [0, 1], or [-1, 1] where the type has a sign.

        Values beyond that count as its ends, and those that are no number as 0.
        """
        scaled = np.rint(np.multiply(values, np.float32(self.levels), dtype=np.float32))
        lowest = -self.levels if np.iinfo(self.dtype).min < 0 else 0
        np.clip(np.nan_to_num(scaled, copy=False), lowest, self.levels, out=scaled)
        return scaled.astype(self.dtype)

    def level(self, threshold: float) -> int:
        """The largest element whose value does not exceed a threshold in [0, 1]."""
        values = np.arange(self.levels + 1) / self.levels
        return int(np.searchsorted(values, threshold, side="right")) - 1


# Of 127 levels, vectors of up to 127 voxels come back to half a voxel.
VECTOR = MapType(np.int8, 127, per_axis=True)
PROBABILITY = MapType(np.uint8, 255)


@dataclass(frozen=True)
class Maps:
    """Quantised maps of a volume, or of a part of one.

    Args:
        arrays: (C, *S) each, by name; in memory or memory-mapped.
        types: of the same names.
        voxel_size: D edge lengths of a voxel.
        scale: D voxels that a vector of length 1 spans; None where the network has no vectors.
    """

    arrays: Mapping[str, np.ndarray]
    types: Mapping[str, MapType]
    voxel_size: tuple[float, ...]
    scale: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls,
        values: Mapping[str, np.ndarray],
        types: Mapping[str, MapType],
        voxel_size: Sequence[float],
        scale: Sequence[float] | None = None,
    ) -> Maps:
        """Quantise the maps that a decoder reads.

        Args:
            values: (C, *S) floats by name, at least those of ``types``.
            types: what the decoder reads.
            voxel_size: D edge lengths of a voxel.
            scale: D voxels that a vector of length 1 spans.
        """
        arrays = {name: kind.quantise(values[name]) for name, kind in types.items()}
        return cls(arrays, types, tuple(voxel_size), None if scale is None else tuple(scale))

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels per axis."""
        return next(iter(self.arrays.values())).shape[1:]

    def part(self, box: Box) -> Maps:
        """The maps of a box, as views."""
        window = (slice(None), *box.slices)
        return replace(self, arrays={name: array[window] for name, array in self.arrays.items()})

    def above(self, name: str, threshold: float) -> np.ndarray:
        """(*S) bool: where a probability exceeds a threshold in [0, 1]."""
        return self.arrays[name][0] > self.types[name].level(threshold)

    def probability(self, name: str) -> np.ndarray:
        """(*S) float32 in [0, 1]."""
        return self.arrays[name][0] / np.float32(self.types[name].levels)
