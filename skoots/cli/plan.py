"""``skoots plan``."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skoots.cli import console, options
from skoots.terminal import print_summary

if TYPE_CHECKING:
    from skoots.api import Plan

EXAMPLES = (
    "skoots plan data/mito -o mito.yaml",
    "skoots plan data/mito --validation data/mito_validation --test data/mito_test",
    "skoots plan data/nuclei --voxel-size 2.2,1,1 --memory 16 --epochs 200 --overwrite",
)
WIDTH = 110


def plan(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds NAME.tif and NAME.labels.tif.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The config that is written.")
    ] = Path("plan.yaml"),
    validation: Annotated[
        Path | None,
        typer.Option("--validation", metavar="DIR", help="Volumes to validate on; else a part is held out."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", metavar="DIR", help="Volumes that are scored once, at the end.")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            "--memory", metavar="GB", help="What a training step may take; else the device decides."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, help="Else the size of the data decides.")
    ] = None,
    voxel_size: options.VoxelSize = None,
    ignore_label: Annotated[
        int | None, typer.Option("--ignore-label", metavar="ID", help="Label that means: not known.")
    ] = None,
    device: options.Device = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a config for the data in a folder, and say why.

    Measures objects, voxels and the memory of a training step; every number gets a comment.
    """
    (size,) = options.numbers("--memory", None if memory is None else str(memory), float, "8") or (None,)
    edges = options.numbers("--voxel-size", voxel_size, float, "0.5,0.1,0.1")
    from skoots import api
    from skoots.api.plan import refuse_to_overwrite

    refuse_to_overwrite(output, overwrite)
    result = api.plan(
        folder,
        validation=validation,
        test=test,
        memory=size,
        epochs=epochs,
        voxel_size=edges,
        ignore_label=ignore_label,
        device=device,
    )
    result.write(output, overwrite)
    print_summary(summary(result, output, quiet))


def summary(result: Plan, output: Path, quiet: bool = False) -> str:
    """Data, decisions with their reasons, and what to type next."""
    decisions = [
        _paragraph(f"{decision.key}: ", _shown(decision.value) + decision.reason)
        for decision in result.decisions
        if decision.reason
    ]
    notes = [_paragraph("Note: ", warning) for warning in result.warnings]
    commands = [console.next_command("check", output), f"Then: {console.command('train', output)}"]
    paragraphs = [
        "\n".join(_paragraph("", fact) for fact in result.facts),
        "" if quiet else "\n".join(decisions),
        "\n".join(notes),
        f"Written: {output}",
        "\n".join(commands),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _shown(value: object) -> str:
    """A value that is short enough for the line of its reason."""
    from skoots.config.yaml12 import dump

    words = dump(value, flow=True).removesuffix("...\n").strip()
    return f"{words}. " if len(words) <= 40 else ""


def _paragraph(name: str, text: str) -> str:
    return textwrap.fill(name + text, WIDTH, subsequent_indent="  ")
