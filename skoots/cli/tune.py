"""``skoots tune``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from skoots.cli import console, options
from skoots.terminal import print_result, print_summary

EXAMPLES = (
    "skoots tune --snapshot runs/mito",
    "skoots tune --snapshot runs/mito:best --data other_volumes/ --seconds 300",
    "skoots tune --snapshot mito.pt --data other_volumes/ -o tuned.pt",
)


def tune(
    snapshot: options.Snapshot,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Labelled volumes; default: the validation volumes of its run."
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="N", min=0, max=86_400, help="After them no more trial begins."),
    ] = 60,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A .pt file to write; default: the snapshot."),
    ] = None,
    overwrite: options.Overwrite = False,
    weights: options.Weights = "auto",
    device: options.Device = None,
    plugin: options.Plugins = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, no text.")] = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Choose the decoder that suits a model, on labelled volumes.

    It is stored in the snapshot, and segment uses it. Report scores of volumes that had no part in this.
    """
    from skoots import api

    found = api.tune(
        snapshot,
        data=data,
        seconds=seconds,
        output=output,
        overwrite=overwrite,
        weights=weights,
        device=device,
        plugins=plugin or (),
    )
    if as_json:
        print_result(json.dumps(vars(found), default=str))
        return
    next_words = console.next_command("segment", "VOLUME", "--snapshot", found.output or found.snapshot)
    print_summary(f"{found.sentence()}\n\n{console.places({'Stored in': found.output})}\n\n{next_words}")
