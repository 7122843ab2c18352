"""``skoots list``."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skoots.cli import console, options
from skoots.errors import SkootsError
from skoots.terminal import print_result

if TYPE_CHECKING:
    from skoots.registry import Registry

EXAMPLES = ("skoots list", "skoots list heads", "skoots list criteria --plugin ./my_loss.py")
WIDTH = 100
FACTS = "What other parts publish (in_channels, spatial_dims, voxel_size, folder) a config need not say."


def list_parts(
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help="backbones, heads, criteria, ...", show_default=False)
    ] = None,
    plugin: options.Plugins = None,
    debug: options.Debug = False,
) -> None:
    """Name the parts that a config can be made of.

    With a kind, what each part is and the arguments that it takes.
    """
    from skoots import api
    from skoots.registry import load_installed_plugins, load_plugin

    load_installed_plugins()
    for reference in plugin or ():
        load_plugin(reference)
    registries = api.registries()
    print_result(overview(registries) if kind is None else details(find_kind(kind, registries)))


def find_kind(kind: str, registries: Mapping[str, Registry[Any]]) -> Registry[Any]:
    """The registry of a kind, in the plural or the singular.

    Raises:
        SkootsError: there is none; the message lists near misses.
    """
    from skoots.registry import did_you_mean

    plain = kind.lower().replace("-", "_").replace(" ", "_")
    singular = {registry.kind.replace(" ", "_"): name for name, registry in registries.items()}
    name = singular.get(plain, plain)
    if name not in registries:
        raise SkootsError(f"There are no parts called {kind!r}. {did_you_mean(plain, list(registries))}")
    return registries[name]


def overview(registries: Mapping[str, Registry[Any]]) -> str:
    """Every kind with the names of its parts."""
    rows = [[name, ", ".join(registry.names()) or "none"] for name, registry in registries.items()]
    return console.table(rows, "<<") + "\n\n" + console.next_command("list", next(iter(registries)))


def details(registry: Registry[Any]) -> str:
    """Every part of a kind: its call, and its docstring's first sentence."""
    parts = {name: registry.get(name) for name in registry.names()}
    if not parts:
        return f"No {registry.kind} is registered."
    described = [
        "\n".join([_wrapped(call(name, part)), f"    {first_sentence(part)}"]) for name, part in parts.items()
    ]
    return "\n\n".join([*(text.rstrip() for text in described), FACTS])


def call(name: str, part: Any) -> str:
    """``Name(argument, other=default)``: what a config may write as ``{type: Name, argument: ...}``."""
    arguments = [_argument(parameter) for parameter in inspect.signature(part).parameters.values()]
    return f"{name}({', '.join(arguments)})"


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return str(parameter).split(":")[0]  # *names or **names, without the annotation
    default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
    return parameter.name + default


def first_sentence(part: Any) -> str:
    """The first sentence of the part's own docstring, on one line; an inherited one would mislead."""
    own = part.__dict__.get("__doc__") if isinstance(part, type) else part.__doc__
    paragraph = " ".join(inspect.cleandoc(own or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)(?<!al\.) ", paragraph.replace("``", "`"), maxsplit=1)[0]  # "et al." ends none


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="        ", break_long_words=False))
