"""A config as YAML with a comment above the keys that have one."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from skoots.config.yaml12 import dump

WIDTH = 110


def dump_commented(tree: Mapping[str, Any], comments: Mapping[str, str], heading: str = "") -> str:
    """A config as YAML for people to read and edit; it loads back to ``tree``.

    Sections, and what has comments inside, are written over several lines; the rest as ``{a: [1, 2]}``.

    Args:
        tree: plain values.
        comments: dotted path of a key to a sentence that is put above it.
        heading: lines of the comment at the top.
    """
    top = [line for sentence in heading.splitlines() for line in _comment(sentence, "")]
    return "\n".join([*top, *_mapping(tree, comments, "", 0)]) + "\n"


def _comment(sentence: str, indent: str) -> list[str]:
    """A line that is indented is a command, and stays whole."""
    if not sentence or sentence.startswith(" "):
        return [f"{indent}# {sentence}".rstrip()]
    return textwrap.wrap(
        sentence,
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _mapping(tree: Mapping[str, Any], comments: Mapping[str, str], path: str, depth: int) -> list[str]:
    indent, lines = "  " * depth, []
    for key, value in tree.items():
        here = f"{path}.{key}" if path else str(key)
        if here in comments:
            lines += _comment(comments[here], indent)
        line = f"{indent}{key}: {_flow(value)}"
        inside = any(other.startswith(f"{here}.") for other in comments)
        if isinstance(value, Mapping) and value and (depth == 0 or inside or len(line) > WIDTH):
            lines += [f"{indent}{key}:", *_mapping(value, comments, here, depth + 1)]
        elif isinstance(value, list) and value and (_all_nodes(value) or len(line) > WIDTH):
            lines += [f"{indent}{key}:", *_items(value, f"{indent}  ")]
        else:
            lines.append(line)
    return lines


def _items(values: list[Any], indent: str) -> list[str]:
    return [f"{indent}- " + _flow(value).replace("\n", f"\n{indent}  ") for value in values]


def _all_nodes(values: list[Any]) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _flow(value: Any) -> str:
    return dump(value, flow=True).removesuffix("...\n").strip()
