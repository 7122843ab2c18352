"""Two labelings as partitions of the voxels: variation of information, Rand error, and the foregrounds alone.

Which voxels count decides the number: for one pair of volumes the adapted Rand error is .107 inside true
objects and .007 with the background counted. The default counts the voxels of true objects only, as
``ignore_labels=(0,)`` does in scikit-image and as CREMI does; predicted background inside them is one more
segment.
"""

from __future__ import annotations

import math

import numpy as np

from skoots.metrics.overlap import Overlap


def variation_of_information(overlap: Overlap, ignore_background: bool = True) -> tuple[float, float]:
    """VOI split H(prediction | truth) and VOI merge H(truth | prediction), in bits (Meila 2007).

    Args:
        overlap: table of the two labelings.
        ignore_background: count voxels of true objects only; otherwise all, with the background as one more
            object.

    Returns:
        Split and merge; 0 is perfect. Both are NaN if no voxel counts, save that two labelings without any
        object agree.
    """
    counted = overlap.within_truth() if ignore_background else overlap
    if counted.counts.size == 0:
        return (_nothing_counted(overlap),) * 2
    share = counted.counts / counted.counts.sum()
    split = share * np.log2(counted.truth_sizes[counted.row] / counted.counts)
    merge = share * np.log2(counted.prediction_sizes[counted.column] / counted.counts)
    return float(split.sum()), float(merge.sum())


def adapted_rand_error(overlap: Overlap, ignore_background: bool = True) -> float:
    """1 - F score of the pairs of voxels that both labelings put into one object (SNEMI3D; scikit-image).

    Args:
        overlap: table of the two labelings.
        ignore_background: count voxels of true objects only; otherwise all, with the background as one more
            object.

    Returns:
        0 is perfect, 1 worst. NaN if no voxel counts, save that two labelings without any object agree.
    """
    counted = overlap.within_truth() if ignore_background else overlap
    if counted.counts.size == 0:
        return _nothing_counted(overlap)
    pairs = _pairs(counted.truth_sizes) + _pairs(counted.prediction_sizes)
    return 1 - 2 * _pairs(counted.counts) / pairs if pairs else 0.0


def foreground_iou(overlap: Overlap) -> float:
    """Intersection over union of the two foregrounds, ids disregarded; 1 where both are empty."""
    both, truth, prediction = _foregrounds(overlap)
    union = truth + prediction - both
    return both / union if union else 1.0


def foreground_dice(overlap: Overlap) -> float:
    """Dice coefficient of the two foregrounds, ids disregarded; 1 where both are empty."""
    both, truth, prediction = _foregrounds(overlap)
    return 2 * both / (truth + prediction) if truth + prediction else 1.0


def _foregrounds(overlap: Overlap) -> tuple[int, int, int]:
    truth, prediction = overlap.truth != 0, overlap.prediction != 0
    return tuple(int(overlap.counts[where].sum()) for where in (truth & prediction, truth, prediction))  # type: ignore


def _pairs(sizes: np.ndarray) -> float:
    """Ordered pairs of different voxels of one segment, summed; in floats, as squares overflow integers."""
    sizes = sizes.astype(np.float64)
    return float((sizes * (sizes - 1)).sum())


def _nothing_counted(overlap: Overlap) -> float:
    return math.nan if overlap.n_prediction else 0.0
