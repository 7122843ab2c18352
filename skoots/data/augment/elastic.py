"""Elastic deformation: smooth random displacements that never fold."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from skoots.data.augment.base import AUGMENTATIONS, Frame, SpatialAugmentation, per_axis
from skoots.data.augment.spatial_map import Displacement, SpatialMap
from skoots.geometry import relative_spacing
from skoots.ranges import Count, NotNegative, Share

log = logging.getLogger("skoots")
STEEPEST = 0.8  # change of displacement over distance; from 1 on the map might fold
MOST_NODES, VOXELS_A_NODE = 8, 2  # between control points


@AUGMENTATIONS.register
class Elastic(SpatialAugmentation):
    """Displace a grid of control points at random and everything between them smoothly, with probability
    ``rate``.

    Displacements are a cubic B-spline (Lee, Wolberg & Shin 1997), laid down at up to eight nodes between
    control points and linear from node to node, so that skeleton points can follow exactly. A draw that is so
    steep that it might fold the image is weakened, and the first one is reported, once in
    each process.

    Args:
        rate: in [0, 1].
        grid: control points. A number counts those along the physically longest axis of the crop, and the
            others have them at the same distance; a list has a number per axis (2D takes the last two).
        magnitude: largest displacement of a control point. A number is a share of half of the longest axis,
            physically the same in all directions; a list has for each axis a share of half of its own length.
    """

    def __init__(
        self,
        rate: Share = 0.33,
        grid: Count | list[Count] = 6,
        magnitude: NotNegative | list[NotNegative] = 0.05,
    ) -> None:
        for points, share in _each_axis(grid, magnitude):
            if share * (points - 1) > 1:
                raise ValueError(
                    f"a magnitude of {share:g} with {points:g} control points folds the image. "
                    f"With so many points stay at or below {1 / (points - 1):.3g}"
                )
        self.rate, self.grid, self.magnitude = rate, grid, magnitude
        self._said: list[bool] = []  # shared with copies, so that the rehearsal counts

    def draw(self, frame: Frame, rng: np.random.Generator) -> SpatialMap | None:
        if rng.random() >= self.rate:
            return None
        points, most = self._controls(frame)
        # A cubic spline between n points rests on one more at either end.
        supports = [n + 2 if n > 1 else 1 for n in points]
        values = rng.uniform(-1, 1, (*supports, frame.ndim)) * most
        for axis, (n, length) in enumerate(zip(points, frame.shape)):
            values = np.moveaxis(np.tensordot(_spline_weights(n, length), values, (1, axis)), 0, axis)
        nodes = values.shape[:-1]
        spacing = tuple((length - 1) / (n - 1) if n > 1 else 1.0 for length, n in zip(frame.shape, nodes))
        drawn = Displacement(np.ascontiguousarray(values), (0.0,) * frame.ndim, spacing)
        return SpatialMap.displaced(self._unfolded(drawn))

    def _controls(self, frame: Frame) -> tuple[list[int], np.ndarray]:
        """Control points per axis, and voxels of the largest displacement."""
        extent = np.array(frame.shape, float) - 1
        size = np.array(relative_spacing(frame.voxel_size))
        longest = float((extent * size).max())
        if isinstance(self.grid, Sequence):
            points = per_axis(self.grid, frame.ndim, "Elastic: grid")
        else:
            points = [1 + round((self.grid - 1) * e / max(longest, 1.0)) for e in extent * size]
        points = [n if e > 0 else 1 for n, e in zip(points, extent)]
        if isinstance(self.magnitude, Sequence):
            shares = per_axis(self.magnitude, frame.ndim, "Elastic: magnitude")
            return points, np.array(shares) * extent / 2
        return points, self.magnitude * longest / 2 / size

    def _unfolded(self, drawn: Displacement) -> Displacement:
        steepness = drawn.steepness
        if steepness <= STEEPEST:
            return drawn
        if not self._said:
            self._said.append(True)
            log.warning(
                "Elastic: a draw was weakened by %.0f %%, since it might have folded the image; so will "
                "others be. A smaller magnitude, or fewer control points, avoids this.",
                100 * (1 - STEEPEST / steepness),
            )
        return Displacement(drawn.values * (STEEPEST / steepness), drawn.origin, drawn.spacing)


def _spline_weights(points: int, length: int) -> np.ndarray:
    """(nodes, points + 2) weights of the control points at each node of an axis of so many voxels."""
    if points == 1:
        return np.ones((1, 1))
    each = min(max(round((length - 1) / (points - 1) / VOXELS_A_NODE), 1), MOST_NODES)
    nodes = np.linspace(0, points - 1, each * (points - 1) + 1)
    distance = np.abs(nodes[:, None] - np.arange(-1, points + 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    return np.where(distance < 1, near, np.clip(2 - distance, 0, None) ** 3 / 6)


def _each_axis(*values: float | Sequence[float]) -> Iterator[tuple[float, ...]]:
    """For every axis one of each; a number counts for all, and of a longer list the last axes."""
    length = min((len(value) for value in values if isinstance(value, Sequence)), default=1)
    lists = [value if isinstance(value, Sequence) else [value] * length for value in values]
    return zip(*(value[len(value) - length :] for value in lists))
