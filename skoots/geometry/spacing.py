"""Lengths: a scalar is physical, in units of the finest voxel axis; a list is voxels per axis."""

from __future__ import annotations

from collections.abc import Sequence

from skoots.errors import VolumeError

LONGEST = 200


def relative_spacing(voxel_size: Sequence[float]) -> tuple[float, ...]:
    """Voxel size in units of its finest axis, e.g. (50, 9.2, 9.2) nm -> (5.43, 1, 1).

    Args:
        voxel_size: edge lengths of a voxel per axis, in any unit.

    Raises:
        VolumeError: an edge is no length, or so long beside another one that a number was mistyped.
    """
    finest = min(voxel_size)
    if not (finest > 0 and all(v / finest <= LONGEST for v in voxel_size)):
        edges = ", ".join(f"{v:g}" for v in voxel_size)
        raise VolumeError(
            f"No voxel has the edges {edges}: they are positive, and at most {LONGEST} times each other. "
            "Give the true voxel size."
        )
    return tuple(float(v) / finest for v in voxel_size)


def to_voxels(length: float | Sequence[float], voxel_size: Sequence[float]) -> tuple[float, ...]:
    """A length as voxels per axis.

    Args:
        length: a scalar in units of the finest voxel axis, or a list that is voxels per axis already.
        voxel_size: edge lengths of a voxel per axis, in any unit.
    """
    if isinstance(length, Sequence):
        if len(length) != len(voxel_size):
            raise ValueError(f"{list(length)} has {len(length)} numbers for {len(voxel_size)} axes")
        return tuple(float(v) for v in length)
    return tuple(float(length) / s for s in relative_spacing(voxel_size))
