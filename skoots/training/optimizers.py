"""Optimizers: any class of ``torch.optim`` by name, over the trainable parameters of a model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from skoots.errors import ConfigError, PluginError, SnapshotError
from skoots.registry import did_you_mean, split_node

C = TypeVar("C", bound=type)

UNSUITED = {
    "LBFGS": "it evaluates the loss several times a step",
    "SparseAdam": "it takes sparse gradients only",
}


def optimizer_class(name: str) -> type[Optimizer]:
    """The class of ``torch.optim`` with this name; case and underscores do not matter.

    Raises:
        PluginError: there is none; the message lists near misses.
    """
    known = {
        key: value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, Optimizer) and value is not Optimizer
    }
    return class_by_name("optimizer", name, known)


def build_optimizer(node: str | Mapping[str, Any], model: nn.Module) -> Optimizer:
    """The optimizer that a config node names, over every parameter of ``model`` that is trainable.

    Args:
        node: ``{type: AdamW, lr: 1e-4}`` or ``{type: AdamW, params: {lr: 1e-4}}``.
        model: the network.

    Raises:
        PluginError: there is no optimizer of this name.
        ConfigError: an argument does not fit, or the model has nothing to train.
    """
    name, arguments = split_node(node)
    part = optimizer_class(name)
    if part.__name__ in UNSUITED:
        raise ConfigError(
            f"Optimizer {part.__name__} does not fit: {UNSUITED[part.__name__]}. Take AdamW or SGD."
        )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError("The model has no trainable parameters; unfreeze a part of it.")
    check_arguments(f"Optimizer {part.__name__}", part, arguments, given=("params",))
    try:
        return part(parameters, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"Optimizer {part.__name__}: {str(error).rstrip('.')}.") from error


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """``optimizer.state_dict()`` with the name of its class under ``type``, for a snapshot."""
    return {**optimizer.state_dict(), "type": type(optimizer).__name__}


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any], options: bool = True) -> None:
    """Give an optimizer the state that a snapshot holds.

    Args:
        optimizer: a new one, its scheduler built already.
        state: from :func:`optimizer_state`, or a plain ``state_dict``.
        options: whether learning rate, momentum and the other options come from the state too. Say False when
            the schedule follows the config and is replayed: then only what the optimizer has learnt about the
            parameters is loaded.

    Raises:
        SnapshotError: it is the state of another class, or of another model.
    """
    saved, wanted = state.get("type", type(optimizer).__name__), type(optimizer).__name__
    if saved != wanted:
        raise SnapshotError(
            f"The snapshot holds the state of the optimizer {saved} and the config names {wanted}. "
            f"Set runner.optimizer.type back to {saved}, or start a new run from these weights."
        )
    configured = [
        {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    try:
        optimizer.load_state_dict({key: value for key, value in state.items() if key != "type"})
    except (ValueError, KeyError) as error:
        raise SnapshotError(f"The snapshot's optimizer state does not fit the model: {error}.") from error
    if not options:
        for group, own in zip(optimizer.param_groups, configured):
            group.update(own)


def class_by_name(kind: str, name: str, known: Mapping[str, C], endings: tuple[str, ...] = ("",)) -> C:
    """The class with this name; case and underscores do not matter, nor does leaving out one of
    ``endings``."""
    if name in known:
        return known[name]
    flat = {key.lower(): part for key, part in known.items()}
    for ending in endings:
        hit = flat.get(name.lower().replace("_", "") + ending)
        if hit is not None:
            return hit
    raise PluginError(f"{kind} {name!r} does not exist. {did_you_mean(name, list(known))}")


def check_arguments(what: str, part: type, arguments: Mapping[str, Any], given: tuple[str, ...]) -> None:
    """Name the first argument that a constructor does not take.

    Raises:
        ConfigError: there is one; the message lists near misses.
    """
    parameters = inspect.signature(part).parameters
    known = [name for name in parameters if name not in given]
    for name in arguments:
        if name not in known:
            raise ConfigError(f"{what} has no argument {name!r}. {did_you_mean(name, known)}")
