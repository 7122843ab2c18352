"""From a YAML file and the words of the command line to a checked ``Config``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from skoots.config.overrides import apply_overrides, section_of
from skoots.config.schema import Config
from skoots.config.validate import check_parts
from skoots.config.words import expected, shown
from skoots.config.yaml12 import dump, parse
from skoots.errors import ConfigError, Fault, PluginError
from skoots.registry import did_you_mean, load_installed_plugins, load_plugin, near_misses

S = TypeVar("S", bound=BaseModel)


def load_config(
    source: Path | str | Mapping[str, Any],
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    trusted: bool = True,
) -> Config:
    """Read a config, load its plugins and check everything in it, before any data is read.

    Args:
        source: a YAML file, or the config as a mapping (for instance out of a snapshot).
        overrides: ``key.path=value``, typed as in YAML, e.g. ``train_settings.epochs=5``.
        plugins: modules or files to load besides those that the config names; relative to the working folder.
        trusted: whether plugins that the config names are loaded. Say False for a config that someone else
            wrote, such as the one in a snapshot: then they must also be given in ``plugins`` or come with an
            installed package.

    Raises:
        ConfigError: with every fault found.
    """
    path = None if isinstance(source, Mapping) else Path(source).expanduser()
    tree, faults = ({}, []) if path is None else _read(path)
    if isinstance(source, Mapping):
        tree = plain_values(source, "", faults)
    faults += apply_overrides(tree, overrides)
    drop_empty(tree, Config)
    faults += _load_plugins(tree, plugins, path.parent if path else Path(), trusted)
    alone = _alone(tree)
    config, unfit = fit(tree, Config)
    config, misnamed = check_parts(config)
    faults += [_as_written(fault, alone) for fault in [*unfit, *misnamed]]
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)), str(path) if path else "")
    config._source = path
    return config


def write_config(config: Config, path: Path | str) -> None:
    """Save a resolved config as YAML.

    Raises:
        ConfigError: it would overwrite the file that the config was read from, or cannot be written.
    """
    path = Path(path)
    if config.source is not None and path.resolve() == config.source.resolve():
        raise ConfigError(f"{path} is the config that was read; a resolved config is never written over it.")
    write_text(dump(config.resolved()), path)


def write_text(text: str, path: Path) -> None:
    """Write a file whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def read_text(path: Path) -> str:
    """The text of a config file.

    Raises:
        ConfigError: it does not exist or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"The config {path} does not exist. {_neighbours(path)}") from error
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The config {path} is not UTF-8 text. Is it a YAML file?") from error


def _read(path: Path) -> tuple[dict[str, Any], list[Fault]]:
    value, faults = parse(read_text(path), str(path))
    if value is None:
        raise ConfigError(
            f"The config {path} is empty. Write at least data: and train: with a folder under it."
        )
    if not isinstance(value, dict):
        raise ConfigError(f"The config {path} holds {shown(value)} and no sections. Write key: value lines.")
    return plain_values(value, "", faults), faults


def _neighbours(path: Path) -> str:
    configs = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    return did_you_mean(path.name, configs) if near_misses(path.name, configs) else "Check the path."


def plain_values(value: Any, path: str, faults: list[Fault]) -> Any:
    """A copy in dicts, lists, texts and numbers, whatever kinds of them a caller in Python has used."""
    if isinstance(value, Mapping):
        return {
            str(key): plain_values(item, f"{path}.{key}" if path else str(key), faults)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain_values(item, f"{path}.{i}", faults) for i, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return plain_values(value.tolist(), path, faults)
    if value is not None and not isinstance(value, bool | int | float | str):
        faults.append(
            Fault(path, f"is a {type(value).__name__}", "A config holds texts, numbers, lists and mappings.")
        )
        return None
    return value


def drop_empty(tree: dict[str, Any], section: type[BaseModel]) -> None:
    """Forget the keys of sections that have nothing after them: they mean their default, but where nothing is
    a choice of its own."""
    for key in [key for key, value in tree.items() if value is None]:
        if key in section.model_fields and not _may_be_null(section.model_fields[key]):
            del tree[key]
    for key, value in tree.items():
        inner = section_of(section.model_fields[key].annotation) if key in section.model_fields else None
        if inner is not None and isinstance(value, dict):
            drop_empty(value, inner)


def _may_be_null(field: FieldInfo) -> bool:
    """Whether null is a value, and another one than the default."""
    return field.default is not None and type(None) in get_args(field.annotation)


def _alone(tree: Mapping[str, Any]) -> list[str]:
    """Paths of lists that the user wrote as their one item."""
    data = tree.get("data")
    data = data if isinstance(data, Mapping) else {}
    written = {
        "logger": tree.get("logger"),
        **{f"data.{name}": data.get(name) for name in ("train", "validation", "test", "background")},
    }
    return [path for path, value in written.items() if isinstance(value, str | Mapping)]


def _as_written(fault: Fault, alone: Sequence[str]) -> Fault:
    """The fault under the path that the user wrote: without the ``0`` of a list of one."""
    for path in alone:
        if f"{fault.path}.".startswith(f"{path}.0."):
            return replace(fault, path=path + fault.path[len(path) + 2 :])
    return fault


# Plugins


def _load_plugins(tree: dict[str, Any], given: Sequence[str], folder: Path, trusted: bool) -> list[Fault]:
    """Load them all, and leave in the tree their list, files as absolute paths: the resolved config moves."""
    try:
        load_installed_plugins()
    except PluginError as error:
        return [_split(error, "plugins")]
    faults, loaded = [], []
    asked = [_absolute(reference, Path()) for reference in given]
    named = tree.get("plugins", [])
    if isinstance(named, str):
        named = [named]
    if not isinstance(named, list) or not all(isinstance(reference, str) for reference in named):
        return []  # the schema names this fault
    wanted = [(f"plugins.{i}", _absolute(reference, folder)) for i, reference in enumerate(named)]
    for path, reference in [*wanted, *(("plugins", reference) for reference in asked)]:
        if not trusted and reference not in asked:
            stand_in = next((r for r in asked if Path(r).name == Path(reference).name), None)
            if stand_in is None and reference not in sys.modules:
                problem = f"{reference!r} is code that this config asks for, and it was not loaded"
                faults.append(
                    Fault(path, problem, f"If you trust it, give it yourself: --plugin {reference}.")
                )
                continue
            reference = stand_in or reference
        try:
            load_plugin(reference)
        except PluginError as error:
            faults.append(_split(error, path))
        loaded.append(reference)
    if loaded or named:
        tree["plugins"] = list(dict.fromkeys(loaded))
    return faults


def _absolute(reference: str, folder: Path) -> str:
    is_file = reference.endswith(".py") or "/" in reference or "\\" in reference
    return str((folder / Path(reference).expanduser()).resolve()) if is_file else reference


def _split(error: PluginError, path: str) -> Fault:
    problem, _, remedy = str(error).partition(". ")
    return Fault(path, problem.rstrip("."), remedy)


# Schema


def fit(tree: dict[str, Any], root: type[S]) -> tuple[S, list[Fault]]:
    """The tree as a section such as ``Config``, and what of it does not fit; what does not fit is left
    out."""
    faults: list[Fault] = []
    while True:
        try:
            return root.model_validate(tree), faults
        except ValidationError as error:
            unfit = list(_schema_faults(error, tree, root))
            faults += [fault for fault, _ in unfit]
            for _, keys in unfit:
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
