"""Seeds from where the vectors lead, whatever the skeleton map says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage

from skoots.geometry import relative_spacing
from skoots.instances.components import label_components
from skoots.instances.decoders.base import DECODERS
from skoots.instances.decoders.walking import WalkingDecoder, scale_of
from skoots.instances.follow import count_landings
from skoots.instances.maps import Maps
from skoots.ranges import Length, NotNegative, Number


@DECODERS.register
@dataclass(frozen=True)
class LandingDecoder(WalkingDecoder):
    """Every voxel of the foreground votes for where it lands; seeds are the components of many votes.

    Args:
        semantic_threshold: probability above which a voxel belongs to an object.
        min_size: objects of fewer voxels are dropped.
        steps: at most so many vectors are followed by a voxel.
        reach: a voxel that has found no seed looks so far around, in units of the finest voxel axis.
        smoothing: standard deviation of the Gaussian that smooths the votes, in the same unit.
        votes: smoothed votes of a voxel above which it belongs to a seed.
        min_seed: seeds of fewer voxels are noise.
    """

    tried: ClassVar[Mapping[str, Sequence[Any]]] = {
        "votes": (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
        "smoothing": (0.7, 1.0, 1.5, 2.5),
        "steps": (2, 3, 5, 10),
        "min_seed": (1, 10),
        **WalkingDecoder.tried,
    }

    smoothing: NotNegative = 1.0
    votes: Length = 2.0
    min_seed: Number = 1

    def seeds(self, maps: Maps) -> np.ndarray:
        return label_components(self.smoothed_votes(maps) > self.votes, self.min_seed)

    def smoothed_votes(self, maps: Maps) -> np.ndarray:
        """(*S) float32 votes of each voxel, 0 outside the foreground."""
        above = maps.types["semantic"].level(self.semantic_threshold)
        inside = maps.arrays["semantic"][0]
        votes = count_landings(maps.arrays["vector"], inside, scale_of(maps), self.steps, above)
        widths = [self.smoothing / edge for edge in relative_spacing(maps.voxel_size)]
        ndimage.gaussian_filter(votes, widths, mode="constant", truncate=3, output=votes)
        votes[inside <= above] = 0
        return votes
