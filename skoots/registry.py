"""Registries: named collections of interchangeable parts, and the loading of plugins that add to them.

A registry stands beside the abstract class that it collects, e.g. ``HEADS`` in
``skoots/models/heads/base.py``. A part joins by decoration, under its class name or a name given::

    @HEADS.register
    class VectorHead(Head): ...

    @HEADS.register("vector")
    @HEADS.register_module()      # the spelling of DeepLabCut works too

Case does not matter when a part is looked up, unless two names differ in nothing else.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from skoots.errors import PluginError

T = TypeVar("T")
PLUGIN_GROUP = "skoots.plugins"
FROM_FILE = "skoots_plugin_"  # begins the module name of a plugin that is a file


def near_misses(name: str, known: Sequence[str], count: int = 3) -> list[str]:
    """The known names most like ``name``, best first, ignoring case and underscores."""
    plain = {candidate.lower().replace("_", ""): candidate for candidate in known}
    hits = difflib.get_close_matches(name.lower().replace("_", ""), plain, n=count, cutoff=0.6)
    return [plain[hit] for hit in hits]


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A sentence with the near misses, else with all that is known."""
    close = near_misses(name, known)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(sorted(known))}." if known else "None is registered."


class Registry(Generic[T]):
    """Parts of one kind by name.

    Args:
        kind: what a part is, in the singular and in words, e.g. ``"head"``; used in messages.
        base: the abstract class that every part extends, or None where parts are plain callables.
        home: dotted names of the modules whose import registers the built-in parts; imported at first
            look-up, so that importing a registry stays cheap.
        aliases: names that other programs give to built-in parts, each with the name here.
    """

    def __init__(
        self,
        kind: str,
        base: type | None = None,
        home: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.base = base
        self.aliases = dict(aliases or {})
        self._home = list(home)
        self._parts: dict[str, type[T]] = {}

    @overload
    def register(self, target: type[T]) -> type[T]: ...
    @overload
    def register(
        self, target: str | None = None, *, name: str | None = None
    ) -> Callable[[type[T]], type[T]]: ...
    def register(self, target: Any = None, *, name: str | None = None) -> Any:
        """Add a part: ``@R.register``, ``@R.register()``, ``@R.register("name")`` or
        ``@R.register(name="name")``.

        Raises:
            PluginError: the name is taken, or the part does not extend the registry's abstract class.
        """
        if target is None or isinstance(target, str):
            return lambda part: self._add(part, name or target or part.__name__)
        return self._add(target, name or target.__name__)

    register_module = register

    def _add(self, part: type[T], name: str) -> type[T]:
        known = self._parts.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            part.__module__,
            part.__qualname__,
        ):
            raise PluginError(
                f"The {self.kind} name {name!r} is taken by {known.__module__}.{known.__qualname__}; "
                f"register {part.__module__}.{part.__qualname__} under another name."
            )
        if self.base is not None and not (isinstance(part, type) and issubclass(part, self.base)):
            raise PluginError(
                f"{part!r} cannot be registered as a {self.kind}: it does not extend {self.base.__name__}."
            )
        self._parts[name] = part
        return part

    def _import_home(self) -> None:
        while self._home:
            importlib.import_module(self._home.pop(0))

    def get(self, name: str) -> type[T]:
        """The part registered as ``name``, or under another spelling of it.

        Raises:
            PluginError: no part has this name; the message lists near misses.
        """
        return self._parts[self.name_of(name)]

    def name_of(self, name: str) -> str:
        """The name under which a part is registered: of ``name`` itself, else of the alias or the only name
        that differs from it in case alone.

        Raises:
            PluginError: there is none; the message lists near misses.
        """
        self._import_home()
        if name in self._parts:
            return name
        folded = name.casefold()
        spellings = [known for known in self._parts if known.casefold() == folded]
        found = spellings or [known for alias, known in self.aliases.items() if alias.casefold() == folded]
        if len(found) != 1:
            raise PluginError(f"{self.kind} {name!r} is not registered. {did_you_mean(name, self.names())}")
        return found[0]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._import_home()
        return sorted(self._parts)

    def build(self, node: str | Mapping[str, Any], **facts: Any) -> T:
        """Construct the part that a config node names.

        Args:
            node: ``"Name"``, ``{type: Name, ...arguments}`` or ``{type: Name, params: {...}}``.
            facts: what other parts have published (channels, spatial dimensions); those that the constructor
                takes are handed on, an argument in the node wins.
        """
        name, arguments = split_node(node)
        part = self.get(name)
        return part(**{**accepted_facts(part, facts), **arguments})

    def __contains__(self, name: object) -> bool:
        """Whether a part is registered under exactly this name."""
        self._import_home()
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}, {self.names()})"


def split_node(node: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a config node in any of its spellings."""
    if isinstance(node, str):
        return node, {}
    arguments = {key: value for key, value in node.items() if key not in ("type", "params")}
    return node["type"], {**(node.get("params") or {}), **arguments}


def accepted_facts(part: Callable[..., Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Those facts that the constructor of ``part`` has a parameter for; ``**kwargs`` takes them all."""
    parameters = inspect.signature(part).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(facts)
    return {key: value for key, value in facts.items() if key in parameters}


def load_plugin(reference: str, relative_to: Path | None = None) -> None:
    """Import a plugin, so that its decorators run.

    Args:
        reference: a module (``my_pkg.heads``) or a file (``./my_head.py``).
        relative_to: folder that a relative file is looked up in.

    Raises:
        PluginError: it does not exist or fails to import.
    """
    if reference.endswith(".py") or "/" in reference or "\\" in reference:
        _load_file(os.path.join(relative_to or "", os.path.expanduser(reference)))
        return
    if not all(name.isidentifier() for name in reference.split(".")):
        shown = repr(reference if len(reference) <= 60 else f"{reference[:57]}...")
        raise PluginError(f"Plugin {shown} is neither a module nor a .py file. Write one of them.")
    try:
        importlib.import_module(reference)
    except ImportError as error:
        raise PluginError(f"Plugin {reference!r} cannot be imported: {error}. Is it installed?") from error


def plugin_files() -> list[str]:
    """The files among the plugins that were loaded, for another process to load them too."""
    return [str(module.__file__) for name, module in sys.modules.items() if name.startswith(FROM_FILE)]


def _load_file(file: str) -> None:
    if not file.endswith(".py") or not os.path.isfile(file):
        shown = file if len(file) <= 200 else f"{file[:197]}..."
        problem = "does not exist" if file.endswith(".py") else "is no .py file"
        raise PluginError(f"Plugin file {shown} {problem}.")
    path = Path(file).resolve()
    name = f"{FROM_FILE}{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before running it, as import does: pickling and dataclasses look there
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise PluginError(f"Plugin file {path} cannot be imported: {error}.") from error
    except BaseException:
        del sys.modules[name]
        raise


def load_installed_plugins() -> list[str]:
    """Import what installed packages offer under the entry-point group ``skoots.plugins``; returns their
    names."""
    loaded = []
    for entry in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        try:
            entry.load()
        except (ImportError, AttributeError) as error:
            raise PluginError(
                f"Installed plugin {entry.name!r} ({entry.value}) cannot be imported: {error}."
            ) from error
        loaded.append(entry.name)
    return loaded
