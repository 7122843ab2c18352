"""``skoots demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skoots.cli import console, options
from skoots.terminal import print_summary, wants_bars

if TYPE_CHECKING:
    from skoots.api import Demo

EXAMPLES = ("skoots demo", "skoots demo somewhere-else --overwrite")
FOLDER = Path("skoots-demo")


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that is made for it.")] = FOLDER,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Do all of it on example volumes.

    Makes synthetic volumes, trains on them, segments one that was held out and scores it, in a few minutes.
    """
    from skoots import api

    result = api.demo(folder, overwrite=overwrite, progress=wants_bars(quiet))
    print_summary(summary(result))


def summary(result: Demo) -> str:
    """What was made, how good it is and what to type next."""
    outcome, segmentation = result.outcome, result.segmentation
    epochs, objects = console.count(outcome.epochs, "epoch"), console.count(segmentation.objects, "object")
    took = console.duration(outcome.seconds + segmentation.seconds)
    done = f"Trained {epochs} and found {objects} in a volume that was held out, in {took}."
    methods = {"skoots": result.evaluation.scores, "connected components": outcome.baseline_scores}
    lying = {
        "Data and results": result.folder,
        "Run folder": outcome.run_folder,
        "True labels": Path(result.evaluation.truth),
        "Segmentation": segmentation.output,
        "Picture": outcome.figure,
    }
    return "\n\n".join(
        [
            done,
            console.score_table(methods),
            console.places(lying),
            console.next_command("segment", "VOLUME", "--snapshot", outcome.run_folder),
        ]
    )
