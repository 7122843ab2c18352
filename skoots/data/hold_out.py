"""Which part of the labelled data is held out for validation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skoots.geometry import Box

SHARE = 0.2  # of the volumes, or of the voxels of the only one
CUTS = (0.65, 0.85)  # share of the only volume that may be trained on


@dataclass(frozen=True)
class Cut:
    """One volume in two parts.

    Args:
        train: to learn from.
        validation: held out.
        axis: across which the cut goes.
        held: objects of which the part to validate on holds something.
        divided: objects that lie in both parts.
    """

    train: Box
    validation: Box
    axis: int
    held: int
    divided: int


def series_of(names: Sequence[str]) -> list[str]:
    """The series that each volume belongs to: volumes of one series resemble each other more than others do.

    A name without its last part is the series (``Emb01`` of ``Emb01_t351``), if that makes at least three of
    them; else every volume stands for itself.

    Args:
        names: of the volumes.
    """
    series = [re.sub(r"[._ -][^._ -]*$", "", name) for name in names]
    return series if 3 <= len(set(series)) < len(names) else list(names)


def hold_out_volumes(names: Sequence[str], seed: int = 0, share: float = SHARE) -> list[str]:
    """Names of the volumes to validate on: whole series, at least one, about a fifth of all volumes.

    Args:
        names: of at least two volumes.
        seed: of the draw.
        share: of the volumes to hold out.
    """
    series = series_of(names)
    kinds = sorted(set(series))
    order = np.random.default_rng(seed).permutation(len(kinds))
    held: set[str] = set()
    for i in order[:-1]:
        count = sum(s in held for s in series)
        more = series.count(kinds[i])
        if held and abs(count + more - share * len(names)) >= abs(count - share * len(names)):
            break
        held.add(kinds[i])
    return [name for name, s in zip(names, series) if s in held]


def best_cut(
    shape: Sequence[int], voxel_size: Sequence[float], starts: np.ndarray, stops: np.ndarray
) -> Cut | None:
    """The plane that divides a volume for validation, near 80 % of it and cutting few objects.

    It goes across the physically longest axis that can be cut, between 65 and 85 % of its length from either
    end, and leaves objects in both parts, half of them or more to train on.

    Args:
        shape: voxels of the volume.
        voxel_size: D edge lengths of a voxel.
        starts: (N, D) first voxel of each object's bounding box.
        stops: (N, D) one past its last voxel.

    Returns:
        None if no plane leaves objects on both sides.
    """
    lengths = [n * size for n, size in zip(shape, voxel_size)]
    for axis in sorted(range(len(shape)), key=lambda a: -lengths[a]):
        cut = _best_cut_of(axis, shape, starts[:, axis], stops[:, axis])
        if cut is not None:
            return cut
    return None


def _best_cut_of(axis: int, shape: Sequence[int], starts: np.ndarray, stops: np.ndarray) -> Cut | None:
    planes = np.arange(1, shape[axis])
    below = np.searchsorted(np.sort(starts), planes)
    above = len(stops) - np.searchsorted(np.sort(stops), planes, side="right")
    divided = below + above - len(starts)  # an object lies below, above, or both
    best, least = None, np.inf
    for trains_below, trained, kept, held in (
        (True, planes / shape[axis], below, above),
        (False, 1 - planes / shape[axis], above, below),
    ):
        allowed = (trained >= CUTS[0]) & (trained <= CUTS[1]) & (held > 0) & (2 * kept >= len(starts))
        cost = divided / np.maximum(held, 1) + 2 * np.abs(trained - (1 - SHARE))
        cost = np.where(allowed, cost, np.inf)
        if cost.size and cost.min() < least:
            i = int(cost.argmin())
            lower, upper = _halves(shape, axis, int(planes[i]))
            parts = (lower, upper) if trains_below else (upper, lower)
            best, least = Cut(*parts, axis, int(held[i]), int(divided[i])), cost[i]
    return best


def _halves(shape: Sequence[int], axis: int, at: int) -> tuple[Box, Box]:
    start, middle = [0] * len(shape), [0] * len(shape)
    middle[axis] = at
    stop = [at if a == axis else n for a, n in enumerate(shape)]
    return Box(tuple(start), tuple(stop)), Box(tuple(middle), tuple(shape))
