"""``skoots evaluate``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skoots.cli import console, options
from skoots.errors import SkootsError
from skoots.terminal import print_result

if TYPE_CHECKING:
    from skoots.api import Evaluation, SnapshotEvaluation

EXAMPLES = (
    "skoots evaluate cell7.labels.tif cell7.segmentation.tif",
    "skoots evaluate truth/ predictions/ --min-size 50 --json",
    "skoots evaluate --snapshot runs/mito:best",
    "skoots evaluate --snapshot runs/mito:average --data other_volumes/",
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
        Path | None,
        typer.Argument(metavar="LABELS", help="True labels: a volume or a folder.", show_default=False),
    ] = None,
    prediction: Annotated[
        Path | None,
        typer.Argument(metavar="PREDICTION", help="Predicted labels, likewise.", show_default=False),
    ] = None,
    min_size: Annotated[
        int, typer.Option("--min-size", metavar="N", min=0, help="Drop predicted objects of fewer voxels.")
    ] = 0,
    ignore_label: Annotated[
        int | None,
        typer.Option("--ignore-label", metavar="L", help="True label whose voxels do not count."),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", "-s", metavar="REF", help="Score a model instead, as its training did."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG", help="With --snapshot: data and decoding of this config."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="With --snapshot: labelled volumes to score on."),
    ] = None,
    weights: options.Weights = "auto",
    plugin: options.Plugins = None,
    device: options.Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")] = False,
    debug: options.Debug = False,
) -> None:
    """Score a segmentation against true labels, or a snapshot on labelled volumes.

    Of two folders, volumes of the same name are compared and their scores pooled: NAME.labels.tif with
    NAME.segmentation.tif. Grey images are left out, and a missing prediction is an error.
    """
    from skoots import api

    if snapshot is not None:
        if labels is not None:
            raise SkootsError("Give LABELS and PREDICTION, or --snapshot with --data DIR; not both.")
        if min_size or ignore_label is not None:
            raise SkootsError(
                "--min-size and --ignore-label belong to LABELS and PREDICTION; for a model the config says "
                "them: inference.decoding.min_size, data.ignore_label (--config)."
            )
        found = api.evaluate_snapshot(
            snapshot, config=config, data=data, weights=weights, device=device, plugins=plugin or ()
        )
        print_result(json.dumps(_finite(vars(found)), default=str) if as_json else snapshot_report(found))
        return
    if labels is None or prediction is None:
        raise SkootsError("Give LABELS and PREDICTION, or a model: --snapshot runs/mito.")
    if any(value not in (None, []) for value in (config, data, device, plugin)) or weights != "auto":
        raise SkootsError("--config, --data, --weights, --device and --plugin belong to --snapshot.")
    evaluation = api.evaluate(labels, prediction, min_size=min_size, ignore_label=ignore_label)
    print_result(as_json_object(evaluation) if as_json else report(evaluation))


def snapshot_report(found: SnapshotEvaluation) -> str:
    """Metrics as in training, beside those that the snapshot remembers, and the scores of whole volumes."""
    epoch = "" if found.epoch is None else f", epoch {found.epoch}"
    heading = [["", "now", *(["stored"] if found.stored else [])]]
    rows = [
        [name, console.number(value), *([console.number(found.stored.get(name))] if found.stored else [])]
        for name, value in found.metrics.items()
    ]
    paragraphs = [f"{found.snapshot}{epoch}", f"On windows, as in training:\n{console.table(heading + rows)}"]
    if found.scores:
        kind = "Held-out volumes" if found.held_out else "Volumes"
        methods = {"skoots": found.scores, "connected components": found.baseline_scores}
        names = ", ".join(found.volumes)
        how = f"; decoded by {found.decoder}, which tuning chose" if found.tuned else ""
        paragraphs.append(f"{kind} as a whole ({names}{how}):\n{console.score_table(methods)}")
    return "\n\n".join([*paragraphs, BACKGROUND])


def report(evaluation: Evaluation) -> str:
    """The scores as a table, with what they mean and which background they count."""
    sides = {
        "Truth": (evaluation.truth, evaluation.scores.get("n_truth")),
        "Prediction": (evaluation.prediction, evaluation.scores.get("n_prediction")),
    }
    heading = console.table([[side, where, _objects(n)] for side, (where, n) in sides.items()], "<<>")
    if evaluation.volumes > 1:
        heading += f"\nPooled over {evaluation.volumes} volumes"
    if (evaluation.truth, evaluation.prediction) not in (pairs := evaluation.pairs):
        heading += "".join(f"\n{truth} with {found}" for truth, found in pairs)
    heading += "".join(f"\nLeft out: {what}" for what in evaluation.left_out)
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
    return json.dumps(_finite(vars(evaluation)))


def _finite(value: Any) -> Any:
    """The same with null for what is no number, which JSON cannot say."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _objects(n: float | None) -> str:
    return "" if n is None else console.count(int(n), "object")
