"""The contract of target generators, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from skoots.registry import Registry
from skoots.samples import Batch


class TargetGenerator(ABC):
    """From a batch to what a head should output; pure, on the batch's device."""

    @abstractmethod
    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Named targets, each (B, channels, *S)."""


TARGET_GENERATORS: Registry[TargetGenerator] = Registry(
    "target generator",
    TargetGenerator,
    home=[
        "skoots.models.targets.affinity",
        "skoots.models.targets.boundary",
        "skoots.models.targets.object_core",
        "skoots.models.targets.foreground",
        "skoots.models.targets.offset",
        "skoots.models.targets.relative_depth",
        "skoots.models.targets.skeleton_mask",
    ],
)
