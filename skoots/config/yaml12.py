"""YAML 1.2 scalars on top of PyYAML, within bounds, with duplicate keys as faults and ``...`` as an elision.

PyYAML speaks YAML 1.1, in which ``1e-3`` is text, ``010`` is eight, ``1:30`` is ninety and ``no`` is false.
Here scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).

ruamel.yaml was weighed against this file. It keeps comments, which nobody needs: a user's file is never
written again. It takes dates, ``1_000`` and unknown tags for values, ends in a traceback or a hang on the
same hostile texts as PyYAML, and takes twice as long; the bounds below would be needed on top of it as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar, TypeAlias

import yaml

from skoots.config.faults import MANY
from skoots.config.plain import MAX_DEPTH, MAX_VALUES, fits_64_bits
from skoots.errors import ConfigError, Fault

Resolvers: TypeAlias = dict[str, list[tuple[str, re.Pattern[str]]]]
Constructors: TypeAlias = dict[Any, Any]

_TAG = "tag:yaml.org,2002:"

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


class BoundedLoader(yaml.SafeLoader):
    """Refuses, with line and column, what is no config: nesting and aliases without end, tags that do not fit
    their text, integers of more than 64 bits."""

    yaml_constructors: ClassVar[Constructors] = {  # no dates, sets and binary data
        f"{_TAG}{kind}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{kind}"]
        for kind in ("null", "bool", "int", "float", "str", "seq", "map")
    } | {f"{_TAG}merge": yaml.SafeLoader.yaml_constructors[f"{_TAG}str"]}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._indented = (-1, 0)  # of the line with the last tab: its start, and the end of its indentation
        self._depth = self._deepest = self._values = 0
        self._extent: dict[int, tuple[int, int]] = {}  # of each finished node: values in it, and levels

    def scan_to_next_token(self) -> None:
        """As PyYAML, but tabs stand for spaces wherever they do not indent, as YAML 1.2 has it."""
        super().scan_to_next_token()
        while self.peek() == "\t":
            line = self.pointer - self.column
            if self._indented[0] != line:
                self._indented = line, _end(" *", self.buffer, line)
            end = _end("[ \t]*", self.buffer, self.pointer)
            if self._indented[1] == self.pointer and self.buffer[end] not in "#\r\n\0":
                return
            self.forward(end - self.pointer)
            super().scan_to_next_token()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML, but an alias counts as what it repeats."""
        mark, is_alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        around, values = self._deepest, self._values
        self._depth += 1
        self._deepest = self._depth
        self._values += 1
        self._check_bounds(mark)
        node = super().compose_node(parent, index)
        if is_alias:
            if id(node) not in self._extent:
                problem = "an alias stands inside what it repeats"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark if node else mark)
            repeated, height = self._extent[id(node)]
            self._values += repeated - 1
            self._deepest += height
            self._check_bounds(mark)
        else:
            self._extent[id(node)] = self._values - values, self._deepest - self._depth
        self._deepest = max(around, self._deepest)
        self._depth -= 1
        return node

    def _check_bounds(self, mark: yaml.Mark) -> None:
        if self._deepest > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"is nested deeper than {MAX_DEPTH} levels", problem_mark=mark)
        if self._values > MAX_VALUES:
            problem = f"more than {MAX_VALUES:,} values, with aliases written out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML, but a tag must fit the text behind it, and an integer 64 bits."""
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode) and kind in ("null", "bool", "int", "float"):
            found = self.resolve(yaml.ScalarNode, node.value, (True, False)).removeprefix(_TAG)
            if found != kind and (found, kind) != ("int", "float"):
                raise _misfit(node, f"is tagged !!{kind}, which it is not")
        try:
            value = super().construct_object(node, deep)
        except ValueError as error:  # Python converts no number of thousands of digits
            raise _misfit(node, "is too long for a number") from error
        if isinstance(value, int) and not fits_64_bits(value):
            raise _misfit(node, "is an integer of more than 64 bits")
        return value

    def construct_undefined(self, node: yaml.Node) -> Any:
        tag = node.tag.replace(_TAG, "!!")
        problem = f"a config knows no tag {tag}"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _end(pattern: str, text: str, start: int) -> int:
    found = re.compile(pattern).match(text, start)
    assert found is not None
    return found.end()


BoundedLoader.add_constructor(None, BoundedLoader.construct_undefined)


def _misfit(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    text = node.value if len(node.value) <= 40 else f"{node.value[:37]}..."
    return yaml.MarkedYAMLError(problem=f"{text!r} {problem}", problem_mark=node.start_mark)


class _Loader(BoundedLoader):
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
    text: str, source: str = "", loader_class: type[BoundedLoader] = _Loader
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
    if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(text):
        problem = f"character {unprintable.start() + 1} ({unprintable.group()!r}) is not allowed in YAML"
        raise ConfigError([Fault("", problem, "Save the file as plain UTF-8 text.")], source)
    try:
        loader = loader_class(_without_elisions(text))
        node = loader.get_single_node()
        faults = list(islice(_duplicates(node), MANY)) if node is not None else []
        value = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_fault(error)], source) from error
    except (ValueError, OverflowError) as error:  # a version of 5,000 digits, the character \U99999999
        raise ConfigError([Fault("", f"a number in it is too large ({error})")], source) from error
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
    if "..." not in text:
        return text
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


def _duplicates(root: yaml.Node) -> Iterator[Fault]:
    """Keys that stand twice in a mapping; what aliases repeat is looked at once."""
    waiting, seen = [(root, "")], set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
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
        waiting += [(item, _join(path, name)) for name, item in reversed(children)]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _syntax_fault(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    problem = (error.problem or str(error)).rstrip(".")
    if error.context and "duplicate anchor" in error.context:
        problem = error.context.partition(";")[0]
    problem = problem if len(problem) <= 200 else f"{problem[:197]}..."
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
