"""Optimizers by name, their arguments, and their state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skoots.errors import ConfigError, PluginError, SnapshotError
from skoots.training.optimizers import build_optimizer, load_optimizer_state, optimizer_class, optimizer_state


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    images = torch.linspace(-1, 1, 24).reshape(8, 3)
    losses = []
    for _ in range(steps):
        loss = model(images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["SGD", "sgd", "AdamW", "adam_w", "RMSprop", "Adafactor"])
def test_any_class_of_torch_is_found_whatever_its_case(name: str) -> None:
    assert optimizer_class(name).__name__.lower() == name.lower().replace("_", "")


def test_an_unknown_name_lists_near_misses() -> None:
    with pytest.raises(PluginError, match=r"optimizer 'AdamV' does not exist\. Did you mean .*Adam"):
        optimizer_class("AdamV")
    with pytest.raises(PluginError):
        optimizer_class("Optimizer")  # the abstract class is none


def test_both_spellings_of_a_node_give_the_same_optimizer(model: nn.Module) -> None:
    nested = build_optimizer({"type": "SGD", "params": {"lr": 1e-3, "momentum": 0.9}}, model)
    flat = build_optimizer({"type": "SGD", "lr": 1e-3, "momentum": 0.9}, model)
    for optimizer in (nested, flat):
        assert type(optimizer) is torch.optim.SGD
        assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (1e-3, 0.9)


def test_only_trainable_parameters_are_handed_over(model: nn.Module) -> None:
    model[0].requires_grad_(False)
    optimizer = build_optimizer("AdamW", model)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model[1].parameters()]
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="no trainable parameters; unfreeze"):
        build_optimizer("AdamW", model)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"type": "SGD", "lr": 0.1, "momentun": 0.9},
            "SGD has no argument 'momentun'. Did you mean momentum",
        ),
        ({"type": "AdamW", "lr": -1.0}, "AdamW: Invalid learning rate: -1.0."),
        ({"type": "SGD", "lr": 0.1, "params": {"params": []}}, "SGD has no argument 'params'"),
        (
            {"type": "LBFGS"},
            "LBFGS does not fit: it evaluates the loss several times a step. Take AdamW or SGD.",
        ),
    ],
)
def test_wrong_arguments_are_named(model: nn.Module, node: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_optimizer(node, model)
    assert message in str(caught.value)


def test_training_goes_on_exactly_from_its_state(model: nn.Module) -> None:
    optimizer = build_optimizer({"type": "AdamW", "lr": 0.1}, model)
    train(model, optimizer, 3)
    state, weights = optimizer_state(optimizer), {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.load(_saved(state), weights_only=True)
    expected = train(model, optimizer, 3)

    model.load_state_dict(weights)
    again = build_optimizer({"type": "AdamW", "lr": 0.7}, model)
    load_optimizer_state(again, state)
    assert again.param_groups[0]["lr"] == 0.1
    assert train(model, again, 3) == expected


def test_options_can_stay_those_of_the_config(model: nn.Module) -> None:
    optimizer = build_optimizer({"type": "SGD", "lr": 0.1, "momentum": 0.9}, model)
    train(model, optimizer, 1)
    again = build_optimizer({"type": "SGD", "lr": 0.5, "momentum": 0.8}, model)
    load_optimizer_state(again, optimizer_state(optimizer), options=False)
    assert (again.param_groups[0]["lr"], again.param_groups[0]["momentum"]) == (0.5, 0.8)
    for parameter in model.parameters():
        expected = optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(again.state[parameter]["momentum_buffer"], expected)


def test_the_state_of_another_optimizer_or_model_is_refused(model: nn.Module) -> None:
    state = optimizer_state(build_optimizer("AdamW", model))
    with pytest.raises(
        SnapshotError, match=r"state of the optimizer AdamW and the config names SGD\. Set runner"
    ):
        load_optimizer_state(build_optimizer("SGD", model), state)
    with pytest.raises(SnapshotError, match="does not fit the model"):
        load_optimizer_state(build_optimizer("AdamW", nn.Linear(2, 2, bias=False)), state)


def _saved(state: dict[str, object]):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
