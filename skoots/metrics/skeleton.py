"""Scores along true skeletons: an object counts by the length of its curve, not by its volume.

Thick bodies outweigh thin branches in every voxel count; for neurites and mitochondria what matters is
whether one can follow the curve without changing the object. A table of skeleton points is an ``Overlap``
like any other.
"""

from __future__ import annotations

import numpy as np

from skoots.metrics.overlap import Overlap, contingency


def skeleton_contingency(points: np.ndarray, ids: np.ndarray, prediction: np.ndarray) -> Overlap:
    """Count the points that each true skeleton shares with each predicted id.

    Args:
        points: (N, D) integer voxels of the skeletons, all inside the volume.
        ids: (N,) id of the object that each point belongs to, none of them 0.
        prediction: (*S) predicted ids, 0 = background.
    """
    return contingency(ids, prediction[tuple(points.T)])


def skeleton_score(overlap: Overlap, min_share: float = 0.05) -> dict[str, float]:
    """Coverage, splits and merges of true skeletons.

    Args:
        overlap: table of skeleton points, from ``skeleton_contingency`` (``join`` and ``stack`` apply).
        min_share: a predicted id counts on a skeleton if it covers at least this share of its points; what
            grazes it at a touching neighbour is neither split nor merge.

    Returns:
        ``skeleton_coverage``: mean over skeletons of the share of points under the one predicted id that
            covers most.
        ``skeleton_splits``: predicted ids on a skeleton beyond the first, mean over skeletons.
        ``skeleton_merges``: skeletons under a predicted id beyond the first, summed and divided by the
            skeletons.
        ``NERL``: expected run length over the greatest possible, as of Januszewski et al. 2018: from a
            random skeleton
        point, how many of its skeleton's points lie under the same id; ids that merge skeletons score 0.
        All NaN without skeletons.
    """
    names = ("skeleton_coverage", "skeleton_splits", "skeleton_merges", "NERL")
    overlap = overlap.within_truth()
    sizes, row, column = overlap.truth_sizes, overlap.row, overlap.column
    if sizes.size == 0:
        return dict.fromkeys(names, float("nan"))
    found = overlap.prediction != 0
    share = np.where(found, overlap.counts / sizes[row], 0.0)
    coverage = np.zeros(sizes.size)
    np.maximum.at(coverage, row, share)
    counted = found & (share >= min_share)
    ids_a_skeleton = np.bincount(row[counted], minlength=sizes.size)
    skeletons_an_id = np.bincount(column[counted], minlength=overlap.prediction_sizes.size)
    pure = found & (skeletons_an_id[column] <= 1)
    runs = (overlap.counts[pure].astype(np.float64) ** 2).sum() / (sizes.astype(np.float64) ** 2).sum()
    return dict(
        zip(
            names,
            (
                float(coverage.mean()),
                float(np.maximum(ids_a_skeleton - 1, 0).mean()),
                float(np.maximum(skeletons_an_id - 1, 0).sum() / sizes.size),
                float(runs),
            ),
        )
    )
