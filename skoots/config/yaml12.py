"""YAML 1.2 scalars on top of PyYAML, with duplicate keys as faults and ``...`` as an elision.

PyYAML speaks YAML 1.1, in which ``1e-3`` is text, ``010`` is eight, ``1:30`` is ninety and ``no`` is false.
Here scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import yaml

from skoots.errors import ConfigError, Fault

Resolvers: TypeAlias = dict[str, list[tuple[str, re.Pattern[str]]]]

_SCALARS = [
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
]
_ELISION = re.compile(r"\s*\.\.\.\s*(#.*)?$")
_BLOCK_TEXT = re.compile(r"[|>][-+0-9]*\s*(#.*)?$")


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: Resolvers = {}  # noqa: RUF012 - as PyYAML types it; none of YAML 1.1's


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would not read back as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None  # a block, in which a line of dots is no elision
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


for _kind, _pattern, _first in _SCALARS:
    for _speaker in (_Loader, _Dumper):
        _characters = ["" if character == "\0" else character for character in _first]
        _speaker.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _characters
        )
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Dumper.add_representer(str, _text)


def parse(
    text: str, source: str = "", loader_class: type[yaml.SafeLoader] = _Loader
) -> tuple[Any, list[Fault]]:
    """The value that a YAML text stands for, and its duplicate keys as faults.

    Lines that hold nothing but ``...`` are elisions, as in DeepLabCut's documentation, and read as empty.

    Args:
        text: one document.
        source: where it comes from, for messages.
        loader_class: what scalars and tags mean; YAML 1.2 by default.

    Raises:
        ConfigError: the text is not YAML; the message has line and column.
    """
    try:
        loader = loader_class(_without_elisions(text))
        node = loader.get_single_node()
        faults = list(_duplicates(node, "", ())) if node is not None else []
        value = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_fault(error)], source) from error
    except yaml.reader.ReaderError as error:
        problem = f"character {error.position + 1} ({error.character!r}) is not allowed in YAML"
        raise ConfigError([Fault("", problem, "Save the file as plain UTF-8 text.")], source) from error
    return value, faults


def inline(value: Any) -> str:
    """A plain value as YAML on one line, e.g. ``{type: Tversky, alpha: 0.25}``."""
    text = yaml.dump(
        [value],
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=float("inf"),
        default_flow_style=True,
    )
    return text.strip()[1:-1]


def scalar(text: str) -> Any:
    """The value of one override, typed as in YAML.

    Raises:
        ConfigError: the text is not YAML.
    """
    value, faults = parse(text)
    if faults:
        raise ConfigError(faults)
    return value


def dump(value: Any, flow: bool = False) -> str:
    """A plain value as YAML that both versions of YAML read alike; ``flow`` writes ``{a: [1, 2]}``."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=flow
    )


def _without_elisions(text: str) -> str:
    lines, block_indent = [], None
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if block_indent is not None and line.strip() and indent <= block_indent:
            block_indent = None
        inside_text = block_indent is not None
        lines.append(
            "" if _ELISION.match(line) and not inside_text else line
        )  # empty, so that line numbers stay
        if not inside_text and _BLOCK_TEXT.search(line):
            block_indent = indent
    return "\n".join(lines)


def _duplicates(node: yaml.Node, path: str, above: tuple[yaml.Node, ...]) -> Iterator[Fault]:
    if any(node is ancestor for ancestor in above):
        raise yaml.MarkedYAMLError(
            problem="an alias stands inside what it repeats", problem_mark=node.start_mark
        )
    children: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        children = [(str(index), item) for index, item in enumerate(node.value)]
    elif isinstance(node, yaml.MappingNode):
        children = [(str(key.value), item) for key, item in node.value]
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                where = f"lines {lines[name]} and {line}" if line != lines[name] else f"line {line}"
                yield Fault(_join(path, name), f"is given twice ({where})", "Keep one of the two.")
            lines.setdefault(name, line)
    for name, item in children:
        yield from _duplicates(item, _join(path, name), (*above, node))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _syntax_fault(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or str(error)).rstrip(".")
    if error.context_mark and ("end of stream" in problem or "<stream end>" in problem):
        mark, problem = error.context_mark, "the bracket or quote that opens here is never closed"
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    remedy = ""
    if "\\t" in problem:
        remedy = "Indent with spaces, not with tabs."
    elif "mapping values are not allowed" in problem:
        remedy = "A colon too many, or a key that is indented more than its neighbours?"
    elif "expected <block end>" in problem or "could not find expected ':'" in problem:
        remedy = "Check the indentation, colons and quotes around this line."
    elif "another document" in str(error) or "single document" in str(error):
        remedy = "A config is one document, without --- between its sections."
    return Fault("", where + problem, remedy)
