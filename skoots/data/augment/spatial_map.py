"""Where every voxel of a crop comes from: one map, composed in coordinates before any voxel is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from skoots.compiled import compiled
from skoots.errors import SkootsError
from skoots.geometry import Box, relative_spacing

EXACT = 1e-12  # cosines of right angles miss 0 and 1 by less
CONVERGED = 1e-7  # voxels
MOST_ROUNDS = 10_000
RIM_VOXELS = 32  # looked at along an axis to find how far a map reaches


@dataclass(frozen=True)
class Displacement:
    """Displacements of the nodes of a grid, linear in between and constant beyond.

    Args:
        values: (*G, D) float64 voxels.
        origin: D voxel coordinates of the first node.
        spacing: D voxels between nodes.
    """

    values: np.ndarray
    origin: tuple[float, ...]
    spacing: tuple[float, ...]

    @property
    def steepness(self) -> float:
        """A bound of the change of displacement over distance: the spectral radius of ``slopes``.

        Below 1 there is a norm (a weighted maximum, after Perron and Frobenius) in which the displacement is
        a contraction. Adding it is then one to one: nothing is shown twice, and the Jacobian is positive
        everywhere. Shifts of whole sections within their plane have none, whatever their length.
        """
        return float(np.abs(np.linalg.eigvals(self.slopes())).max())

    def slopes(self) -> np.ndarray:
        """(D, D) bounds of the change of each component (column) over a voxel along each axis (row)."""
        ndim = len(self.origin)
        steps = [np.diff(self.values, axis=axis).reshape(-1, ndim) for axis in range(ndim)]
        return np.stack([np.abs(step).max(0, initial=0) / h for step, h in zip(steps, self.spacing)])


class Chain(NamedTuple):
    """The steps of a map as the compiled loops read them, always in three dimensions.

    Args:
        matrices: (n + 1, 3, 3).
        offsets: (n + 1, 3).
        fields: displacements of all nodes of all n grids, three numbers a node.
        begins: (n,) where each grid begins in ``fields``.
        shapes: (n, 3) nodes.
        origins: (n, 3) voxels.
        densities: (n, 3) nodes a voxel.
    """

    matrices: np.ndarray
    offsets: np.ndarray
    fields: np.ndarray
    begins: np.ndarray
    shapes: np.ndarray
    origins: np.ndarray
    densities: np.ndarray


@dataclass(frozen=True)
class SpatialMap:
    """From a voxel of the crop to the place in the volume that it shows, both counted from the crop's start.

    A position goes through the first matrix, the first displacement, the second matrix, and so on; there is
    one matrix more than displacements.

    Args:
        matrices: each (D, D).
        offsets: each (D,), added after the matrix.
        displacements: between the matrices.
    """

    matrices: tuple[np.ndarray, ...]
    offsets: tuple[np.ndarray, ...]
    displacements: tuple[Displacement, ...] = ()

    @classmethod
    def identity(cls, ndim: int) -> SpatialMap:
        """Every voxel shows itself."""
        return cls((np.eye(ndim),), (np.zeros(ndim),))

    @classmethod
    def about_centre(
        cls, shape: Sequence[int], backward: np.ndarray, shift: Sequence[float] | None = None
    ) -> SpatialMap:
        """A linear map about the centre of a crop.

        Args:
            shape: voxels of the crop.
            backward: (D, D), from crop to volume.
            shift: D voxels by which things move in the crop afterwards.
        """
        nearest = np.rint(backward)
        matrix = np.where(np.abs(backward - nearest) < EXACT, nearest, backward)
        centre = (np.array(shape) - 1) / 2
        moved = centre if shift is None else centre + np.asarray(shift, float)
        return cls((matrix,), (centre - matrix @ moved,))

    @classmethod
    def physical(
        cls,
        shape: Sequence[int],
        voxel_size: Sequence[float],
        forward: np.ndarray,
        shift: Sequence[float] | None = None,
    ) -> SpatialMap:
        """A linear map about the centre of a crop, given in physical space and in the direction in which
        things move.

        Args:
            shape: voxels of the crop.
            voxel_size: D edge lengths of a voxel.
            forward: (D, D), where things go.
            shift: D voxels by which they move afterwards.
        """
        size = np.array(relative_spacing(voxel_size))
        backward = np.linalg.inv(forward) * size / size[:, None]
        return cls.about_centre(shape, backward, shift)

    @classmethod
    def displaced(cls, displacement: Displacement) -> SpatialMap:
        """Each voxel shows the place that lies a displacement away.

        Raises:
            SkootsError: the displacement is so steep that it may fold the image.
        """
        if not displacement.steepness < 1:
            raise SkootsError(
                f"A displacement of steepness {displacement.steepness:.3g} may fold the image, and skeleton "
                "points could not follow it. Make it smaller or smoother, so that this stays below 1."
            )
        ndim = len(displacement.origin)
        return cls((np.eye(ndim),) * 2, (np.zeros(ndim),) * 2, (displacement,))

    def then(self, later: SpatialMap) -> SpatialMap:
        """This map, and another one of what it shows, as one."""
        matrix = self.matrices[0] @ later.matrices[-1]
        offset = self.matrices[0] @ later.offsets[-1] + self.offsets[0]
        return SpatialMap(
            (*later.matrices[:-1], matrix, *self.matrices[1:]),
            (*later.offsets[:-1], offset, *self.offsets[1:]),
            (*later.displacements, *self.displacements),
        )

    @property
    def ndim(self) -> int:
        return len(self.offsets[0])

    @property
    def is_turn(self) -> bool:
        """Whether voxels are only permuted (flips, right angles, whole shifts), so that none is
        interpolated."""
        if self.displacements:
            return False
        matrix, offset = self.matrices[0], self.offsets[0]
        ones = np.abs(matrix)
        return bool(
            np.isin(ones, (0, 1)).all()
            and (ones.sum(0) == 1).all()
            and (ones.sum(1) == 1).all()
            and (offset == np.rint(offset)).all()
        )

    def backward(self, positions: np.ndarray) -> np.ndarray:
        """Where the given places of the crop come from.

        Args:
            positions: (N, D) voxels.
        """
        places = self._in_three(positions)
        locate(places, *self.chain)
        return np.ascontiguousarray(places[3 - self.ndim :].T)

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Where the given points of the volume are shown: the exact inverse, to a millionth of a voxel.

        Args:
            points: (N, D) voxels, counted from the crop's start.
        """
        places = self._in_three(points)
        find(places, np.linalg.inv(self.chain.matrices), *self.chain[1:])
        return np.ascontiguousarray(places[3 - self.ndim :].T)

    def magnification(self, positions: np.ndarray) -> np.ndarray:
        """(N,) how much longer things are shown at these places of the crop, as the mean of all directions:
        the D-th root of the change in volume."""
        if self.displacements:
            steps = np.eye(self.ndim) / 2
            columns = [self.backward(positions + step) - self.backward(positions - step) for step in steps]
            volume = np.linalg.det(np.stack(columns, -1))
        else:
            volume = np.full(len(positions), np.linalg.det(self.matrices[0]))
        return np.abs(volume) ** (-1 / self.ndim)

    def reach(self, shape: Sequence[int]) -> Box:
        """The voxels that a crop needs, neighbours for interpolation counted; relative to the crop's start.

        A continuous one-to-one map takes the faces of a box to the faces of its image, so only these are
        looked at, and only at some voxels: the margin is what a map can bulge between them. Without
        displacements there is none, and the box is exact.
        """
        stride = [max(1, n // RIM_VOXELS) for n in shape] if self.displacements else list(shape)
        places = self.backward(_rim(shape, stride))
        step, margin = np.abs(self.matrices[0]) @ np.array(stride) / 2, np.zeros(self.ndim)
        for matrix, displacement in zip(self.matrices[1:], self.displacements):
            bulge = displacement.slopes().T @ step
            step, margin = np.abs(matrix) @ (step + bulge), np.abs(matrix) @ (margin + bulge)
        low, high = places.min(0) - margin, places.max(0) + margin
        return Box(tuple(int(v) for v in np.floor(low)), tuple(int(v) + 1 for v in np.ceil(high)))

    @cached_property
    def chain(self) -> Chain:
        """For the compiled loops."""
        missing = 3 - self.ndim
        matrices = np.stack([np.eye(3)] * len(self.matrices))
        matrices[:, missing:, missing:] = self.matrices
        offsets = np.zeros((len(self.offsets), 3))
        offsets[:, missing:] = self.offsets
        count = len(self.displacements)
        shapes, origins = np.ones((count, 3), np.int64), np.zeros((count, 3))
        densities, begins = np.ones((count, 3)), np.zeros(count, np.int64)
        fields, length = [np.zeros(0)], 0
        for i, displacement in enumerate(self.displacements):
            values = displacement.values
            shapes[i, missing:] = values.shape[:-1]
            origins[i, missing:] = displacement.origin
            densities[i, missing:] = 1 / np.array(displacement.spacing)
            begins[i] = length
            padded = np.concatenate([np.zeros((*values.shape[:-1], missing)), values], axis=-1)
            fields.append(padded.ravel())
            length += padded.size
        return Chain(matrices, offsets, np.concatenate(fields), begins, shapes, origins, densities)

    def _in_three(self, positions: np.ndarray) -> np.ndarray:
        places = np.zeros((3, len(positions)))
        places[3 - self.ndim :] = np.asarray(positions).T
        return places

    def __getstate__(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("matrices", "offsets", "displacements")}


def _rim(shape: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """(N, D) voxels on the faces of a box, its corners and every so many in between."""
    axes = [np.unique([*range(0, n, s), n - 1]) for n, s in zip(shape, stride)]
    faces = []
    for axis, n in enumerate(shape):
        ends = [np.unique([0, n - 1]) if axis == other else at for other, at in enumerate(axes)]
        faces.append(np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, len(shape)))
    return np.concatenate(faces).astype(float)


# Division by zero is no concern, and checking for it is half of the time.
unchecked = compiled(error_model="numpy")

# Together these four are a third of the time.
inlined = compiled(error_model="numpy", inline="always")


@inlined
def neighbours(place, length):  # type: ignore[no-untyped-def]
    """The elements before and after a place on an axis, whose ends are repeated, and the share of the
    second."""
    within = min(max(place, 0.0), length - 1.0)
    before = int(within)
    return before, min(before + 1, length - 1), within - before


@unchecked
def locate(places, matrices, offsets, fields, begins, shapes, origins, densities):  # type: ignore[no-untyped-def]
    """Where places of the crop come from; (3, N), changed in place."""
    _multiply(places, matrices[0], offsets[0])
    for i in range(len(begins)):
        _displace(places, i, fields, begins, shapes, origins, densities)
        _multiply(places, matrices[i + 1], offsets[i + 1])


@unchecked
def _displace(places, i, fields, begins, shapes, origins, densities):  # type: ignore[no-untyped-def]
    """Add displacement ``i`` to places."""
    count = places.shape[1]
    straight = count > shapes[i, 2]
    for n in range(1, count):
        straight &= places[0, n] == places[0, 0] and places[1, n] == places[1, 0]
    if not straight:
        for n in range(count):
            z, y, x = places[0, n], places[1, n], places[2, n]
            dz, dy, dx = _displacement(z, y, x, i, fields, begins, shapes, origins, densities)
            places[0, n], places[1, n], places[2, n] = z + dz, y + dy, x + dx
        return
    # Places that differ along the last axis alone share what lies between the nodes of the others.
    z, y, columns = places[0, 0], places[1, 0], shapes[i, 2]
    z0, z1, fz = neighbours((z - origins[i, 0]) * densities[i, 0], shapes[i, 0])
    y0, y1, fy = neighbours((y - origins[i, 1]) * densities[i, 1], shapes[i, 1])
    begin, rows = begins[i], shapes[i, 1]
    first, second = begin + (z0 * rows + y0) * columns * 3, begin + (z0 * rows + y1) * columns * 3
    third, fourth = begin + (z1 * rows + y0) * columns * 3, begin + (z1 * rows + y1) * columns * 3
    line = np.empty(3 * columns)
    for k in range(3 * columns):
        line[k] = _between(fields, first + k, second + k, third + k, fourth + k, fz, fy)
    origin, density = origins[i, 2], densities[i, 2]
    for n in range(count):
        x = places[2, n]
        x0, x1, fx = neighbours((x - origin) * density, columns)
        a, b = np.uint64(3 * x0), np.uint64(3 * x1)
        places[0, n] = z + _along(line, a, b, fx)
        places[1, n] = y + _along(line, a + np.uint64(1), b + np.uint64(1), fx)
        places[2, n] = x + _along(line, a + np.uint64(2), b + np.uint64(2), fx)


@unchecked
def find(places, inverses, offsets, fields, begins, shapes, origins, densities):  # type: ignore[no-untyped-def]
    """The inverse of ``locate``: its steps undone from the last to the first."""
    nothing = np.zeros(3)
    for step in range(len(begins), -1, -1):
        for k in range(3):
            places[k] -= offsets[step, k]
        _multiply(places, inverses[step], nothing)
        if step == 0:
            break
        # A displacement d is undone by q = p - d(q), repeated, which ends since d is a contraction.
        for n in range(places.shape[1]):
            tz, ty, tx = places[0, n], places[1, n], places[2, n]
            z, y, x = tz, ty, tx
            for _ in range(MOST_ROUNDS):
                dz, dy, dx = _displacement(z, y, x, step - 1, fields, begins, shapes, origins, densities)
                moved = max(abs(tz - dz - z), abs(ty - dy - y), abs(tx - dx - x))
                z, y, x = tz - dz, ty - dy, tx - dx
                if moved < CONVERGED:
                    break
            places[0, n], places[1, n], places[2, n] = z, y, x


@unchecked
def _multiply(places, m, offset):  # type: ignore[no-untyped-def]
    for n in range(places.shape[1]):
        z, y, x = places[0, n], places[1, n], places[2, n]
        places[0, n] = m[0, 0] * z + m[0, 1] * y + m[0, 2] * x + offset[0]
        places[1, n] = m[1, 0] * z + m[1, 1] * y + m[1, 2] * x + offset[1]
        places[2, n] = m[2, 0] * z + m[2, 1] * y + m[2, 2] * x + offset[2]


@inlined
def _displacement(z, y, x, i, fields, begins, shapes, origins, densities):  # type: ignore[no-untyped-def]
    """What displacement ``i`` adds at a place."""
    z0, z1, fz = neighbours((z - origins[i, 0]) * densities[i, 0], shapes[i, 0])
    y0, y1, fy = neighbours((y - origins[i, 1]) * densities[i, 1], shapes[i, 1])
    x0, x1, fx = neighbours((x - origins[i, 2]) * densities[i, 2], shapes[i, 2])
    begin, rows, columns = begins[i], shapes[i, 1], shapes[i, 2]
    first, second = begin + (z0 * rows + y0) * columns * 3, begin + (z0 * rows + y1) * columns * 3
    third, fourth = begin + (z1 * rows + y0) * columns * 3, begin + (z1 * rows + y1) * columns * 3
    a, b = 3 * x0, 3 * x1
    dz = _between(fields, first + a, second + a, third + a, fourth + a, fz, fy)
    ez = _between(fields, first + b, second + b, third + b, fourth + b, fz, fy)
    dy = _between(fields, first + a + 1, second + a + 1, third + a + 1, fourth + a + 1, fz, fy)
    ey = _between(fields, first + b + 1, second + b + 1, third + b + 1, fourth + b + 1, fz, fy)
    dx = _between(fields, first + a + 2, second + a + 2, third + a + 2, fourth + a + 2, fz, fy)
    ex = _between(fields, first + b + 2, second + b + 2, third + b + 2, fourth + b + 2, fz, fy)
    return dz + fx * (ez - dz), dy + fx * (ey - dy), dx + fx * (ex - dx)


@inlined
def _between(fields, first, second, third, fourth, fz, fy):  # type: ignore[no-untyped-def]
    """Of four lines of nodes: first along z, then along y."""
    # Unsigned, since what may be negative is checked for counting from the end.
    a, b = fields[np.uint64(first)], fields[np.uint64(second)]
    if fz > 0.0:
        a += fz * (fields[np.uint64(third)] - a)
        b += fz * (fields[np.uint64(fourth)] - b)
    return a + fy * (b - a)


@inlined
def _along(line, a, b, fx):  # type: ignore[no-untyped-def]
    return line[a] + fx * (line[b] - line[a])
