"""``skoots evaluate``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skoots.cli import console, options

if TYPE_CHECKING:
    from skoots.api import Evaluation

EXAMPLES = (
    "skoots evaluate cell7.labels.tif cell7.segmentation.tif",
    "skoots evaluate truth/ predictions/ --min-size 50 --json",
)
COUNTS = ("n_truth", "n_prediction")
MEANINGS = {
    "F1": "objects matched one to one at IoU 0.5",
    "precision": "share of the predicted objects that match",
    "recall": "share of the true objects that match",
    "F1@0.75": "as F1, at IoU 0.75",
    "AP50": "TP / (TP + FP + FN) at IoU 0.5",
    "AP75": "the same at IoU 0.75",
    "mAP": "mean of it over IoU 0.5, 0.55, ... 0.95",
    "PQ": "panoptic quality: F1 times the mean IoU of the matches",
    "mean_matched_IoU": "over the matches",
    "mean_true_IoU": "over all true objects, 0 for those without match",
    "VOI_split": "bits, 0 is perfect: true objects in pieces",
    "VOI_merge": "bits, 0 is perfect: true objects glued together",
    "VOI": "their sum",
    "ARAND": "adapted Rand error, 0 is perfect",
    "over_segmentation": "share of the true objects with several partners, 0 is perfect",
    "under_segmentation": "share of the predicted objects with several partners, 0 is perfect",
    "foreground_IoU": "ids disregarded",
    "foreground_Dice": "ids disregarded",
}
BACKGROUND = (
    "Label 0 is background in both: no object, and VOI and ARAND count only the voxels inside true objects, "
    "so the true background is not counted."
)


def evaluate(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="True labels: a volume or a folder.", show_default=False)
    ],
    prediction: Annotated[
        Path, typer.Argument(metavar="PREDICTION", help="Predicted labels, likewise.", show_default=False)
    ],
    min_size: Annotated[
        int, typer.Option("--min-size", metavar="N", min=0, help="Drop predicted objects of fewer voxels.")
    ] = 0,
    ignore_label: Annotated[
        int | None,
        typer.Option("--ignore-label", metavar="L", help="True label whose voxels do not count."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")] = False,
    debug: options.Debug = False,
) -> None:
    """Score a segmentation against true labels.

    Of two folders, volumes of the same name are compared and their scores pooled.
    """
    from skoots import api

    evaluation = api.evaluate(labels, prediction, min_size=min_size, ignore_label=ignore_label)
    typer.echo(as_json_object(evaluation) if as_json else report(evaluation))


def report(evaluation: Evaluation) -> str:
    """The scores as a table, with what they mean and which background they count."""
    sides = {
        "Truth": (evaluation.truth, evaluation.scores.get("n_truth")),
        "Prediction": (evaluation.prediction, evaluation.scores.get("n_prediction")),
    }
    heading = console.table([[side, where, _objects(n)] for side, (where, n) in sides.items()], "<<>")
    if evaluation.volumes > 1:
        heading += f"\nPooled over {evaluation.volumes} volumes"
    return "\n\n".join([heading, metric_table(evaluation.scores), BACKGROUND])


def metric_table(scores: Mapping[str, float]) -> str:
    """Name, value and meaning of every score but the counts of objects."""
    rows = [
        [name, console.number(value), MEANINGS.get(name, "")]
        for name, value in scores.items()
        if name not in COUNTS
    ]
    return console.table(rows, "<><")


def as_json_object(evaluation: Evaluation) -> str:
    """One JSON object on one line; a score that is no number is null."""
    scores = {name: None if math.isnan(value) else value for name, value in evaluation.scores.items()}
    return json.dumps({**vars(evaluation), "scores": scores})


def _objects(n: float | None) -> str:
    return "" if n is None else console.count(int(n), "object")
