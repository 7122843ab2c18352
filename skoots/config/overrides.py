"""Overrides from the command line: ``runner.optimizer.params.lr=1e-4`` set in a tree of plain values.

An override may reach into what the config leaves to its default: the containers on its way are filled in
from the schema. Whether the key exists is the schema's to say, and the constructor's of the part.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from skoots.config.faults import Faults
from skoots.config.plain import plain
from skoots.config.schema import Config
from skoots.config.words import shown
from skoots.config.yaml12 import scalar
from skoots.errors import ConfigError, Fault


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str], faults: Faults) -> None:
    """Set every override in ``tree``, in their order.

    Args:
        tree: the config as plain values; changed.
        overrides: each ``key.path=value``; numbers are positions in a list, the value is YAML.
        faults: those that cannot be set are added to them.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            remedy = "Write key.path=value, e.g. train_settings.epochs=5."
            faults.append(Fault("", f"override {shown(override)} names no key and value", remedy))
            continue
        try:
            _set(tree, keys, plain(scalar(text), path, faults))
        except ConfigError as error:
            faults.extend(
                Fault(path, f"override {shown(override)}: {f.problem}", f.remedy) for f in error.faults
            )


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section class in an annotation such as ``DetectorSection | None``."""
    if get_origin(annotation) in (Union, UnionType):
        return next((found for found in map(section_of, get_args(annotation)) if found), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _set(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    container: Any = tree
    section: type[BaseModel] | None = Config
    for depth, key in enumerate(keys[:-1]):
        key = _slot(container, key, keys[: depth + 1])
        default, section = _default(section, key)
        if _at(container, key) is None:
            _put(container, key, default)
        _put(container, key, _opened(_at(container, key), keys[depth + 1], keys[: depth + 1]))
        container = _at(container, key)
    _put(container, _slot(container, keys[-1], keys), value)


def _default(section: type[BaseModel] | None, key: Any) -> tuple[Any, type[BaseModel] | None]:
    """What stands at ``key`` if the config does not say, and the section class that it opens."""
    if section is None or key not in section.model_fields:
        return {}, None
    field = section.model_fields[key]
    default = copy.deepcopy(field.default)
    return (default if isinstance(default, dict | list | str) else {}), section_of(field.annotation)


def _opened(value: Any, next_key: str, path: list[str]) -> Any:
    """A value as the container that ``next_key`` is looked up in; shorthands are written out."""
    number = next_key.isdigit()
    if path[0] == "data" and path[1:2] in (["train"], ["validation"], ["test"]):
        if len(path) == 2 and isinstance(value, str | dict) and number:
            return [value] if value else []
        if isinstance(value, str):
            return {"path": value}
    elif path == ["logger"] and isinstance(value, str | dict) and number:
        return [value] if value else []
    elif isinstance(value, str) and not number:
        return {"type": value}
    if not isinstance(value, dict | list):
        raise ConfigError(
            [Fault("", f"{'.'.join(path)} is a single value and has no keys", "Set it as a whole.")]
        )
    return value


def _slot(container: Any, key: str, path: list[str]) -> Any:
    """The key itself, or the position in a list."""
    if isinstance(container, list):
        if not key.isdigit() or int(key) > len(container):
            counted = f"has {len(container)} item{'' if len(container) == 1 else 's'}"
            remedy = f"Write a number from 0 to {len(container)} (a new item) after {'.'.join(path[:-1])}."
            raise ConfigError(
                [Fault("", f"{'.'.join(path[:-1])} is a list and {counted}; {key!r} is none of them", remedy)]
            )
        return int(key)
    return key


def _at(container: Any, key: Any) -> Any:
    container, key = _spelling(container, key)
    if isinstance(container, list):
        return container[key] if key < len(container) else None
    return container.get(key)


def _put(container: Any, key: Any, value: Any) -> None:
    container, key = _spelling(container, key)
    if isinstance(container, list) and key == len(container):
        container.append(value)
    else:
        container[key] = value


def _spelling(container: Any, key: Any) -> tuple[Any, Any]:
    """An argument of a node is set where the node has it, in ``params`` or beside ``type``."""
    inside = container.get("params") if isinstance(container, dict) and "type" in container else None
    if isinstance(inside, dict) and key in inside and key not in container:
        return inside, key
    return container, key
