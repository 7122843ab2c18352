"""The published decoder: a connected piece of the skeleton map is an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skoots.instances.components import label_components
from skoots.instances.decoders.base import DECODERS
from skoots.instances.decoders.walking import WalkingDecoder
from skoots.instances.maps import PROBABILITY, Maps, MapType
from skoots.ranges import Number, Share


@DECODERS.register
@dataclass(frozen=True)
class SkeletonDecoder(WalkingDecoder):
    """Seeds are the components of the skeleton map, 26 neighbours in 3D (Buswinka et al. 2023).

    Args:
        semantic_threshold: probability above which a voxel belongs to an object.
        min_size: objects of fewer voxels are dropped.
        steps: at most so many vectors are followed by a voxel.
        reach: a voxel that has found no skeleton looks so far around, in units of the finest voxel axis.
        skeleton_threshold: probability above which a voxel of an object belongs to a skeleton.
        min_skeleton: skeletons of fewer voxels are noise.
    """

    tried: ClassVar[Mapping[str, Sequence[Any]]] = {
        "skeleton_threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
        "min_skeleton": (1, 10, 30),
        "steps": (2, 5, 10),
        **WalkingDecoder.tried,
    }

    skeleton_threshold: Share = 0.5
    min_skeleton: Number = 1

    @property
    def reads(self) -> Mapping[str, MapType]:
        return {**super().reads, "skeleton": PROBABILITY}

    def seeds(self, maps: Maps) -> np.ndarray:
        on_skeleton = maps.above("skeleton", self.skeleton_threshold)
        on_skeleton &= self.foreground(maps)
        return label_components(on_skeleton, self.min_skeleton)
