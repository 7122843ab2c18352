"""Values and types in the words of a config file, for messages and for the reference."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


@dataclass(frozen=True)
class Noun:
    """What a type is called in messages; metadata of ``Annotated[dict, Noun("a part", "parts")]``."""

    one: str
    many: str


NOUNS: dict[Any, Noun] = {
    bool: Noun("true or false", "true or false"),
    int: Noun("an integer", "integers"),
    float: Noun("a number", "numbers"),
    complex: Noun("a number", "numbers"),
    str: Noun("text", "texts"),
    Path: Noun("a path", "paths"),
    type(None): Noun("null", "nulls"),
    Any: Noun("any value", "values"),
}


_PLAIN_HOMES = ("builtins", "collections", "pathlib", "types", "typing")


def shown(value: Any, width: int = 60) -> str:
    """A value as one would write it in the config, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= width else text[: width - 3] + "..."


def expected(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a key takes, e.g. ``"auto" or a list of 2 to 3 integers of at least 1``."""
    return _noun(annotation, metadata).one


def _noun(annotation: Any, metadata: Iterable[Any] = ()) -> Noun:
    if get_origin(annotation) is Annotated:
        return _noun(annotation.__origin__, [*annotation.__metadata__, *metadata])
    limits = [limit for item in metadata for limit in (getattr(item, "metadata", None) or [item])]
    named = [limit for limit in limits if isinstance(limit, Noun)]
    noun = named[0] if named else _bare_noun(annotation, limits)
    bounds = _bounds(limits)
    return Noun(noun.one + bounds, noun.many + bounds)


def _bare_noun(annotation: Any, limits: list[Any]) -> Noun:
    if annotation in NOUNS:
        return NOUNS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        choices = " or ".join(shown(choice) for choice in arguments)
        return Noun(choices, choices)
    if origin in (Union, types.UnionType):
        return _either([_noun(argument) for argument in arguments if _has_form(argument)])
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, Mapping | BaseModel):
        return Noun("a section of keys and values", "mappings")
    if isinstance(kind, type) and issubclass(kind, Iterable) and _has_form(kind):
        return _series(arguments, limits)
    if kind is Callable or (isinstance(kind, type) and issubclass(kind, Callable)):  # type: ignore[arg-type]
        return Noun("a function, which a config cannot give", "functions, which a config cannot give")
    name = getattr(annotation, "__name__", str(annotation))
    return Noun(f"a {name}", f"{name}s")


def _has_form(annotation: Any) -> bool:
    """Whether a value of this type can stand in a config; a tensor cannot."""
    if get_origin(annotation) is Annotated:
        return _has_form(annotation.__origin__)
    kind = get_origin(annotation) or annotation
    own = isinstance(kind, type) and kind.__module__.split(".")[0] not in _PLAIN_HOMES
    return not own or hasattr(kind, "__members__") or issubclass(kind, BaseModel)


def _either(nouns: list[Noun]) -> Noun:
    ones, manies = dict.fromkeys(n.one for n in nouns), dict.fromkeys(n.many for n in nouns)
    return Noun(" or ".join(ones), " or ".join(manies))


def _series(arguments: tuple[Any, ...], limits: list[Any]) -> Noun:
    fixed = len(arguments) > 1 and arguments[-1] is not Ellipsis
    items = _either([_noun(a) for a in arguments if a is not Ellipsis]).many if arguments else "values"
    least = next((limit.min_length for limit in limits if hasattr(limit, "min_length")), None)
    most = next((limit.max_length for limit in limits if hasattr(limit, "max_length")), None)
    span = f"{least} " if least == most else f"{least} to {most} "
    count = f"{len(arguments)} " if fixed else span if least and most else ""
    return Noun(f"a list of {count}{items}", f"lists of {count}{items}")


def _bounds(limits: list[Any]) -> str:
    said = {"ge": "of at least", "gt": "greater than", "le": "of at most", "lt": "less than"}
    return " and".join(
        f" {words} {getattr(limit, name)}"
        for limit in limits
        for name, words in said.items()
        if getattr(limit, name, None) is not None
    )
