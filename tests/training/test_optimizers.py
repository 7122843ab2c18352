"""Optimizers by name, their arguments, and their state."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from skoots.errors import ConfigError, PluginError, SnapshotError
from skoots.training.optimizers import (
    _fused_on_cuda,
    build_optimizer,
    load_optimizer_state,
    optimizer_class,
    optimizer_state,
)


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


class Network(nn.Module):
    """Parts within parts, and norms; a name that begins as another does."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3))
        self.backbone2 = nn.Linear(2, 2)
        self.heads = nn.ModuleDict({"vector": nn.Conv2d(2, 2, 1), "semantic": nn.Conv2d(2, 1, 1)})


def options_by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, object]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def test_groups_follow_the_longest_prefix() -> None:
    model = Network()
    wanted = {
        "backbone": {"lr": 1e-5},
        "backbone.2": {"lr": 1e-6, "weight_decay": 0.5},
        "heads.vector.weight": {"lr": 1e-2},
    }
    node = {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1, "parameter_groups": wanted}
    for spelling in (node, {"type": "AdamW", "params": {k: v for k, v in node.items() if k != "type"}}):
        found = options_by_name(model, build_optimizer(spelling, model))
        assert found.keys() == dict(model.named_parameters()).keys()
        for name, options in found.items():
            fits = [prefix for prefix in wanted if f"{name}.".startswith(f"{prefix}.")]
            expected = {"lr": 1e-3, "weight_decay": 0.1, **(wanted[max(fits, key=len)] if fits else {})}
            assert {key: options[key] for key in expected} == expected, name
            assert options.get("name") == (max(fits, key=len) if fits else None)


def test_norms_and_biases_need_not_decay() -> None:
    model = Network()
    node = {
        "type": "AdamW",
        "weight_decay": 0.1,
        "decay_norms_and_biases": False,
        "parameter_groups": {"heads": {"lr": 1.0, "weight_decay": 0.7}},
    }
    found = options_by_name(model, build_optimizer(node, model))
    free = {"backbone.0.bias", "backbone.1.weight", "backbone.1.bias", "backbone.2.bias", "backbone2.bias"}
    free |= {"heads.vector.bias", "heads.semantic.bias"}
    assert {name for name, options in found.items() if options["weight_decay"] == 0.0} == free
    assert found["heads.vector.weight"]["weight_decay"] == 0.7 and found["heads.vector.bias"]["lr"] == 1.0
    all_decay = options_by_name(model, build_optimizer({"type": "AdamW", "weight_decay": 0.1}, model))
    assert all(options["weight_decay"] == 0.1 for options in all_decay.values())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"bakbone": {"lr": 1.0}}, "parameter_groups.bakbone: is no part of the model that has parameters"),
        ({"back": {"lr": 1.0}}, "parameter_groups.back: is no part"),  # parts, not letters
        ({"backbone": {"momentun": 1.0}}, "SGD has no argument 'momentun'. Did you mean momentum"),
    ],
)
def test_groups_that_fit_nothing_are_named(groups: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_optimizer({"type": "SGD", "lr": 0.1, "parameter_groups": groups}, Network())
    assert message in str(caught.value)


def test_a_misspelt_part_lists_near_misses() -> None:
    node = {"type": "SGD", "lr": 0.1, "parameter_groups": {"heads.vectr": {"lr": 1.0}}}
    with pytest.raises(ConfigError, match=r"Did you mean heads\.vector"):
        build_optimizer(node, Network())


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "Adagrad", "RAdam", "RMSprop", "Adamax", "NAdam"])
def test_every_form_that_torch_has_can_be_asked_for(name: str, model: nn.Module) -> None:
    form = "fused" if name in ("Adam", "AdamW", "SGD", "Adagrad") else "foreach"
    one = train(model, build_optimizer({"type": name, "lr": 1e-3, form: True}, model), 3)
    torch.manual_seed(0)
    again = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    other = train(again, build_optimizer({"type": name, "lr": 1e-3}, again), 3)
    assert one == pytest.approx(other, rel=1e-5)


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
    load_optimizer_state(again, optimizer_state(optimizer), edited=None)
    assert (again.param_groups[0]["lr"], again.param_groups[0]["momentum"]) == (0.5, 0.8)
    for parameter in model.parameters():
        expected = optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(again.state[parameter]["momentum_buffer"], expected)


def test_the_state_of_another_optimizer_is_left_behind_and_of_another_model_refused(
    model: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    trained = build_optimizer({"type": "AdamW", "lr": 0.1}, model)
    train(model, trained, 1)
    other = build_optimizer({"type": "SGD", "lr": 0.5}, model)
    load_optimizer_state(other, optimizer_state(trained))
    assert "The optimizer is SGD now and was AdamW in the snapshot: it begins" in caplog.text
    assert not other.state and other.param_groups[0]["lr"] == 0.5
    with pytest.raises(SnapshotError, match="does not fit the model"):
        load_optimizer_state(build_optimizer("AdamW", nn.Linear(2, 2, bias=False)), optimizer_state(trained))


def _saved(state: dict[str, object]):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize(
    ("node", "fused"),
    [
        ({"type": "AdamW"}, True),
        ({"type": "SGD", "lr": 0.1, "momentum": 0.9}, True),
        ({"type": "SGD", "lr": 0.1, "momentum": 0.9, "dampening": 0.5}, None),
        ({"type": "AdamW", "fused": False}, False),
        ({"type": "AdamW", "foreach": True}, None),
        ({"type": "RMSprop"}, None),
    ],
)
def test_on_cuda_the_fused_form_is_taken_where_there_is_one(node: dict[str, object], fused: bool) -> None:
    on_cuda = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda"))]))
    arguments = {key: value for key, value in node.items() if key != "type"}
    chosen = _fused_on_cuda(optimizer_class(str(node["type"])), on_cuda, arguments)
    assert chosen == ({**arguments, "fused": fused} if fused is not None else arguments)


def test_a_state_from_another_device_keeps_the_form_of_the_new_optimizer(model: nn.Module) -> None:
    """One that was not fused goes on in one that is, as on a GPU, and the other way round."""
    plain, fused = (build_optimizer({"type": "AdamW", "lr": 0.1, "fused": f}, model) for f in (False, True))
    train(model, plain, 2)
    load_optimizer_state(fused, optimizer_state(plain))
    assert fused.param_groups[0]["fused"] is True
    train(model, fused, 2)
    load_optimizer_state(plain, optimizer_state(fused))
    assert plain.param_groups[0]["fused"] is False
    train(model, plain, 1)
