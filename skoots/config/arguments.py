"""Arguments of a part against the signature of its constructor: unknown, missing and ill-typed ones.

Types are checked by pydantic on the constructor's annotations, as strictly as JSON is: an integer is a
number, a list is any sequence, but text is no number and true is no integer. An annotation that pydantic
cannot judge is passed over.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from skoots.config.words import expected, shown
from skoots.errors import Fault
from skoots.registry import did_you_mean

_UNKNOWN = object()


@dataclass(frozen=True)
class Parameter:
    """One argument that a constructor takes.

    Args:
        required: it has no default.
        annotation: its type, or a marker if that cannot be resolved.
    """

    required: bool
    annotation: Any

    @property
    def takes_null(self) -> bool:
        """Whether ``null`` is a value and not the same as an argument left out."""
        return self.annotation is not _UNKNOWN and not _type_problem(None, self.annotation)


@dataclass(frozen=True)
class Signature:
    """What a constructor takes.

    Args:
        name: of the class or function.
        parameters: by name.
        open: it takes any other keyword besides.
        onward: gives the function that is handed these other keywords; None if nobody says.
    """

    name: str
    parameters: dict[str, Parameter]
    open: bool
    onward: Callable[[], Callable[..., Any] | None] | None = None

    def with_onward(self) -> Signature:
        """Together with the arguments of that function."""
        function = self.onward() if self.onward is not None else None
        if function is None:
            return self
        other = signature_of(function)
        return Signature(self.name, {**other.parameters, **self.parameters}, other.open)


def signature_of(part: Callable[..., Any], without: Collection[str] = ()) -> Signature:
    """The arguments of a class's constructor, or of a function, less those that no config may give.

    A class whose constructor hands other keywords on to a function may name it by a static method
    ``hands_on_to``, so that they are checked too.
    """
    parameters = inspect.signature(part).parameters.values()
    keywords = [
        p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in without
    ]
    found = {p.name: Parameter(p.default is p.empty, _annotation(part, p)) for p in keywords}
    is_open = any(p.kind == p.VAR_KEYWORD for p in parameters)
    return Signature(part.__name__, found, is_open, getattr(part, "hands_on_to", None) if is_open else None)


def argument_faults(
    signature: Signature, given: Mapping[str, Any], path: Callable[[str], str], supplied: Collection[str] = ()
) -> Iterator[Fault]:
    """Everything wrong with the arguments of a part.

    Args:
        signature: what its constructor takes.
        given: the arguments of the node; one that is None counts as left out unless None is a value of it.
        path: from the name of an argument to its config path.
        supplied: arguments that other parts supply, so that they may be missing.
    """
    if not given.keys() <= signature.parameters.keys():
        signature = signature.with_onward()
    for name, value in given.items():
        parameter = signature.parameters.get(name)
        if parameter is None:
            if not signature.open:
                known = list(signature.parameters)
                remedy = did_you_mean(name, known) if known else f"{signature.name} takes no arguments."
                yield Fault(path(name), f"unknown key of {signature.name}", remedy)
        elif value is None:
            if parameter.required and not parameter.takes_null and name not in supplied:
                yield _missing(signature, name, path)
        elif parameter.annotation is not _UNKNOWN:
            problem = _type_problem(value, parameter.annotation)
            if problem:
                yield Fault(path(name), f"is {shown(value)}, must be {problem}")
    for name, parameter in signature.parameters.items():
        if parameter.required and name not in given and name not in supplied:
            yield _missing(signature, name, path)


def argument_names(signature: Signature, given: Collection[str]) -> dict[str, str]:
    """The constructor's name for each argument given: ``iter_``, which Python code writes to leave its own
    ``iter`` alone, is ``iter`` where the constructor calls it so."""
    known = signature.parameters
    return {
        name: name.removesuffix("_") if name not in known and name.removesuffix("_") in known else name
        for name in given
    }


def without_empty(signature: Signature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments less those left empty in the config, which take the constructor's default."""
    known = signature.parameters
    return {
        name: value
        for name, value in arguments.items()
        if value is not None or name not in known or known[name].takes_null
    }


def _missing(signature: Signature, name: str, path: Callable[[str], str]) -> Fault:
    annotation = signature.parameters[name].annotation
    kind = "" if annotation in (_UNKNOWN, Any) else f" ({expected(annotation)})"
    return Fault(path(name), "is missing", f"{signature.name} needs it{kind}.")


def _annotation(part: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type of a parameter, looked up in the module of the class that states it."""
    if parameter.annotation is parameter.empty:
        return _UNKNOWN
    owner: Any = part
    if isinstance(part, type):
        owner = next((base for base in part.__mro__ if "__init__" in vars(base)), part)
        if dataclasses.is_dataclass(owner):  # its constructor also takes the fields of the classes above
            stating = (b for b in part.__mro__ if parameter.name in vars(b).get("__annotations__", {}))
            owner = next(stating, owner)
    names = vars(sys.modules.get(owner.__module__, types))
    holder = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        hint = typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except (NameError, AttributeError, TypeError, SyntaxError):  # imported for type checkers only
        return _UNKNOWN
    return hint | None if parameter.default is None and hint is not Any else hint


def _type_problem(value: Any, annotation: Any) -> str:
    """What the value must be instead, or nothing."""
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, NameError, TypeError):
        return ""
    try:
        result = adapter.validate_json(json.dumps(value), strict=True)
        if hasattr(result, "__next__"):  # pydantic checks the items of an Iterable as they are drawn
            list(result)
    except ValidationError as error:
        errors = [e for e in error.errors(include_url=False) if e["type"] != "needs_python_object"]
        if not errors:  # the annotation names a class that has no form in YAML
            return ""
        plain = ("_type", "_parsing", "literal_error", "too_long", "too_short", "missing")
        judged = [e for e in errors if not e["type"].endswith(plain)]
        return f"{expected(annotation)}" + (f" ({judged[0]['msg']})" if judged and len(errors) == 1 else "")
    return ""
