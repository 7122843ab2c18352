"""The contract of decoders, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_type_hints

import numpy as np

from skoots.geometry import Box
from skoots.instances.maps import PROBABILITY, Maps, MapType
from skoots.instances.relabel import close_gaps
from skoots.ranges import Number, Share, check_range
from skoots.registry import Registry


@dataclass(frozen=True)
class Decoder(ABC):
    """From the maps of a network to instances: first seeds, one for each object, then the voxels of each.

    Validation, scores, pictures and ``segment`` all decode through this class, so that the score that chose a
    snapshot is the score of what it segments. Fields are what a config may set, within the ranges of their
    annotations.

    Args:
        semantic_threshold: probability above which a voxel belongs to an object.
        min_size: objects of fewer voxels are dropped.

    Attributes:
        tried: values of settings that ``tune`` tries, those that matter most first.
    """

    tried: ClassVar[Mapping[str, Sequence[Any]]] = {"semantic_threshold": (0.3, 0.4, 0.5, 0.6, 0.7)}

    semantic_threshold: Share = 0.5
    min_size: Number = 0

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            check_range(field.name, getattr(self, field.name), hints[field.name])

    def __str__(self) -> str:
        """Its name, and the settings that are not the defaults of its class."""
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return type(self).__name__ + (f"({', '.join(changed)})" if changed else "")

    @property
    def reads(self) -> Mapping[str, MapType]:
        """The maps that it needs, by name."""
        return {"semantic": PROBABILITY}

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

    def decode(self, maps: Maps, box: Box | None = None) -> np.ndarray:
        """int32 labels 1..n of the whole, 0 = background; all (*S) of them, or those of a box."""
        labels = self.assign(maps, self.seeds(maps))
        final = close_gaps(np.bincount(labels.ravel(), minlength=1), self.min_size)
        return final[labels if box is None else labels[box.slices]]

    def lacks(self, channels: Mapping[str, int], ndim: int, scale: Sequence[float] | None) -> list[str]:
        """Which of the maps that it reads a network does not give, in words; none if it can decode.

        Args:
            channels: of the network's maps, by name.
            ndim: spatial dimensions.
            scale: D voxels that its vectors span; None if it has none.
        """
        missing = []
        for name, kind in self.reads.items():
            wanted = kind.channels(ndim)
            if name not in channels:
                missing.append(name)
            elif channels[name] != wanted:
                missing.append(f"{name} of {wanted} channel{'s' * (wanted > 1)}")
            elif kind.per_axis and scale is None:
                missing.append(f"the scale of {name}")
        return missing


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
