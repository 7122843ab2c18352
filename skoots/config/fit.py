"""Plain values as typed sections, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from skoots.config.faults import Faults
from skoots.config.overrides import section_of
from skoots.config.words import expected, shown
from skoots.errors import Fault
from skoots.registry import did_you_mean, near_misses

S = TypeVar("S", bound=BaseModel)


def fit_at(path: str, tree: dict[str, Any], root: type[S]) -> tuple[S, list[Fault]]:
    """As ``fit``, for a part of a config that is translated; the faults under its path.

    Args:
        path: where the part stands, e.g. ``data.train``.
        tree: the part as plain values; changed.
        root: the section that it is to be.
    """
    faults = Faults()
    faults.as_written = lambda fault: replace(fault, path=f"{path}.{fault.path}")
    return fit(tree, root, faults), list(map(faults.as_written, faults))


def fit(tree: dict[str, Any], root: type[S], faults: Faults) -> S:
    """The tree as a section such as ``Config``; what does not fit is left out and added to ``faults``."""
    while True:
        try:
            return root.model_validate(tree)
        except ValidationError as error:
            unfit = []
            for fault, keys in _schema_faults(error, tree, root):
                faults.append(fault)
                unfit.append(keys)
            for keys in unfit:
                _remove(tree, keys)


def _schema_faults(
    error: ValidationError, tree: Mapping[str, Any], root: type[BaseModel]
) -> Iterator[tuple[Fault, tuple[Any, ...]]]:
    """One fault for each key that pydantic complains of, and the keys that lead to it."""
    complaints: dict[tuple[Any, ...], list[Any]] = {}
    for item in error.errors(include_url=False):
        keys, section, field = _locate(item["loc"], root)
        if item["type"] == "extra_forbidden":
            yield Fault(".".join(keys), "unknown key", _where_else(keys[-1], section, root)), keys
        elif item["type"] == "skoots":
            deeper = tuple(key for key in item["loc"][len(keys) :] if isinstance(key, int) or "[" not in key)
            context = item["ctx"]
            yield (
                Fault(
                    ".".join(map(str, (*keys, *deeper))),
                    f"{context['problem']}, is {shown(item['input'])}",
                    context["remedy"],
                ),
                keys,
            )
            complaints[keys] = []
        else:
            complaints.setdefault(keys, [item, field])
    for keys, complaint in complaints.items():
        if complaint:
            item, field = complaint
            yield _misfit(keys, _value_at(tree, keys), item, field), keys


def _locate(
    location: tuple[Any, ...], root: type[BaseModel]
) -> tuple[tuple[str, ...], type[BaseModel], FieldInfo | None]:
    """The keys down to a field, the section class that it stands in, and the field."""
    section = root
    for depth, key in enumerate(location):
        field = section.model_fields.get(str(key))
        inner = section_of(field.annotation) if field is not None else None
        if field is None or inner is None or depth == len(location) - 1:
            return tuple(map(str, location[: depth + 1])), section, field
        section = inner
    return (), section, None


def _misfit(keys: tuple[str, ...], value: Any, item: Mapping[str, Any], field: FieldInfo | None) -> Fault:
    wanted = expected(field.annotation, field.metadata) if field is not None else item["msg"]
    return Fault(".".join(keys), f"is {shown(value)}, must be {wanted}")


def _where_else(key: str, section: type[BaseModel], root: type[BaseModel]) -> str:
    """The nearest key of the section, else the section that the key belongs to."""
    known = list(section.model_fields)
    if not near_misses(key, known):
        homes = [path for path, other in _sections(root, "") if key in other.model_fields]
        if homes:
            return f"It belongs {'under ' + homes[0] if homes[0] else 'at the top level'}."
    return did_you_mean(key, known)


def _sections(section: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, section
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner is not None:
            yield from _sections(inner, f"{path}.{name}" if path else name)


def _value_at(tree: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    value: Any = tree
    for key in keys:
        value = value[key]
    return value


def _remove(tree: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys[:-1]:
        tree = tree.get(key, {})
    tree.pop(keys[-1], None)
