"""Pure functions of two labelings: every metric is a function of one sparse contingency table."""

from skoots.metrics.matching import (
    Matching,
    match,
    mean_average_precision,
    over_segmentation,
    under_segmentation,
)
from skoots.metrics.overlap import Overlap, contingency, join, stack
from skoots.metrics.partition import (
    adapted_rand_error,
    foreground_dice,
    foreground_iou,
    variation_of_information,
)
from skoots.metrics.scores import METRIC_NAMES, score
from skoots.metrics.skeleton import skeleton_contingency, skeleton_score

__all__ = [
    "METRIC_NAMES",
    "Matching",
    "Overlap",
    "adapted_rand_error",
    "contingency",
    "foreground_dice",
    "foreground_iou",
    "join",
    "match",
    "mean_average_precision",
    "over_segmentation",
    "score",
    "skeleton_contingency",
    "skeleton_score",
    "stack",
    "under_segmentation",
    "variation_of_information",
]
