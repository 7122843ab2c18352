"""Taking a number away from voxels without losing what tells them apart.

A 32-bit float holds seven digits and a 64-bit one sixteen, so that integers on a large offset are turned into
floats only after it has been taken away, in their own type."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

Voxel = int | float


def is_counts(dtype: np.dtype) -> bool:
    """Whether voxels are integers of at most 16 bits, all of which 32-bit floats hold with room to spare."""
    return dtype.kind in "iub" and dtype.itemsize <= 2


def minus(values: np.ndarray, shift: float, rest: float = 0.0) -> np.ndarray:
    """``values - shift - rest`` in float64.

    Args:
        values: of any real type.
        shift: the nearest float64 to what is taken away.
        rest: what float64 could not hold of it.
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8:
        return (values.astype(np.float64) - shift) - rest
    limits = np.iinfo(values.dtype)
    whole = min(max(round(shift), int(limits.min)), int(limits.max))
    return _minus_whole(values, whole) - (float(Fraction(shift) - whole) + rest)


def minus_first(values: np.ndarray, first: Voxel) -> np.ndarray:
    """``values - first`` in float64, where ``first`` is one of the values."""
    if isinstance(first, int) and values.dtype.itemsize == 8:
        return _minus_whole(values, first)
    return values.astype(np.float64) - first


def _minus_whole(values: np.ndarray, whole: int) -> np.ndarray:
    """Unsigned, where the difference of any two integers of a type fits and wraps to the right one."""
    bits, taken = values.astype(np.uint64), np.uint64(whole % 2**64)
    below = values < values.dtype.type(whole)
    return np.where(below, -(taken - bits).astype(np.float64), (bits - taken).astype(np.float64))


def split(numbers: Sequence[Fraction]) -> tuple[np.ndarray, np.ndarray]:
    """Exact numbers as the nearest float64 of each, and the nearest of what is left."""
    nearest = np.array([float(number) for number in numbers], np.float64)
    rest = [float(number - Fraction(float(near))) for number, near in zip(numbers, nearest)]
    return nearest, np.array(rest, np.float64)
