"""``skoots import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skoots.cli import console, options
from skoots.terminal import print_summary

EXAMPLES = (
    "skoots import original.trch -o snapshot.pt",
    "skoots import original.trch -o snapshot.pt --overwrite",
)


def import_model(
    old: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A model file of the original SKOOTS.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The snapshot, a .pt file.")],
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Turn a model file of the original SKOOTS into a snapshot.

    The network gives the same outputs as there, its vectors in the order z, y, x. The scale of vectors and
    the mean and deviation of the training images come along, and segment applies them. No code in the file is
    run.
    """
    from skoots import api

    made = api.import_model(old, output, overwrite=overwrite)
    intensity = "not in the file; images are normalised by their own"
    if made.intensity is not None:
        numbers = (made.intensity.shift, made.intensity.scale)
        mean, deviation = (", ".join(f"{number:g}" for number in each) for each in numbers)
        intensity = f"mean {mean}, deviation {deviation}"
    rows = {
        "Snapshot": str(made.output),
        "Network": f"UNeXT, {made.parameters:,} parameters, after epoch {made.epoch}",
        "Scale": f"{', '.join(f'{s:g}' for s in made.scale)} voxels (z, y, x)",
        "Intensity": intensity,
    }
    written = console.table([[name, value] for name, value in rows.items()], "<<")
    print_summary(f"{written}\n\n{console.next_command('segment', 'VOLUME', '--snapshot', made.output)}")
