"""The classical way, as a decoder: watershed of the distance to the background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skoots.instances.classical import distance_watershed
from skoots.instances.decoders.base import DECODERS, Decoder
from skoots.instances.maps import Maps
from skoots.ranges import NotNegative, Ratio


@DECODERS.register
@dataclass(frozen=True)
class WatershedDecoder(Decoder):
    """Objects come apart at their necks, see ``distance_watershed``; reads the foreground alone.

    Args:
        semantic_threshold: probability above which a voxel belongs to an object.
        min_size: objects of fewer voxels are dropped.
        neck: 0 to 1; higher separates more.
        smoothing: standard deviation of the Gaussian that smooths the distances, in units of the finest voxel
            axis.
    """

    neck: Ratio = 0.65
    smoothing: NotNegative = 1.0

    def seeds(self, maps: Maps) -> np.ndarray:
        return distance_watershed(self.foreground(maps), maps.voxel_size, self.neck, self.smoothing)
