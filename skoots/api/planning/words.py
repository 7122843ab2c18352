"""What was measured, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from skoots.api.planning.decision import by, some
from skoots.api.planning.measured import Measured
from skoots.data.object_geometry import ObjectGeometry
from skoots.geometry import relative_spacing


def about(data: Measured, device: torch.device) -> list[str]:
    """What was measured, in sentences."""
    volumes, headers, geometry = data.volumes, data.headers, data.geometry
    largest = max((volume.shape for volume in volumes), key=math.prod)
    size = volumes[0].voxel_size
    unit = headers[0][0].unit or headers[0][1].unit or ""
    small, middle, large = np.percentile(geometry.inscribed, [5, 50, 95])
    short, usual, long = np.percentile(geometry.lengths, [5, 50, 95])
    return [
        f"{some(len(volumes), 'volume')} of up to {by(largest)} voxels of {by(size)} {unit}".rstrip()
        + f" (in proportion {by([round(s, 2) for s in relative_spacing(size)])}); planned for {device}.",
        f"{some(len(geometry), 'object')} to learn from, of {int(np.median(geometry.sizes)):,} voxels in "
        f"the middle; inscribed radius {small:.1f} / {middle:.1f} / {large:.1f} and skeleton length "
        f"{short:.0f} / {usual:.0f} / {long:.0f} finest voxels (5 / 50 / 95 %).",
        f"{100 * geometry.foreground_share:.0f} % foreground; {some(geometry.touching, 'pair')} of objects "
        f"share a face, {geometry.close} more come within a voxel of each other.",
    ]


def warn(data: Measured, given: Sequence[float] | None) -> list[str]:
    """What the user should look at.

    Args:
        data: measured.
        given: voxel size that the user stated.
    """
    warnings, geometry = [], data.geometry
    if data.silent and given is None:
        others = f" and {len(data.silent) - 1} others" if len(data.silent) > 1 else ""
        warnings.append(
            f"{data.silent[0].path}{others} state no voxel size, so voxels are taken for cubes. "
            f"{shape_of(geometry)} Plan again with --voxel-size if they are no cubes."
        )
    if geometry.touching_skeletons:
        warnings.append(
            f"The skeletons of {some(geometry.touching_skeletons, 'pair')} of objects touch: decoding "
            "merges these, however well the network learns."
        )
    return warnings


def shape_of(geometry: ObjectGeometry) -> str:
    """How long objects are along each axis, and what that would say about voxels."""
    extent = np.median(geometry.stops - geometry.starts, axis=0)
    return (
        f"Half of the objects are longer than {by(extent)} voxels; were they as long along every axis, "
        f"voxels would be {by((extent.max() / extent).round(1))}."
    )
