"""What the heads learn: vector scale, sigma, core and boundary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skoots.api.decide import SCALE_MARGIN, SCALE_QUANTILE
from skoots.api.planning.decision import Decision, by
from skoots.data.object_geometry import ObjectGeometry

SIGMA = (4.0, 10.0)  # finest voxels; narrower ones hardly learn, wider ones do not tell neighbours apart
DECAY = 0.66  # as in the original SKOOTS


def decide_targets(geometry: ObjectGeometry, scale: Sequence[float], epochs: int) -> list[Decision]:
    """The heads.

    Args:
        geometry: of the objects.
        scale: D voxels, see ``choose_vector_scale``.
        epochs: of the training.
    """
    sigma = round(float(np.clip(np.median(geometry.inscribed), *SIGMA)), 1)
    steps = sorted({max(1, round(epochs * quarter / 4)) for quarter in (1, 2, 3)})
    end = sigma * DECAY ** len(steps)
    return [
        Decision("model.heads.vector.type", "VectorHead"),
        Decision(
            "model.heads.vector.scale",
            list(scale),
            f"{SCALE_QUANTILE:g} % of the voxels lie within "
            f"{by([round(s / SCALE_MARGIN, 1) for s in scale])} voxels of "
            f"their object's skeleton; {round(100 * (SCALE_MARGIN - 1))} % are added (at least 2 voxels in "
            "all), and "
            "voxels beyond follow several vectors.",
        ),
        Decision(
            "model.heads.vector.sigma",
            sigma,
            f"The median inscribed radius is {np.median(geometry.inscribed):.1f} finest voxels; sigma "
            "begins there (within "
            f"{SIGMA[0]:g} and {SIGMA[1]:g}), so that a vector that ends anywhere in the cross-section "
            "counts, and ends at "
            f"{end:.1f}, so that only one near the middle does.",
        ),
        Decision("model.heads.vector.sigma_decay", [[DECAY, epoch] for epoch in steps]),
        Decision(
            "model.heads.vector.distance_weight",
            0.1,
            "A gradient also for vectors that miss by several sigma.",
        ),
        Decision("model.heads.semantic", {"type": "SemanticHead", "criterion": ["Tversky", "BCE"]}),
        Decision(
            "model.heads.skeleton",
            {"type": "SkeletonHead"},
            "Learns the core of objects, which a network can tell by what lies around a voxel.",
        ),
        Decision(
            "model.heads.boundary",
            {"type": "BoundaryHead", "weight": 0.5},
            "Teaches the network where objects end; decoders may use it, too.",
        ),
    ]
