"""From a YAML file and the words of the command line to a checked ``Config``."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from skoots.config.checkpoint_params import translate_checkpoint_params
from skoots.config.dlc_transforms import translate_transforms
from skoots.config.faults import Faults
from skoots.config.fit import fit
from skoots.config.overrides import apply_overrides, section_of
from skoots.config.plain import MAX_BYTES, plain
from skoots.config.schema import Config
from skoots.config.validate import check_parts
from skoots.config.words import shown
from skoots.config.yaml12 import dump, parse
from skoots.errors import ConfigError, Fault, PluginError
from skoots.refusals import writing
from skoots.registry import did_you_mean, load_installed_plugins, load_plugin, near_misses
from skoots.unfinished import Unfinished

S = TypeVar("S", bound=BaseModel)
ORIGINAL_SECTIONS = {"SYSTEM", "MODEL", "TRAIN", "AUGMENTATION", "SKOOTS", "EXPERIMENTAL"}


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
    path = None if isinstance(source, Mapping) else Path(os.path.expanduser(source))
    faults = Faults(str(path or ""))
    if isinstance(source, Mapping):
        tree = plain(source, "", faults)
    else:
        assert path is not None
        tree = _read(path, faults)
    if tree and tree.keys() <= ORIGINAL_SECTIONS:
        raise ConfigError(
            f"{path or 'This'} is a config of the original SKOOTS. Translate it: skoots import-config "
            f"{path or 'OLD.yaml'} -o new.yaml."
        )
    apply_overrides(tree, overrides, faults)
    drop_empty(tree, Config)
    _load_plugins(tree, plugins, path.parent if path else Path(), trusted, faults)
    faults.as_written = partial(_as_written, alone=_alone(tree))
    faults.extend(translate_transforms(tree))
    faults.extend(translate_checkpoint_params(tree))
    config = check_parts(fit(tree, Config, faults), faults)
    faults.end()
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
    path = path.absolute()  # the name of "." is empty
    try:
        with writing(path, ConfigError), Unfinished(path) as file:
            file.temporary.write_text(text, encoding="utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{path} cannot be written: a name in it cannot be encoded. Rename that file or folder."
        ) from error


def read_text(path: Path) -> str:
    """The text of a config file, in UTF-8, or in UTF-16 or 32 as Windows writes it.

    Raises:
        ConfigError: it does not exist, is no text, or is larger than any config.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe may take for ever
            what = "a folder" if path.is_dir() else "a device or a pipe"
            raise ConfigError(f"The config {path} is {what}. Give a YAML file.")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"The config {path} does not exist. {_neighbours(path)}") from error
    except OSError as error:
        raise ConfigError(f"The config {shown(str(path))} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # a name with the character NUL
        raise ConfigError(f"The config {shown(str(path))} cannot be read: {error}.") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"The config {path} is larger than {MAX_BYTES >> 10} KiB. Is it a YAML file?")
    encoding = json.detect_encoding(content)  # YAML tells encodings apart as JSON does
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise ConfigError(f"The config {path} is not {name} text. Is it a YAML file?") from error


def _read(path: Path, faults: Faults) -> dict[str, Any]:
    value, twice = parse(read_text(path), str(path))
    if value is None:
        raise ConfigError(
            f"The config {path} is empty. Write at least data: and train: with a folder under it."
        )
    if not isinstance(value, dict):
        raise ConfigError(f"The config {path} holds {shown(value)} and no sections. Write key: value lines.")
    faults.extend(twice)
    return cast(dict[str, Any], plain(value, "", faults))


def _neighbours(path: Path) -> str:
    configs = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    return did_you_mean(path.name, configs) if near_misses(path.name, configs) else "Check the path."


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


def _load_plugins(
    tree: dict[str, Any], given: Sequence[str], folder: Path, trusted: bool, faults: Faults
) -> None:
    """Load them all, and leave in the tree their list, files as absolute paths: the resolved config moves."""
    try:
        load_installed_plugins()
    except PluginError as error:
        faults.append(_split(error, "plugins"))
        return
    loaded = []
    asked = [_absolute(reference, Path()) for reference in given]
    named = tree.get("plugins", [])
    if isinstance(named, str):
        named = [named]
    if not isinstance(named, list) or not all(isinstance(reference, str) for reference in named):
        return  # the schema names this fault
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


def _absolute(reference: str, folder: Path) -> str:
    is_file = reference.endswith(".py") or "/" in reference or "\\" in reference
    if not is_file or "\0" in reference:
        return reference
    return os.path.realpath(os.path.join(folder, os.path.expanduser(reference)))


def _split(error: PluginError, path: str) -> Fault:
    problem, _, remedy = str(error).partition(". ")
    return Fault(path, problem.rstrip("."), remedy)
