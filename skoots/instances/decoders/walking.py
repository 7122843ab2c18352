"""What decoders share whose voxels walk to a seed along their vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from skoots.geometry import Box, relative_spacing
from skoots.instances.decoders.base import Decoder
from skoots.instances.follow import follow_vectors
from skoots.instances.maps import VECTOR, Maps, MapType

# Far beyond what helps; all places within reach are listed.
Steps = Annotated[int, Field(ge=0, le=1000)]
Reach = Annotated[float, Field(ge=0, le=50)]


@dataclass(frozen=True)
class WalkingDecoder(Decoder):
    """Every voxel of the foreground follows its vectors to a seed, else takes the nearest one.

    Args:
        semantic_threshold: probability above which a voxel belongs to an object.
        min_size: objects of fewer voxels are dropped.
        steps: at most so many vectors are followed by a voxel.
        reach: a voxel that has found no seed looks so far around, in units of the finest voxel axis.
    """

    steps: Steps = 5
    reach: Reach = 5.0

    @property
    def reads(self) -> Mapping[str, MapType]:
        return {"vector": VECTOR, **super().reads}

    def assign(self, maps: Maps, seeds: np.ndarray, box: Box | None = None) -> np.ndarray:
        whole = Box.of_shape(maps.shape)
        box = box or whole
        near = box.grow(self.longest_walk(maps)).intersect(whole)
        part = maps.part(near)
        return follow_vectors(
            part.arrays["vector"],
            part.arrays["semantic"][0],
            seeds[near.slices],
            scale_of(maps),
            maps.voxel_size,
            self.steps,
            self.reach,
            box.relative_to(near),
            above=maps.types["semantic"].level(self.semantic_threshold),
        )

    def longest_walk(self, maps: Maps) -> tuple[int, ...]:
        spacing = relative_spacing(maps.voxel_size)
        return tuple(
            math.ceil(self.steps * stride + self.reach / edge) + 1
            for stride, edge in zip(scale_of(maps), spacing)
        )


def scale_of(maps: Maps) -> tuple[float, ...]:
    """What vectors are followed with."""
    if maps.scale is None:
        raise ValueError("vectors can be followed only where the maps have a scale")
    return maps.scale
