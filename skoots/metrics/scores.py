"""Every metric of two labelings by its name, from their one contingency table."""

from __future__ import annotations

from skoots.metrics.matching import match, mean_average_precision, over_segmentation, under_segmentation
from skoots.metrics.overlap import Overlap
from skoots.metrics.partition import (
    adapted_rand_error,
    foreground_dice,
    foreground_iou,
    variation_of_information,
)

# Name -> whether larger is better: what ``runner.key_metric`` may name (after ``test.``) and
# ``key_metric_asc`` mean.
METRIC_NAMES: dict[str, bool] = {
    "F1": True,
    "precision": True,
    "recall": True,
    "AP50": True,
    "AP75": True,
    "F1@0.75": True,
    "mAP": True,
    "PQ": True,
    "mean_matched_IoU": True,
    "mean_true_IoU": True,
    "VOI_split": False,
    "VOI_merge": False,
    "VOI": False,
    "ARAND": False,
    "over_segmentation": False,
    "under_segmentation": False,
    "foreground_IoU": True,
    "foreground_Dice": True,
}


def score(overlap: Overlap) -> dict[str, float]:
    """Score a prediction: every name of ``METRIC_NAMES``, and ``n_truth`` and ``n_prediction``, the objects.

    - ``F1``, ``precision``, ``recall``, ``PQ``, ``mean_matched_IoU``, ``mean_true_IoU``: objects matched one
      to one at IoU >= .5; ``F1@0.75`` at .75.
    - ``AP50``, ``AP75``: TP / (TP + FP + FN) at IoU .5 and .75; ``mAP`` its mean over .50, .55, ..., .95.
    - ``VOI_split``, ``VOI_merge``, their sum ``VOI`` (bits), ``ARAND``: over the voxels of true objects
      only, the true background not counted.
    - ``over_segmentation``, ``under_segmentation``: shares of true and of predicted objects with several
      partners.
    - ``foreground_IoU``, ``foreground_Dice``: ids disregarded.

    Without objects in both labelings everything is perfect. Without true objects alone, matching scores are
    0 and VOI and ARAND are NaN; without predicted ones, matching scores are 0 and VOI_merge is the entropy
    of the truth.

    Args:
        overlap: from ``contingency``, of one volume, of ``join``-ed blocks or of ``stack``-ed volumes.
    """
    half, strict = match(overlap, 0.5), match(overlap, 0.75)
    split, merge = variation_of_information(overlap)
    return {
        "F1": half.f1,
        "precision": half.precision,
        "recall": half.recall,
        "AP50": half.average_precision,
        "AP75": strict.average_precision,
        "F1@0.75": strict.f1,
        "mAP": mean_average_precision(overlap),
        "PQ": half.panoptic_quality,
        "mean_matched_IoU": half.mean_matched_iou,
        "mean_true_IoU": half.mean_true_iou,
        "VOI_split": split,
        "VOI_merge": merge,
        "VOI": split + merge,
        "ARAND": adapted_rand_error(overlap),
        "over_segmentation": over_segmentation(overlap),
        "under_segmentation": under_segmentation(overlap),
        "foreground_IoU": foreground_iou(overlap),
        "foreground_Dice": foreground_dice(overlap),
        "n_truth": float(overlap.n_truth),
        "n_prediction": float(overlap.n_prediction),
    }
