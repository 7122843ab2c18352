"""The sparse contingency table of two labelings, from which every metric is computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import fastremap
import numpy as np

from skoots.errors import VolumeError

# A dense table of this many cells takes less time than sorting the voxels does, however few they are.
_SMALL_TABLE = 1 << 22


@dataclass(frozen=True, eq=False)
class Overlap:
    """How many voxels each pair of a true and a predicted id shares, background (id 0) included.

    One row of the four columns is one pair that occurs; rows are sorted by volume, truth, prediction. An
    object is a volume and an id: equal ids in two volumes are two objects, and every volume has its own
    background.

    Args:
        volume: (N,) int64, which of the stacked volumes; 0 everywhere in the table of one volume.
        truth: (N,) int64 true ids.
        prediction: (N,) int64 predicted ids.
        counts: (N,) int64 voxels, all above 0.
    """

    volume: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    counts: np.ndarray

    @classmethod
    def empty(cls) -> Overlap:
        """The table of no voxels; ``sum(tables, Overlap.empty())`` works."""
        none = np.zeros(0, np.int64)
        return cls(none, none, none, none)

    @classmethod
    def group(
        cls, volume: np.ndarray, truth: np.ndarray, prediction: np.ndarray, counts: np.ndarray
    ) -> Overlap:
        """A table from rows in any order, in which pairs may occur again."""
        if counts.size == 0:
            return cls.empty()
        order = np.lexsort((prediction, truth, volume))
        volume, truth, prediction = volume[order], truth[order], prediction[order]
        first = np.flatnonzero(_first_of_run(volume, truth, prediction))
        return cls(volume[first], truth[first], prediction[first], np.add.reduceat(counts[order], first))

    def __add__(self, other: Overlap) -> Overlap:
        """The table of two disjoint blocks of the same volume, whose ids mean the same objects."""
        return join([self, other])

    def drop_small(self, min_size: int) -> Overlap:
        """The table after predicted objects of fewer than ``min_size`` voxels became background."""
        small = self.prediction_sizes[self.column] < min_size
        return Overlap.group(self.volume, self.truth, np.where(small, 0, self.prediction), self.counts)

    def within_truth(self) -> Overlap:
        """The table of those voxels alone that lie in true objects."""
        inside = self.truth != 0
        return Overlap(self.volume[inside], self.truth[inside], self.prediction[inside], self.counts[inside])

    @cached_property
    def row(self) -> np.ndarray:
        """(N,) index of each pair's true segment, counted through all volumes, background included."""
        return np.cumsum(_first_of_run(self.volume, self.truth)) - 1

    @cached_property
    def column(self) -> np.ndarray:
        """(N,) index of each pair's predicted segment, counted through all volumes, background included."""
        order = np.lexsort((self.prediction, self.volume))
        column = np.empty(order.size, np.int64)
        column[order] = np.cumsum(_first_of_run(self.volume[order], self.prediction[order])) - 1
        return column

    @cached_property
    def truth_sizes(self) -> np.ndarray:
        """Voxels of every true segment, in the order of ``row``."""
        return _sum_by(self.row, self.counts)

    @cached_property
    def prediction_sizes(self) -> np.ndarray:
        """Voxels of every predicted segment, in the order of ``column``."""
        return _sum_by(self.column, self.counts)

    @cached_property
    def n_truth(self) -> int:
        """True objects, background not counted."""
        return int(np.unique(self.row[self.truth != 0]).size)

    @cached_property
    def n_prediction(self) -> int:
        """Predicted objects, background not counted."""
        return int(np.unique(self.column[self.prediction != 0]).size)

    @cached_property
    def iou(self) -> np.ndarray:
        """(N,) intersection over union of every pair of segments; 0 where either is background."""
        union = self.truth_sizes[self.row] + self.prediction_sizes[self.column] - self.counts
        return np.where((self.truth != 0) & (self.prediction != 0), self.counts / union, 0.0)


def contingency(truth: np.ndarray, prediction: np.ndarray, ignore: int | None = None) -> Overlap:
    """Count the voxels that each true id shares with each predicted id.

    Args:
        truth: (*S) integer ids, 0 = background.
        prediction: (*S) integer ids, 0 = background.
        ignore: true id whose voxels are left out, e.g. the ``ignore_label`` of a config.

    Raises:
        VolumeError: the shapes differ, or one of the arrays does not hold integers.
    """
    for name, labels in (("true", truth), ("predicted", prediction)):
        if labels.dtype.kind not in "biu":
            raise VolumeError(f"The {name} labels are {labels.dtype}; ids are integers: convert them first.")
    if truth.shape != prediction.shape:
        raise VolumeError(
            f"The true labels have shape {truth.shape} and the predicted ones {prediction.shape}; "
            "compare volumes of one shape."
        )
    if truth.size == 0:
        return Overlap.empty()
    truth_ids, truth_codes = _codes(truth)
    prediction_ids, prediction_codes = _codes(prediction)
    width, cells = prediction_ids.size, truth_ids.size * prediction_ids.size
    keys = truth_codes * width + prediction_codes
    if cells <= max(keys.size, _SMALL_TABLE):
        table = np.bincount(keys, minlength=cells)
        keys = np.flatnonzero(table)
        counts = table[keys]
    else:
        keys, counts = fastremap.unique(keys, return_counts=True)
    pairs = truth_ids[keys // width], prediction_ids[keys % width], counts.astype(np.int64)
    keep = slice(None) if ignore is None else pairs[0] != ignore
    return Overlap.group(np.zeros_like(pairs[0])[keep], *(column[keep] for column in pairs))


def join(blocks: Iterable[Overlap]) -> Overlap:
    """The table of a volume from those of its disjoint blocks, whose ids mean the same objects everywhere."""
    blocks = [Overlap.empty(), *blocks]
    return Overlap.group(
        np.concatenate([block.volume for block in blocks]),
        np.concatenate([block.truth for block in blocks]),
        np.concatenate([block.prediction for block in blocks]),
        np.concatenate([block.counts for block in blocks]),
    )


def stack(overlaps: Iterable[Overlap]) -> Overlap:
    """One table of several volumes that share no objects, so that a score can be pooled over them.

    Pooled F1, precision, recall and AP count objects over all volumes; pooled VOI is the mean of the
    volumes' VOI, weighted by the voxels counted.
    """
    shifted, next_volume = [], 0
    for overlap in overlaps:
        shifted.append(replace(overlap, volume=overlap.volume + next_volume))
        next_volume += 1 + int(overlap.volume.max(initial=0))
    return join(shifted)


def _codes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids, and each voxel's position among them; ids that do not occur may be listed."""
    flat = labels.ravel().astype(np.int64, copy=False)
    low, high = int(flat.min()), int(flat.max())
    if high - low <= flat.size:
        return np.arange(low, high + 1), flat - low if low else flat
    return np.unique(flat, return_inverse=True)


def _first_of_run(*columns: np.ndarray) -> np.ndarray:
    """True where any of the sorted columns differs from the row above."""
    first = np.ones(columns[0].size, bool)
    first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return first


def _sum_by(index: np.ndarray, counts: np.ndarray) -> np.ndarray:
    total = np.zeros(int(index.max(initial=-1)) + 1, np.int64)
    np.add.at(total, index, counts)  # not bincount: its weights are floats
    return total
