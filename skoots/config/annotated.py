"""A config with a remark behind each line, as YAML text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from skoots.config.yaml12 import inline

WIDTH = 110


@dataclass(frozen=True)
class Line:
    """A value and what is said about it.

    Args:
        value: plain.
        comment: one line, may be empty.
        active: False writes the line as a comment, for the reader to switch on.
    """

    value: Any
    comment: str = ""
    active: bool = True


Tree: TypeAlias = Mapping[str, Any]  # of trees and lines


def plain(tree: Tree) -> dict[str, Any]:
    """The config alone: the values of the active lines; sections that hold none are left out."""
    config = {}
    for key, item in tree.items():
        if not isinstance(item, Line):
            section = plain(item)
            if section:
                config[key] = section
        elif item.active:
            config[key] = item.value
    return config


def render(tree: Tree) -> str:
    """The tree as YAML, one setting a line, with its comment behind it, or above where there is no room."""
    return "".join(f"{line}\n" for line in _lines(tree, ""))


def paragraph(text: str, indent: str = "") -> str:
    """Text as comment lines; those after the first are indented."""
    return "\n".join(
        textwrap.wrap(
            " ".join(text.split()),  # YAML knows more ends of a line than textwrap does
            WIDTH,
            initial_indent="# ",
            subsequent_indent=f"# {indent}",
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _lines(tree: Tree, pad: str) -> Iterator[str]:
    for key, item in tree.items():
        if isinstance(item, Line):
            yield from _setting(key, item, pad)
        elif item:
            yield f"{pad}{key}:"
            yield from _lines(item, pad + "  ")


def _setting(key: str, line: Line, pad: str) -> Iterator[str]:
    nodes = isinstance(line.value, Sequence) and any(isinstance(item, Mapping) for item in line.value)
    first, *rest = (
        [f"{key}:", *(f"  - {inline(n)}" for n in line.value)] if nodes else [f"{key}: {inline(line.value)}"]
    )
    start = pad if line.active else f"{pad}# "
    written = f"{start}{first}"
    if line.comment and len(written) + len(line.comment) + 4 <= WIDTH:
        written += f"  # {line.comment}"
    elif line.comment:
        yield from (f"{pad}{above}" for above in paragraph(line.comment).split("\n"))
    yield written
    yield from (f"{start}{item}" for item in rest)
