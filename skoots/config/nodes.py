"""Nodes against the constructors that they name, in either spelling and nested in each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from skoots.config.arguments import argument_faults, argument_names, signature_of, without_empty
from skoots.config.faults import Faults
from skoots.config.schema import as_node
from skoots.config.words import expected, shown
from skoots.errors import Fault, PluginError, SkootsError
from skoots.registry import Registry

# What other parts publish when a part is built, so that its node need not say it.
SHAPE_FACTS = frozenset({"in_channels", "spatial_dims", "voxel_size"})

Check = Callable[[Any, str], Any]
Find = Registry[Any] | Callable[[str], Any]


class NodeInspector:
    """Collects faults; a method checks a value at a config path and returns it without empty arguments."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def fault(self, path: str, problem: str, remedy: str = "") -> None:
        self.faults.append(Fault(path, problem, remedy))

    def node(self, value: Any, path: str) -> dict[str, Any] | None:
        """A node in either spelling; None, and a fault, if it is none."""
        try:
            return as_node(value)
        except PydanticCustomError as error:
            context = error.context or {}
            self.fault(path, f"{context['problem']}, is {shown(value)}", context["remedy"])
            return None

    def nested(
        self,
        find: Find,
        value: Any,
        path: str,
        extra: Mapping[str, Check] | None = None,
        found: Callable[[Mapping[str, Any], str], Any] | None = None,
    ) -> Any:
        """A node inside another, which the schema has not seen."""
        node = self.node(value, path)
        if node is None:
            return value
        if found:
            return found(node, path)
        before = len(self.faults)
        checked = self.part(find, node, path, SHAPE_FACTS, extra=extra)
        if len(self.faults) == before:
            self.try_out(_look_up(find, node["type"]), checked, path, extra or {})
        return checked

    def try_out(self, part: Any, node: Mapping[str, Any], path: str, extra: Collection[str]) -> None:
        """Build a small part that needs nothing from others: it knows its ranges."""
        given = {name: value for name, value in arguments_of(node, path)[0].items() if name not in extra}
        parameters = signature_of(part).parameters
        if all(name in given for name, parameter in parameters.items() if parameter.required):
            self.build(path, lambda: part(**given))

    def decoder(self, node: Mapping[str, Any], path: str) -> dict[str, Any]:
        """A decoder, which no other part tells anything."""
        from skoots.instances import DECODERS

        before = len(self.faults)
        checked = self.part(DECODERS.get, node, path)
        if len(self.faults) == before:
            self.try_out(DECODERS.get(node["type"]), checked, path, ())
        return checked

    def part(
        self,
        find: Find,
        node: Mapping[str, Any],
        path: str,
        facts: Collection[str] = (),
        nested: Mapping[str, Check] | None = None,
        extra: Mapping[str, Check] | None = None,
        hidden: Collection[str] = (),
    ) -> dict[str, Any]:
        """A node against the constructor that it names.

        Args:
            find: from the name to the class: a registry, or a function that raises ``PluginError``.
            facts: arguments that other parts supply.
            nested: arguments that are nodes, each with its own check.
            extra: keys that belong to the node and not to the constructor, each with its own check.
            hidden: arguments that no config may give.
        """
        given, where = arguments_of(node, path, self.fault)
        replaced = {
            name: check(given[name], where[name])
            for name, check in {**(nested or {}), **(extra or {})}.items()
            if given.get(name) is not None
        }
        constructor = self.find(find, node["type"], f"{path}.type")
        if constructor is not None:
            signature = signature_of(constructor, hidden)
            names = argument_names(signature, given)
            for name, own_name in names.items():
                if name != own_name and own_name in given:
                    self.fault(
                        where[name], f"is given twice, also as {where[own_name]}", "Keep one of the two."
                    )
            node = _renamed(node, names)
            given, where = _renamed(given, names), _renamed(where, names)
            own = {name: value for name, value in given.items() if name not in (extra or {})}
            judged = {name: None if name in replaced else value for name, value in own.items()}
            self.faults.extend(
                argument_faults(
                    signature, judged, lambda name: where.get(name, f"{path}.{name}"), {*facts, *replaced}
                )
            )
            given = without_empty(signature, given)
        return _rewritten({**node, "type": self.name_of(find, node["type"])}, {**given, **replaced})

    def name_of(self, find: Find, name: str) -> str:
        """The name under which a part is registered; as it is if there is none."""
        try:
            return find.name_of(name) if isinstance(find, Registry) else name
        except PluginError:
            return name

    def find(self, find: Find, name: str, path: str) -> Any:
        try:
            return _look_up(find, name)
        except PluginError as error:
            problem, _, remedy = str(error).partition(". ")
            self.fault(path, problem.rstrip("."), remedy)
            return None

    def build(self, path: str, build: Callable[[], Any]) -> Any:
        """Take the constructor's own word on ranges."""
        try:
            return build()
        except (ValueError, TypeError, SkootsError) as error:
            problem, _, remedy = str(error).partition(". ")
            self.fault(path, problem.rstrip("."), remedy)
            return None

    def boolean(self, value: Any, path: str) -> Any:
        if not isinstance(value, bool):
            self.fault(path, f"is {shown(value)}, must be {expected(bool)}")
        return value

    def weight(self, value: Any, path: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            self.fault(path, f"is {shown(value)}, must be a number of at least 0")
        return value


def _look_up(find: Find, name: str) -> Any:
    return find.get(name) if isinstance(find, Registry) else find(name)


def arguments_of(
    node: Mapping[str, Any], path: str, fault: Callable[[str, str, str], None] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The arguments of a node in either spelling, and the config path of each."""
    inside = node.get("params") or {}
    beside = {key: value for key, value in node.items() if key not in ("type", "params")}
    where = {key: f"{path}.params.{key}" for key in inside} | {key: f"{path}.{key}" for key in beside}
    for key in inside:
        if key in beside and fault is not None:
            fault(f"{path}.params.{key}", f"is given twice, also as {path}.{key}", "Keep one of the two.")
    return {**inside, **beside}, where


def _renamed(node: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A node, or its arguments, with these names for arguments."""
    renamed = {names.get(key, key): value for key, value in node.items()}
    if isinstance(node.get("params"), Mapping):
        renamed["params"] = _renamed(node["params"], names)
    return renamed


def _rewritten(node: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The node in its own spelling with these arguments."""
    rewritten: dict[str, Any] = {}
    for key, value in node.items():
        if key == "params":
            rewritten["params"] = {
                name: arguments[name] for name in value if name in arguments and name not in node
            }
        elif key == "type":
            rewritten["type"] = value
        elif key in arguments:
            rewritten[key] = arguments[key]
    return rewritten
