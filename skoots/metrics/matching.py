"""Objects matched one to one by overlap: precision, recall, F1, AP, PQ; rates of splits and merges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skoots.metrics.overlap import Overlap

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass(frozen=True, eq=False)
class Matching:
    """Result of matching true and predicted objects one to one.

    Without objects on both sides nothing is wrong and every rate is 1; without them on one side every rate
    is 0.

    Args:
        pairs: (true positives,) rows of the table; ``overlap.truth[pairs]`` was matched to
            ``overlap.prediction[pairs]``.
        iou: (true positives,) IoU of the matched pairs.
        n_truth: true objects.
        n_prediction: predicted objects.
    """

    pairs: np.ndarray
    iou: np.ndarray
    n_truth: int
    n_prediction: int

    @property
    def true_positives(self) -> int:
        return int(self.iou.size)

    @property
    def precision(self) -> float:
        """Share of predicted objects that are matched."""
        return self._rate(self.true_positives, self.n_prediction)

    @property
    def recall(self) -> float:
        """Share of true objects that are matched."""
        return self._rate(self.true_positives, self.n_truth)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self._rate(2 * self.true_positives, self.n_truth + self.n_prediction)

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), the AP of the 2018 Data Science Bowl, StarDist, Cellpose; not COCO's area."""
        return self._rate(self.true_positives, self.n_truth + self.n_prediction - self.true_positives)

    @property
    def mean_matched_iou(self) -> float:
        """Mean IoU of the matched pairs."""
        return self._rate(float(self.iou.sum()), self.true_positives)

    @property
    def mean_true_iou(self) -> float:
        """Mean IoU over the true objects; those without a match count 0."""
        return self._rate(float(self.iou.sum()), self.n_truth)

    @property
    def panoptic_quality(self) -> float:
        """F1 times the mean IoU of the matched pairs (Kirillov et al. 2019)."""
        return self.f1 * self.mean_matched_iou

    def _rate(self, part: float, whole: float) -> float:
        if self.n_truth == 0 and self.n_prediction == 0:
            return 1.0
        return part / whole if whole else 0.0


def match(overlap: Overlap, threshold: float = 0.5) -> Matching:
    """Match as many objects as possible one to one, among such matchings one of the greatest summed IoU.

    The same assignment as ``stardist.matching``.

    Args:
        overlap: table of the two labelings.
        threshold: least IoU of a pair, above 0 and at most 1.

    Raises:
        ValueError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"an IoU threshold lies above 0 and at most at 1, not at {threshold}")
    pairs = np.flatnonzero(overlap.iou >= threshold)
    row, column = overlap.row[pairs], overlap.column[pairs]
    if np.unique(row).size < row.size or np.unique(column).size < column.size:
        pairs = pairs[_assign(row, column, overlap.iou[pairs])]
    return Matching(pairs, overlap.iou[pairs], overlap.n_truth, overlap.n_prediction)


def _assign(row: np.ndarray, column: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Which candidate pairs are chosen, as a mask, where objects have more than one.

    Every row may also take a column of its own that stands for no match: so a full matching always exists,
    and the sparse solver finds the best one. A match saves at least 1/2 of what no match costs, more than
    all ties together.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    rows, row = np.unique(row, return_inverse=True)
    columns, column = np.unique(column, return_inverse=True)
    alone = np.arange(rows.size)
    cost = np.concatenate([1 - iou / (2 * rows.size), np.full(rows.size, 2.0)])
    graph = csr_matrix(
        (cost, (np.concatenate([row, alone]), np.concatenate([column, columns.size + alone]))),
        shape=(rows.size, columns.size + rows.size),
    )
    chosen_row, chosen_column = min_weight_full_bipartite_matching(graph)
    partner = np.full(rows.size, -1)
    partner[chosen_row] = chosen_column
    return partner[row] == column


def mean_average_precision(overlap: Overlap, thresholds: tuple[float, ...] = COCO_THRESHOLDS) -> float:
    """Mean of TP / (TP + FP + FN) over IoU thresholds, .50 to .95 by default."""
    return float(np.mean([match(overlap, threshold).average_precision for threshold in thresholds]))


def over_segmentation(overlap: Overlap, threshold: float = 0.2) -> float:
    """Share of true objects that more than one predicted object overlaps with an IoU above ``threshold``.

    As the original SKOOTS (Buswinka et al. 2023) counts splits; 0 without true objects.
    """
    return _share_with_several(overlap.row[overlap.iou > threshold], overlap.n_truth)


def under_segmentation(overlap: Overlap, threshold: float = 0.2) -> float:
    """Share of predicted objects that more than one true object overlaps with an IoU above ``threshold``.

    As the original SKOOTS (Buswinka et al. 2023) counts merges; 0 without predicted objects.
    """
    return _share_with_several(overlap.column[overlap.iou > threshold], overlap.n_prediction)


def _share_with_several(index: np.ndarray, objects: int) -> float:
    _, partners = np.unique(index, return_counts=True)
    return float(np.count_nonzero(partners > 1) / objects) if objects else 0.0
