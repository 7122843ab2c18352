"""``skoots resume``."""

from __future__ import annotations

from typing import Annotated

import typer

from skoots.cli import options
from skoots.cli.train import finish
from skoots.terminal import wants_bars

EXAMPLES = (
    "skoots resume runs/mito",
    "skoots resume runs/mito:RUN_20260102_030405_678901",
    "skoots resume runs/mito train_settings.epochs=300",
)


def resume(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run folder, runs/NAME (its newest run) or runs/NAME:RUN_...",
            show_default=False,
        ),
    ],
    overrides: options.Overrides = None,
    plugin: options.Plugins = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Go on with a run that was stopped.

    It goes on exactly where it was, with the config that it was started with, whatever the file says today.
    """
    from skoots import api

    outcome = api.resume(
        run,
        overrides or (),
        plugins=plugin or (),
        device=device,
        progress=wants_bars(quiet),
    )
    finish(outcome, plugin or (), device)
