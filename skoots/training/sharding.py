"""Networks that do not fit one GPU: weights, gradients and optimizer state in parts, one on each process.

This is torch's FSDP2 (``torch.distributed.fsdp.fully_shard``). Snapshots hold the whole, as of a network that
is not split, so that any number of processes can go on from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

LARGE = 100_000  # parameters of a layer that is gathered by itself; the rest is gathered together


def shard(model: nn.Module, device: torch.device, world: int) -> None:
    """Split the parameters of a model over all processes, in place.

    Args:
        model: on its device, the same on every process.
        device: its device.
        world: processes.
    """
    mesh = init_device_mesh(device.type, (world,))
    for layer in list(model.modules()):
        own = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        if own >= LARGE:
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The state of a split model, on the host; all processes must ask."""
    return {name: whole(value) for name, value in model.state_dict().items()}


def load_whole_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Give each process its part of the weights that all have read."""
    own = model.state_dict()
    model.load_state_dict(
        {name: part(value, own[name]) if name in own else value for name, value in weights.items()}
    )


def whole_optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """What ``Optimizer.state_dict`` would give for a model that is not split, on the host; all processes must
    ask."""
    own = optimizer.state_dict()
    state = {
        number: {key: whole(value) for key, value in values.items()}
        for number, values in own["state"].items()
    }
    return {**own, "state": state}


def load_whole_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Give each process its part of what ``whole_optimizer_state`` gave."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts = {
        number: {key: part(value, parameters[number]) for key, value in values.items()}
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": parts})


def whole(value: Any) -> Any:
    """A tensor of which each process has a part, on the host; all processes must ask."""
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def part(value: Any, like: Tensor) -> Any:
    """This process's part of a tensor that is split as another is; counters and buffers are not split."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
