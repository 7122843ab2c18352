"""Options that several commands share, and the values that they are written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from skoots.errors import SkootsError
from skoots.terminal import show_warnings_only

DEBUG = "skoots.debug"  # key under which a command line remembers that tracebacks are wanted
T = TypeVar("T", int, float)


def _remember_debug(context: typer.Context, value: bool) -> bool:
    context.meta[DEBUG] = value or context.meta.get(DEBUG, False)
    return value


def _quieten(value: bool) -> bool:
    if value:
        show_warnings_only()
    return value


Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY.PATH=VALUE", help="Keys to set otherwise than the config does.", show_default=False
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="PLUGIN", help="A module or .py file that registers parts; repeatable."),
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
]
Snapshot = Annotated[
    str,
    typer.Option(
        "--snapshot",
        "-s",
        metavar="REF",
        help="A file, a run folder, or e.g. runs/mito:best, runs/mito:latest, runs/mito:010.",
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="auto|ema|raw",
        help="Of a snapshot with a moving average (EMA): auto takes it, raw does not.",
    ),
]
VoxelSize = Annotated[
    str | None,
    typer.Option(
        "--voxel-size", metavar="Z,Y,X", help="Edge lengths of a voxel, if the file does not say or is wrong."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", callback=_quieten, help="Warnings and the result only, no progress."),
]
Debug = Annotated[
    bool, typer.Option("--debug", callback=_remember_debug, help="Show the traceback of a failure.")
]


def numbers(option: str, text: str | None, kind: Callable[[str], T], example: str) -> tuple[T, ...] | None:
    """The values of an option such as ``--voxel-size 0.5,0.1,0.1``; None stays None.

    Args:
        option: its name, for the message.
        text: positive numbers, separated by commas.
        kind: int or float.
        example: what would be right, for the message.

    Raises:
        SkootsError: the text is something else.
    """
    if text is None:
        return None
    try:
        values = tuple(kind(word) for word in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value < float("inf") for value in values):
        raise SkootsError(
            f"{option} {text!r} is not understood. Write positive {'whole ' * (kind is int)}numbers in "
            f"the order z,y,x with commas between them, e.g. {option} {example}."
        )
    return values


def settings(option: str, words: Sequence[str] | None) -> dict[str, Any]:
    """``key=value`` words as a dict, the values typed as in YAML.

    Raises:
        SkootsError: a word is no ``key=value``, or its value is no YAML.
    """
    from skoots.config.yaml12 import scalar

    values = {}
    for word in words or ():
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise SkootsError(f"{option} {word!r} names no key and value. Write {option} key=value.")
        values[key] = scalar(text)
    return values
