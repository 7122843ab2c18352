"""``skoots import-config``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skoots.cli import console, options
from skoots.terminal import print_message, print_summary

EXAMPLES = (
    "skoots import-config old.yaml",
    "skoots import-config old.yaml -o mito.yaml --overwrite",
    "skoots import-config old_model.trch -o mito.yaml",
)


def import_config(
    old: Annotated[
        Path,
        typer.Argument(
            metavar="OLD", help="A YAML config or a model file of the original SKOOTS.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The new config.")] = Path(
        "pytorch_config.yaml"
    ),
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Turn a config of the original SKOOTS into one of this program.

    The old file needs to name only what was changed; what it leaves out is written with the original's
    default. Settings without a counterpart are named, here and at the end of the new file, with the reason.
    """
    from skoots import api

    made = api.import_config(old, output, overwrite=overwrite)
    for heading, notes in made.notes:
        print_message("\n".join([heading, *(f"  {note}" for note in notes), ""]))
    again = console.next_command("check", made.output)
    print_summary("\n\n".join([console.places({"Config": made.output}), again]))
