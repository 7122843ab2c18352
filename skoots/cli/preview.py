"""``skoots preview``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from skoots.cli import console, options
from skoots.cli.train import plugin_words
from skoots.terminal import print_summary

EXAMPLES = (
    "skoots preview mito.yaml",
    "skoots preview mito.yaml data.augment=none --samples 12 --output plain.png",
    "skoots preview mito.yaml --source validation",
)


class Source(str, Enum):
    train = "train"
    validation = "validation"


def preview(
    config: options.Config,
    overrides: options.Overrides = None,
    plugin: options.Plugins = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, metavar="N", help="How many.")] = 6,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A PNG file; replaced if it exists.")
    ] = Path("preview.png"),
    epoch: Annotated[
        int, typer.Option("--epoch", min=1, metavar="N", help="The epoch whose crops are shown.")
    ] = 1,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="In place of train_settings.seed.")
    ] = None,
    source: Annotated[
        Source, typer.Option("--source", help="Crops to train on, or validation windows.")
    ] = Source.train,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Draw what the network will see.

    Samples as training draws them, after augmentation: image, labels, and the targets of all heads. Nothing
    is trained.
    """
    from skoots import api

    settings = [*(overrides or ()), *([] if seed is None else [f"train_settings.seed={seed}"])]
    result = api.preview(
        config,
        settings,
        plugins=plugin or (),
        output=output,
        samples=samples,
        source=source.value,
        epoch=epoch,
    )
    shown = f"{console.count(len(result.origins), 'sample')}: {', '.join(result.columns)}."
    again = console.next_command("train", config, *settings, *plugin_words(plugin or ()))
    print_summary("\n\n".join([shown, console.places({"Picture": result.picture}), again]))
