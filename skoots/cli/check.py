"""``skoots check``."""

from __future__ import annotations

from typing import Annotated

import typer

from skoots.cli import console, options
from skoots.cli.train import plugin_words
from skoots.terminal import print_result

EXAMPLES = (
    "skoots check mito.yaml",
    "skoots check mito.yaml train_settings.batch_size=4 --print-config > resolved.yaml",
)


def check(
    config: options.Config,
    overrides: options.Overrides = None,
    plugin: options.Plugins = None,
    device: options.Device = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the resolved config as YAML, nothing else.")
    ] = False,
    debug: options.Debug = False,
) -> None:
    """Find the faults of a config and its data.

    Says what would be trained on, what `auto` becomes, and tries one batch.
    """
    from skoots import api

    report = api.check(config, overrides or (), plugins=plugin or (), device=device)
    if print_config:
        from skoots.config.yaml12 import dump

        print_result(dump(report.config.resolved()), end="")
        return
    again = console.next_command("train", config, *overrides or (), *plugin_words(plugin or ()))
    print_result("\n".join([*report.lines, "", f"No fault found. {again}"]))
