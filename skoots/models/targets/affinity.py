"""Target of the affinity head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skoots.models.targets.base import TARGET_GENERATORS, TargetGenerator
from skoots.samples import Batch, as_numbers

NEAR_AND_FAR = (1, 5)  # voxels along every axis


@TARGET_GENERATORS.register
class AffinityTarget(TargetGenerator):
    """``affinity``: 1 where a voxel and the one some voxels before it along an axis are of the same object.

    Channels are the axes at the first distance, then those at the next (as in Lee et al. 2017); what a pair
    that leaves the crop would be is taken from the voxel itself: 1 inside objects.

    Args:
        distances: voxels.
    """

    def __init__(self, distances: Sequence[int] = NEAR_AND_FAR) -> None:
        self.distances = tuple(distances)

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        labels = batch.labels
        channels = []
        for distance in self.distances:
            for axis in range(1, labels.ndim):
                before = torch.roll(labels, distance, axis)
                rim = (slice(None),) * axis + (slice(0, distance),)
                before[rim] = labels[rim]
                channels.append((labels == before) & (labels > 0))
        return {"affinity": as_numbers(torch.stack(channels, 1), batch.images.dtype)}
