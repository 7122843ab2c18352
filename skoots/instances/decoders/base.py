"""The contract of decoders, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skoots.geometry import Box
from skoots.instances.maps import PROBABILITY, Maps, MapType
from skoots.instances.relabel import close_gaps
from skoots.ranges import Number, Share
from skoots.registry import Registry


@dataclass(frozen=True)
class Decoder(ABC):
    """From the maps of a network to instances, in two steps: seeds, one for each object, and the voxels of each
    seed.

    Validation, scores, pictures and ``segment`` all decode through this class, so that the score that chose a
    snapshot is the score of what it segments.

    Attributes:
        reads: the maps that it needs, by name.

    Args:
        semantic_threshold: probability above which a voxel belongs to an object.
        min_size: objects of fewer voxels are dropped.
    """

    reads: ClassVar[Mapping[str, MapType]] = {"semantic": PROBABILITY}

    semantic_threshold: Share = 0.5
    min_size: Number = 0

    @abstractmethod
    def seeds(self, maps: Maps) -> np.ndarray:
        """(*S) int32 labels 1..n of the seeds, 0 elsewhere."""

    def assign(self, maps: Maps, seeds: np.ndarray, box: Box | None = None) -> np.ndarray:
        """int32 labels of a box (None: of all), given the seeds of the whole; by default these themselves."""
        return seeds if box is None else seeds[box.slices]

    def longest_walk(self, maps: Maps) -> tuple[int, ...]:
        """D voxels around a box that ``assign`` reads for it."""
        return (0,) * len(maps.shape)

    def foreground(self, maps: Maps) -> np.ndarray:
        """(*S) bool: inside an object."""
        return maps.above("semantic", self.semantic_threshold)

    def decode(self, maps: Maps) -> np.ndarray:
        """(*S) int32 labels 1..n, 0 = background."""
        labels = self.assign(maps, self.seeds(maps))
        return close_gaps(np.bincount(labels.ravel()), self.min_size)[labels]


DECODERS: Registry[Decoder] = Registry(
    "decoder",
    Decoder,
    home=[
        "skoots.instances.decoders.skeleton",
        "skoots.instances.decoders.landing",
        "skoots.instances.decoders.persistence",
        "skoots.instances.decoders.watershed",
    ],
)
