"""``skoots publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skoots.cli import console, options
from skoots.terminal import print_summary

EXAMPLES = ("skoots publish runs/mito -o mito.pt", "skoots publish runs/mito:average -o mito.pt --overwrite")


def publish(
    snapshot: Annotated[
        str,
        typer.Argument(
            metavar="SNAPSHOT", help="A file, a run folder, or e.g. runs/mito:best.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A .pt file.")],
    weights: options.Weights = "auto",
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Write a snapshot to hand on: weights, config and versions.

    The state of the training is left out, and so are the paths of your data.
    """
    from skoots import api

    made = api.publish(snapshot, output, weights=weights, overwrite=overwrite)
    lying = {"File": f"{made.output}, {made.size / 2**20:.1f} MiB", "Of": made.source, "SHA-256": made.sha256}
    written = console.table([[name, str(value)] for name, value in lying.items()], "<<")
    print_summary(f"{written}\n\n{console.next_command('segment', 'VOLUME', '--snapshot', made.output)}")
