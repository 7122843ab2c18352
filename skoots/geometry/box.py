"""A box of voxels: the one word for "where" in the whole package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Half-open box of voxels, any number of dimensions, in array order (z, y, x).

    Args:
        start: first voxel per axis.
        stop: one past the last voxel per axis.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", tuple(int(v) for v in self.start))
        object.__setattr__(self, "stop", tuple(int(v) for v in self.stop))
        if len(self.start) != len(self.stop):
            raise ValueError(f"start {self.start} and stop {self.stop} differ in length")

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Box:
        """The box of a whole array."""
        return cls((0,) * len(shape), tuple(shape))

    @classmethod
    def at(cls, start: Sequence[int], shape: Sequence[int]) -> Box:
        """The box of a given shape that begins at ``start``."""
        return cls(tuple(start), tuple(a + n for a, n in zip(start, shape)))

    @property
    def ndim(self) -> int:
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(max(0, b - a) for a, b in zip(self.start, self.stop))

    @property
    def size(self) -> int:
        product = 1
        for n in self.shape:
            product *= n
        return product

    @property
    def is_empty(self) -> bool:
        return self.size == 0

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index an array with this; the box must not begin below zero."""
        if any(a < 0 for a in self.start):
            raise ValueError(f"{self} begins outside the array; intersect it first")
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop))

    def grow(self, margin: int | Sequence[int]) -> Box:
        """Wider by ``margin`` voxels on both sides of every axis."""
        m = (margin,) * self.ndim if isinstance(margin, int) else tuple(margin)
        return Box(tuple(a - k for a, k in zip(self.start, m)), tuple(b + k for b, k in zip(self.stop, m)))

    def shift(self, offset: Sequence[int]) -> Box:
        return Box(
            tuple(a + o for a, o in zip(self.start, offset)), tuple(b + o for b, o in zip(self.stop, offset))
        )

    def relative_to(self, other: Box) -> Box:
        """The same voxels, counted from the start of ``other``."""
        return self.shift(tuple(-a for a in other.start))

    def intersect(self, other: Box) -> Box:
        """What both have in common; empty boxes have stop == start."""
        start = tuple(max(a, c) for a, c in zip(self.start, other.start))
        stop = tuple(max(s, min(b, d)) for s, b, d in zip(start, self.stop, other.stop))
        return Box(start, stop)

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            tuple(min(a, c) for a, c in zip(self.start, other.start)),
            tuple(max(b, d) for b, d in zip(self.stop, other.stop)),
        )

    def contains(self, other: Box) -> bool:
        return all(a <= c and d <= b for a, b, c, d in zip(self.start, self.stop, other.start, other.stop))
