"""Seeds that vectors and skeleton map agree on, as many as the evidence between them supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skoots.instances.basins import persistent_basins
from skoots.instances.decoders.base import DECODERS
from skoots.instances.decoders.landing import LandingDecoder
from skoots.instances.maps import PROBABILITY, Maps, MapType
from skoots.ranges import Share


@DECODERS.register
@dataclass(frozen=True)
class PersistenceDecoder(LandingDecoder):
    """Seeds are the hills of one map of evidence: smoothed votes where vectors land, times skeleton and
    semantic probability.

    Two hills are one object where the pass between them is at least ``neck`` times as high as the lower one.
    So a threshold need not fit strong and weak objects alike, and a gap in one of the maps is bridged by the
    others.

    Args:
        semantic_threshold: probability above which a voxel belongs to an object.
        min_size: objects of fewer voxels are dropped.
        steps: at most so many vectors are followed by a voxel.
        reach: a voxel that has found no seed looks so far around, in units of the finest voxel axis.
        smoothing: standard deviation of the Gaussian that smooths the votes, in the same unit.
        votes: evidence above which a voxel may belong to a seed, in smoothed votes.
        min_seed: seeds of fewer voxels are noise.
        neck: 0 to 1; higher separates more.
        skeleton_weight: 0 takes the votes as they are, 1 multiplies them by the skeleton probability.
    """

    tried: ClassVar[Mapping[str, Sequence[Any]]] = {
        "neck": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "skeleton_weight": (0.0, 0.5, 1.0),
        **LandingDecoder.tried,
    }

    neck: Share = 0.5
    skeleton_weight: Share = 0.5

    @property
    def reads(self) -> Mapping[str, MapType]:
        return {**super().reads, "skeleton": PROBABILITY}

    def seeds(self, maps: Maps) -> np.ndarray:
        evidence = self.smoothed_votes(maps)
        evidence *= 1 - self.skeleton_weight + self.skeleton_weight * maps.probability("skeleton")
        evidence *= maps.probability("semantic")
        return persistent_basins(evidence, self.votes, self.neck, self.min_seed)
