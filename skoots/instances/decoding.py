"""Decoding: from the three maps of a network to instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skoots.instances.components import label_components
from skoots.instances.follow import follow_vectors
from skoots.instances.relabel import drop_small, renumber

MOST = {"steps": 1000, "reach": 50}  # far beyond what helps; all places within reach are listed


@dataclass(frozen=True)
class Decoding:
    """How maps become instances.

    Args:
        skeleton_threshold: skeleton probability above which a voxel belongs to a skeleton.
        semantic_threshold: probability above which a voxel belongs to an object.
        steps: at most so many vectors are followed by a voxel.
        reach: a voxel that has found no skeleton looks so far around, in units of the finest voxel axis.
        min_skeleton: skeletons of fewer voxels are noise.
        min_size: instances of fewer voxels are dropped.
    """

    skeleton_threshold: float = 0.5
    semantic_threshold: float = 0.5
    steps: int = 5
    reach: float = 5.0
    min_skeleton: int = 1
    min_size: int = 0

    def __post_init__(self) -> None:
        for name in ("skeleton_threshold", "semantic_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1]")
        for name in ("min_skeleton", "min_size"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative")
        for name, most in MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie in [0, {most}]")


def decode(
    vector: np.ndarray,
    semantic: np.ndarray,
    skeleton: np.ndarray,
    scale: Sequence[float],
    voxel_size: Sequence[float] | None = None,
    decoding: Decoding | None = None,
) -> np.ndarray:
    """Instances of one array of maps, all in memory.

    Args:
        vector: (D, *S) in [-1, 1], or int8 in [-127, 127].
        semantic: (*S) probability of being inside an object, or the mask itself.
        skeleton: (*S) probability of lying near a skeleton, or the mask itself.
        scale: D voxels that a vector of length 1 spans.
        voxel_size: D edge lengths of a voxel. None means isotropic.
        decoding: thresholds and steps; None takes the defaults.

    Returns:
        (*S) int32 labels 1..n, 0 = background.
    """
    settings = decoding or Decoding()
    foreground = semantic > settings.semantic_threshold
    on_skeleton = (skeleton > settings.skeleton_threshold) & foreground
    skeleton_labels = label_components(on_skeleton, settings.min_skeleton)
    labels = follow_vectors(
        vector, foreground, skeleton_labels, scale, voxel_size, settings.steps, settings.reach
    )
    return renumber(drop_small(labels, settings.min_size))
