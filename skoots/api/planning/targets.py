"""What the heads learn: vector scale, sigma, skeleton radius."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skoots.api.decide import SCALE_MARGIN, SCALE_QUANTILE
from skoots.api.planning.decision import Decision, by
from skoots.data.object_geometry import ObjectGeometry
from skoots.skeletons.mask import SMALLEST_AUTO_RADIUS

SIGMA = (4.0, 10.0)  # finest voxels; narrower ones hardly learn, wider ones do not tell neighbours apart
DECAY = 0.66  # as in the original SKOOTS
UNEVEN = 0.7  # below, the radius of most objects changes so much that one radius an object fills thin parts
MASK_OF_CALIBRE = 0.75


def decide_targets(geometry: ObjectGeometry, scale: Sequence[float], epochs: int) -> list[Decision]:
    """The three heads.

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
        Decision("model.heads.skeleton.type", "SkeletonHead"),
        _skeleton(geometry),
    ]


def _skeleton(geometry: ObjectGeometry) -> Decision:
    key = "model.heads.skeleton.target_generator"
    even = geometry.evenness
    if even >= UNEVEN:
        small, large = np.percentile(geometry.inscribed, [10, 90])
        radius: Any = "auto"
        reason = (
            f"auto: half of each object's inscribed radius ({small:.1f} to {large:.1f} for most), at least "
            f"{SMALLEST_AUTO_RADIUS}. Along a skeleton the radius stays near it (at {100 * even:.0f} % for "
            "half of them)."
        )
    else:
        calibre = float(np.median(geometry.calibres[:, 0]))
        radius = round(max(SMALLEST_AUTO_RADIUS, MASK_OF_CALIBRE * calibre), 1)
        reason = (
            "A number, since objects swell and narrow (half of them have, along the skeleton, "
            f"{100 * even:.0f} % or less "
            f"of their inscribed radius): {100 * MASK_OF_CALIBRE:.0f} % of the median radius along a "
            "skeleton, "
            f"{calibre:.1f} finest voxels, and at least {SMALLEST_AUTO_RADIUS}."
        )
    return Decision(key, {"type": "SkeletonMaskTarget", "radius": radius}, reason)
