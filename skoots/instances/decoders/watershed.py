"""The classical way, as a decoder: watershed of the distance to the background, or of a learnt map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skoots.instances.classical import distance_watershed, height_watershed
from skoots.instances.decoders.base import DECODERS, Decoder
from skoots.instances.maps import PROBABILITY, Maps, MapType
from skoots.ranges import NotNegative, Ratio

LEAST = 0.05  # of a map in [0, 1]; what is lower is noise


@DECODERS.register
@dataclass(frozen=True)
class WatershedDecoder(Decoder):
    """Objects come apart at their necks, see ``distance_watershed``; reads the foreground alone, unless told.

    Args:
        semantic_threshold: probability above which a voxel belongs to an object.
        min_size: objects of fewer voxels are dropped.
        neck: 0 to 1; higher separates more.
        smoothing: standard deviation of the Gaussian that smooths the distances, in units of the finest voxel
            axis.
        depth_map: name of a map in [0, 1] that is high inside objects, to take instead of the distance.
        boundary_map: name of a map in [0, 1] that is high between objects; with a depth map both count.
    """

    tried: ClassVar[Mapping[str, Sequence[Any]]] = {
        "depth_map": (None, "skeleton"),
        "boundary_map": (None, "boundary"),
        "neck": (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8, 0.9, 0.95),
        "smoothing": (0.0, 1.0, 2.0),
        **Decoder.tried,
    }

    neck: Ratio = 0.65
    smoothing: NotNegative = 1.0
    depth_map: str | None = None
    boundary_map: str | None = None

    @property
    def reads(self) -> Mapping[str, MapType]:
        named = [name for name in (self.depth_map, self.boundary_map) if name is not None]
        return {**super().reads, **dict.fromkeys(named, PROBABILITY)}

    def seeds(self, maps: Maps) -> np.ndarray:
        foreground = self.foreground(maps)
        if self.depth_map is None and self.boundary_map is None:
            return distance_watershed(foreground, maps.voxel_size, self.neck, self.smoothing)
        height = np.ones(maps.shape, np.float32)
        if self.depth_map is not None:
            height *= maps.probability(self.depth_map)
        if self.boundary_map is not None:
            height *= 1 - maps.probability(self.boundary_map)
        return height_watershed(height, foreground, maps.voxel_size, self.neck, self.smoothing, LEAST)
