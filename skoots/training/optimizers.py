"""Optimizers: any class of ``torch.optim`` by name, over the trainable parameters of a model."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from skoots.errors import ConfigError, Fault, PluginError, SnapshotError
from skoots.registry import did_you_mean, split_node

C = TypeVar("C", bound=type)
Options = dict[str, Any]

UNSUITED = {
    "LBFGS": "it evaluates the loss several times a step",
    "Muon": "it takes matrices only, and convolutions have more axes",
    "SparseAdam": "it takes sparse gradients only",
}
FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
"""Optimizers of which torch has a form in one kernel that can also leave out a step by itself."""

FORMS = ("fused", "foreach", "capturable", "differentiable")
"""Options that say how torch computes, not what."""

SCHEDULED = frozenset({"lr", "momentum", "betas"})
"""Options that schedules set, each from the value that the optimizer began with."""

log = logging.getLogger("skoots")


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
        node: ``{type: AdamW, lr: 1e-4}`` or ``{type: AdamW, params: {lr: 1e-4}}``. Beside the arguments of
            the class it may have ``parameter_groups``, options that differ for parts of the model by name (of
            two names that fit a parameter the longer one counts), and ``decay_norms_and_biases: false``,
            which keeps ``weight_decay`` from parameters of one axis.
        model: the network.

    Raises:
        PluginError: there is no optimizer of this name.
        ConfigError: an argument does not fit, the model has no such part, or nothing to train.
    """
    optimizer = _built(node, model)
    _give_momentum(optimizer)
    return optimizer


def options_of(node: str | Mapping[str, Any], model: nn.Module) -> list[Options]:
    """The options of every parameter group that ``build_optimizer`` would make, the names of its parameters
    and of the class among them.

    Raises:
        PluginError, ConfigError: as ``build_optimizer``.
    """
    optimizer = _built(node, model)
    return [{**_options(group), "type": type(optimizer).__name__} for group in optimizer.param_groups]


def changed_options(before: Sequence[Options], now: Sequence[Options]) -> list[set[str]] | None:
    """Names of the options that differ, for every parameter group; None if the groups themselves do.

    Args:
        before: from ``options_of``.
        now: likewise.
    """

    def groups(options: Sequence[Options]) -> list[tuple[Any, ...]]:
        return [(group["type"], group["param_names"], group.get("name")) for group in options]

    if groups(before) != groups(now):
        return None
    return [
        {key for key in own.keys() | old.keys() if key not in FORMS and own.get(key) != old.get(key)}
        for old, own in zip(before, now)
    ]


def _built(node: str | Mapping[str, Any], model: nn.Module) -> Optimizer:
    name, arguments = split_node(node)
    part = optimizer_class(name)
    if part.__name__ in UNSUITED:
        raise ConfigError(
            f"Optimizer {part.__name__} does not fit: {UNSUITED[part.__name__]}. Take AdamW or SGD."
        )
    wanted, decay = arguments.pop("parameter_groups", {}), arguments.pop("decay_norms_and_biases", True)
    for options in (arguments, *wanted.values()):
        check_arguments(f"Optimizer {part.__name__}", part, options, given=("params",))
        if options.get("maximize"):
            raise ConfigError(f"Optimizer {part.__name__}: maximize makes the loss larger. Leave it out.")
    groups = _groups(model, wanted, decay)
    if not groups:
        raise ConfigError("The model has no trainable parameters; unfreeze a part of it.")
    options = _fused_on_cuda(part, model, arguments)
    try:
        _try_a_step(part, groups, options)
        return part(groups, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"Optimizer {part.__name__}: {said}.") from error


def _options(group: Mapping[str, Any]) -> Options:
    return {key: value for key, value in group.items() if key != "params"}


def _try_a_step(
    part: type[Optimizer], groups: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> None:
    """A step on one number in place of each parameter group, on the device of the model: what torch finds
    wrong with options, or lacks on a device, it says only then."""
    tried = []
    for group in groups:
        _, like = group["params"][0]
        number = torch.zeros(1, dtype=like.dtype, device=like.device, requires_grad=True)
        number.grad = torch.zeros_like(number)
        tried.append({**group, "params": [number]})
    part(tried, **options).step()


def _give_momentum(optimizer: Optimizer) -> None:
    """Fused SGD takes its momentum from memory that nobody has written if its first step is left out, and
    fails where a parameter learns later than others; momentum that begins at zero is the same."""
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"] and not group["dampening"]:
            for parameter in group["params"]:
                own = optimizer.state[parameter]
                if own.get("momentum_buffer") is None:
                    own["momentum_buffer"] = torch.zeros_like(parameter)


def _groups(
    model: nn.Module, wanted: Mapping[str, Mapping[str, Any]], decay_norms_and_biases: bool
) -> list[dict[str, Any]]:
    """Parameter groups in the order in which their first parameters come; those asked for have a ``name``."""
    names = [name for name, _ in model.named_parameters()]
    for prefix in wanted:
        if not any(_is_in(name, prefix) for name in names):
            parts = sorted(
                {name.rpartition(".")[0] for name in names} | {name.split(".")[0] for name in names}
            )
            raise ConfigError(
                [
                    Fault(
                        f"runner.optimizer.parameter_groups.{prefix}",
                        "is no part of the model that has parameters",
                        did_you_mean(prefix, parts),
                    )
                ]
            )
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        prefix = max((p for p in wanted if _is_in(name, p)), key=len, default="")
        decays = decay_norms_and_biases or parameter.ndim > 1
        group = groups.setdefault((prefix, decays), {"params": []})
        if prefix:
            group |= {**wanted[prefix], "name": prefix}
        if not decays:
            group |= {"weight_decay": 0.0}
        group["params"].append((name, parameter))
    return list(groups.values())


def _is_in(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _fused_on_cuda(part: type[Optimizer], model: nn.Module, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """On CUDA the fused form where torch has one: quicker, and it can leave out a step without making the
    program wait; ``fused: false`` or ``foreach: true`` in the config choose otherwise."""
    chosen = dict(arguments)
    on_cuda = next(model.parameters()).device.type == "cuda"
    decided = {"fused", "foreach", "differentiable", "capturable"} & set(arguments)
    if on_cuda and part.__name__ in FUSED and not decided and not arguments.get("dampening"):
        chosen["fused"] = True
    return chosen


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """``optimizer.state_dict()`` with the name of its class under ``type``, for a snapshot."""
    return {**optimizer.state_dict(), "type": type(optimizer).__name__}


def load_optimizer_state(
    optimizer: Optimizer,
    state: Mapping[str, Any],
    edited: Sequence[Collection[str]] | None = (),
    load: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Give an optimizer the state that a snapshot holds.

    What the optimizer has learnt about a parameter follows its name into whatever group it is in now. The
    state of another class means nothing here, and is left behind with a warning.

    Args:
        optimizer: a new one, its scheduler built already.
        state: from :func:`optimizer_state`, or a plain ``state_dict``.
        edited: of every parameter group the options that stay as they are; all others come from the state.
            None if all stay: then only what the optimizer has learnt about the parameters is loaded.
        load: takes the state; None is ``optimizer.load_state_dict``.

    Raises:
        SnapshotError: it is the state of another model, or of other groups without the names of parameters.
    """
    saved, wanted = state.get("type", type(optimizer).__name__), type(optimizer).__name__
    if saved != wanted:
        log.warning(
            "The optimizer is %s now and was %s in the snapshot: it begins without what that one has learnt.",
            *(wanted, saved),
        )
        return
    configured = [_options(group) for group in optimizer.param_groups]
    try:
        (load or optimizer.load_state_dict)(_in_the_form_of(optimizer, _in_the_order_of(optimizer, state)))
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"The snapshot's optimizer state does not fit the model: {error}.") from error
    for number, (group, own) in enumerate(zip(optimizer.param_groups, configured)):
        if edited is None:
            params = group["params"]
            group.clear()
            group.update({"params": params, **own})
        else:
            kept = {"param_names", *(edited[number] if number < len(edited) else ())}
            group.update({key: own[key] for key in kept if key in own})
    _give_momentum(optimizer)
    if edited is None or any(edited):
        _complete(optimizer)


def _in_the_order_of(optimizer: Optimizer, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state with the parameters in the groups that they are in now."""
    names = [group.get("param_names") for group in state["param_groups"]]
    own = optimizer.state_dict()["param_groups"]
    if None in names or names == [group.get("param_names") for group in own]:
        return state
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    number_of = dict(zip([name for group in names for name in group or ()], numbers))
    if not number_of.keys() & {name for group in own for name in group["param_names"]}:
        raise ValueError("it has none of its parameters")
    learnt = {
        number: state["state"][number_of[name]]
        for group in own
        for name, number in zip(group["param_names"], group["params"])
        if number_of.get(name) in state["state"]
    }
    return {"state": learnt, "param_groups": own}


def _complete(optimizer: Optimizer) -> None:
    """What an edited option asks to be remembered besides (amsgrad, centered, momentum) begins at zero."""
    for group in optimizer.param_groups:
        remembered = _remembered(type(optimizer), group)
        for parameter in group["params"]:
            own = optimizer.state.get(parameter) or {}
            for key in remembered if own else ():
                if own.get(key) is None:
                    own[key] = torch.zeros_like(parameter)


def _remembered(part: type[Optimizer], group: Mapping[str, Any]) -> list[str]:
    """What an optimizer with these options remembers of every number of a parameter, found by a step."""
    arguments = {key: group[key] for key in inspect.signature(part).parameters if key in group}
    parameter = nn.Parameter(torch.zeros(2, 2))
    parameter.grad = torch.zeros(2, 2)
    trial = part(**{**arguments, "params": [parameter], **{key: False for key in FORMS if key in arguments}})
    trial.step()
    state = trial.state[parameter]
    return [key for key, value in state.items() if getattr(value, "shape", None) == parameter.shape]


def _in_the_form_of(optimizer: Optimizer, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state without its type; which of torch's forms computes (fused or not) is this optimizer's choice:
    the state may come from another device."""
    groups = [
        {**saved, **{key: own[key] for key in FORMS if key in own}}
        for saved, own in zip(state["param_groups"], optimizer.param_groups)
    ]
    groups += state["param_groups"][len(groups) :]  # torch says that there are too many
    return {**{key: value for key, value in state.items() if key != "type"}, "param_groups": groups}


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
