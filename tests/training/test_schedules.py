"""Schedules: the page's examples, torch's own values, nesting, and going on from any point."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch.optim import SGD, lr_scheduler

from skoots.errors import ConfigError, PluginError, SnapshotError
from skoots.snapshots import read_newest
from skoots.training.observers import Observer
from skoots.training.optimizers import load_optimizer_state, optimizer_state
from skoots.training.schedules import (
    ChainedScheduler,
    LRListScheduler,
    SequentialLR,
    build_scheduler,
    load_scheduler_state,
    rehearse,
    replay,
    scheduler_class,
    scheduler_state,
    step_scheduler,
    watches_a_metric,
)

PAGE_EXAMPLE = {
    "type": "SequentialLR",
    "params": {
        "schedulers": [
            {"type": "ConstantLR", "params": {"factor": 0.01, "total_iters": 2}},
            {"type": "StepLR", "params": {"step_size": 2, "gamma": 0.1}},
        ],
        "milestones": [5],
    },
}
WARM_UP_THEN_PLATEAU = {
    "type": "SequentialLR",
    "schedulers": [
        {"type": "LinearLR", "start_factor": 0.1, "total_iters": 2},
        {"type": "ReduceLROnPlateau", "patience": 1},
    ],
    "milestones": [2],
}
NESTED = {
    "type": "SequentialLR",
    "schedulers": [
        PAGE_EXAMPLE,
        {"type": "ChainedScheduler", "schedulers": [{"type": "ExponentialLR", "gamma": 0.5}, PAGE_EXAMPLE]},
    ],
    "milestones": [8],
}
EVERY_TYPE: list[dict[str, Any]] = [
    {"type": "LRListScheduler", "milestones": [2, 5], "lr_list": [[0.5], [0.1]]},
    {"type": "StepLR", "step_size": 3, "gamma": 0.5},
    {"type": "MultiStepLR", "milestones": [2, 6], "gamma": 0.5},
    {"type": "ConstantLR", "factor": 0.1, "total_iters": 4},
    {"type": "LinearLR", "total_iters": 5},
    {"type": "ExponentialLR", "gamma": 0.9},
    {"type": "PolynomialLR", "total_iters": 9, "power": 2.0},
    {"type": "CosineAnnealingLR", "T_max": 7, "eta_min": 0.01},
    {"type": "cosine_annealing_warm_restarts", "T_0": 3, "T_mult": 2},
    {"type": "CyclicLR", "base_lr": 0.1, "max_lr": 1.0, "step_size_up": 3},
    {"type": "OneCycleLR", "max_lr": 2.0, "total_steps": 14},
    PAGE_EXAMPLE,
    NESTED,
    {
        "type": "ChainedScheduler",
        "schedulers": [{"type": "ConstantLR"}, {"type": "ExponentialLR", "gamma": 0.9}],
    },
]
by_type = pytest.mark.parametrize("node", EVERY_TYPE, ids=lambda node: node["type"])


def optimizer(lr: float = 1.0) -> SGD:
    return SGD([torch.nn.Parameter(torch.ones(2))], lr=lr, momentum=0.9)


def rates(
    scheduler: lr_scheduler.LRScheduler, epochs: int, metrics: list[float | None] | None = None
) -> list[float]:
    """The learning rate that each epoch trains with, as the runner would step."""
    used = []
    for epoch in range(epochs):
        used.append(float(scheduler.optimizer.param_groups[0]["lr"]))
        scheduler.optimizer.step()
        step_scheduler(scheduler, metrics[epoch] if metrics else None)
    return used


def saved(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_the_nine_learning_rates_of_the_page() -> None:
    assert rates(build_scheduler(PAGE_EXAMPLE, optimizer()), 9) == [0.01, 0.01, 1, 1, 1, 1, 1, 0.1, 0.1]


def test_a_list_takes_effect_after_its_milestones() -> None:
    node = {"type": "LRListScheduler", "params": {"milestones": [2, 5], "lr_list": [[0.5], [0.1]]}}
    assert rates(build_scheduler(node, optimizer()), 7) == [1, 1, 0.5, 0.5, 0.5, 0.1, 0.1]
    at_once = {"type": "LRListScheduler", "milestones": [0], "lr_list": [0.25]}
    assert rates(build_scheduler(at_once, optimizer()), 2) == [0.25, 0.25]


def test_a_list_has_a_rate_for_every_parameter_group() -> None:
    groups = SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in (1.0, 2.0)])
    scheduler = LRListScheduler(groups, milestones=[1, 2], lr_list=[[0.1, 0.2], [0.01]])
    seen = []
    for _ in range(3):
        seen.append([group["lr"] for group in groups.param_groups])
        groups.step()
        scheduler.step()
    assert seen == [[1.0, 2.0], [0.1, 0.2], [0.01, 0.01]]
    with pytest.raises(
        ConfigError, match=r"got 3 learning rates in \[1, 2, 3\] and the optimizer has 2 parameter groups"
    ):
        LRListScheduler(groups, milestones=[1], lr_list=[[1, 2, 3]])


def test_a_list_made_late_has_passed_its_milestones() -> None:
    late = optimizer()
    late.param_groups[0]["initial_lr"] = 1.0
    LRListScheduler(late, milestones=[160, 190], lr_list=[[1e-5], [1e-6]], last_epoch=169)
    assert late.param_groups[0]["lr"] == 1e-5


@pytest.mark.parametrize(
    ("milestones", "lr_list", "message"),
    [
        ([1, 2], [[0.1]], "2 milestones and 1 entries in lr_list; give one for each"),
        ([5, 2], [[0.1], [0.2]], r"increasing milestones of 0 or more, not \[5, 2\]"),
        ([-1], [[0.1]], "of 0 or more"),
    ],
)
def test_a_list_that_does_not_fit_is_a_fault(
    milestones: list[int], lr_list: list[list[float]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        LRListScheduler(optimizer(), milestones, lr_list)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("StepLR", "StepLR"),
        ("steplr", "StepLR"),
        ("step_lr", "StepLR"),
        ("cosine_annealing_warm_restarts", "CosineAnnealingWarmRestarts"),
        ("cosine_annealing", "CosineAnnealingLR"),
        ("reduce_lr_on_plateau", "ReduceLROnPlateau"),
        ("lr_list", "LRListScheduler"),
    ],
)
def test_schedulers_are_found_by_name(name: str, expected: str) -> None:
    assert scheduler_class(name).__name__ == expected


def test_every_scheduler_of_torch_is_there() -> None:
    public = [name for name in vars(lr_scheduler) if name.endswith("LR") and not name.startswith("_")]
    assert len(public) >= 10
    assert [scheduler_class(name).__name__ for name in public] == public


@pytest.mark.parametrize("name", ["math", "LRScheduler", "Optimizer", "StpLR"])
def test_an_unknown_name_is_a_fault(name: str) -> None:
    with pytest.raises(PluginError, match=rf"scheduler '{name}' does not exist\. (Did you mean|Known:)"):
        scheduler_class(name)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"type": "StepLR", "step_sizes": 3}, "StepLR has no argument 'step_sizes'. Did you mean step_size"),
        ({"type": "StepLR"}, "Scheduler StepLR: "),
        ({"step_size": 3}, "needs a type"),
        ({"type": "SequentialLR", "milestones": [1]}, "SequentialLR needs schedulers, a list"),
        ({**PAGE_EXAMPLE, "milestones": [1, 2]}, "2 schedulers and the milestones [1, 2]"),
        ({**PAGE_EXAMPLE, "milestones": []}, "one fewer than schedulers"),
        ({"type": "ChainedScheduler", "schedulers": []}, "needs at least one scheduler"),
        ({"type": "ReduceLROnPlateau", "factor": 2.0}, "Factor should be < 1.0"),
    ],
)
def test_arguments_that_do_not_fit_are_faults(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_scheduler(node, optimizer())
    assert message in str(caught.value)


def test_a_composite_gives_the_rates_of_torch_where_torch_can() -> None:
    ours = build_scheduler(
        {
            "type": "SequentialLR",
            "schedulers": [
                {"type": "LinearLR", "total_iters": 3},
                {"type": "CosineAnnealingLR", "T_max": 4},
                {"type": "ExponentialLR", "gamma": 0.8},
            ],
            "milestones": [3, 7],
        },
        optimizer(0.3),
    )
    own = optimizer(0.3)
    parts = [
        lr_scheduler.LinearLR(own, total_iters=3),
        lr_scheduler.CosineAnnealingLR(own, T_max=4),
        lr_scheduler.ExponentialLR(own, gamma=0.8),
    ]
    theirs = lr_scheduler.SequentialLR(own, parts, milestones=[3, 7])
    assert rates(ours, 12) == pytest.approx(rates(theirs, 12), rel=1e-12)


def test_a_chain_multiplies_as_torch_does() -> None:
    node = {
        "type": "ChainedScheduler",
        "schedulers": [
            {"type": "ConstantLR", "factor": 0.1, "total_iters": 3},
            {"type": "StepLR", "step_size": 2},
        ],
    }
    own = optimizer(0.3)
    parts = [lr_scheduler.ConstantLR(own, factor=0.1, total_iters=3), lr_scheduler.StepLR(own, step_size=2)]
    expected = rates(lr_scheduler.ChainedScheduler(parts, optimizer=own), 8)
    assert rates(build_scheduler(node, optimizer(0.3)), 8) == pytest.approx(expected, rel=1e-12)


def test_nesting_counts_from_each_part_s_own_beginning() -> None:
    page = [0.01, 0.01, 1, 1, 1, 1, 1, 0.1, 0.1]
    expected = page[:8] + [0.5**epoch * rate for epoch, rate in enumerate(page)]
    assert rates(build_scheduler(NESTED, optimizer()), 17) == pytest.approx(expected, rel=1e-12)


def test_a_composite_hands_on_the_momentum_of_its_parts() -> None:
    cycle = {"type": "CyclicLR", "base_lr": 0.1, "max_lr": 1.0, "step_size_up": 2}
    chained = optimizer()
    scheduler = build_scheduler(
        {"type": "ChainedScheduler", "schedulers": [cycle, {"type": "StepLR", "step_size": 9}]}, chained
    )
    alone = optimizer()
    expected = build_scheduler(cycle, alone)
    for _ in range(6):
        assert chained.param_groups[0]["momentum"] == alone.param_groups[0]["momentum"]
        for one in (scheduler, expected):
            one.optimizer.step()
            step_scheduler(one)


def test_a_plateau_waits_for_its_metric() -> None:
    metrics = [1.0, None, 1.0, None, 1.0, 0.5, None]
    scheduler = build_scheduler({"type": "ReduceLROnPlateau", "patience": 1}, optimizer())
    assert rates(scheduler, 7, metrics) == [1, 1, 1, 1, 1, 0.1, 0.1]


def test_a_plateau_follows_the_direction_of_the_key_metric() -> None:
    rising = [0.1, 0.2, 0.3, 0.4, 0.5]
    node = {"type": "ReduceLROnPlateau", "patience": 1}
    assert rates(build_scheduler(node, optimizer(), key_metric_asc=True), 5, rising) == [1] * 5
    assert (
        rates(build_scheduler({**node, "mode": "min"}, optimizer(), key_metric_asc=True), 5, rising)[-1] < 1
    )


def test_a_plateau_may_follow_a_warm_up() -> None:
    scheduler = build_scheduler(WARM_UP_THEN_PLATEAU, optimizer())
    assert rates(scheduler, 7, [1.0] * 7) == pytest.approx([0.1, 0.55, 1, 1, 1, 0.1, 0.1])


@by_type
def test_a_replayed_schedule_goes_on_as_if_never_stopped(node: dict[str, Any]) -> None:
    expected = rates(build_scheduler(node, optimizer()), 12)
    for epochs in (0, 1, 5, 8, 9):
        scheduler = build_scheduler(node, optimizer())
        replay(scheduler, epochs)
        assert rates(scheduler, 12 - epochs) == expected[epochs:]


@by_type
def test_a_restored_schedule_goes_on_as_if_never_stopped(node: dict[str, Any]) -> None:
    expected = rates(build_scheduler(node, optimizer()), 12)
    for epochs in (0, 1, 5, 8, 9):
        first = build_scheduler(node, optimizer())
        rates(first, epochs)
        scheduler = build_scheduler(node, optimizer())
        load_scheduler_state(scheduler, saved(scheduler_state(first)))
        assert rates(scheduler, 12 - epochs) == expected[epochs:]


@pytest.mark.parametrize("node", [{"type": "ReduceLROnPlateau", "patience": 1}, WARM_UP_THEN_PLATEAU])
def test_a_plateau_goes_on_from_its_state_or_from_the_metrics(node: dict[str, Any]) -> None:
    metrics = [1.0, 0.9, 0.9, None, 0.9, 0.9, 0.9, 0.2, 0.9, 0.9, 0.9, 0.9]
    expected = rates(build_scheduler(node, optimizer()), 12, metrics)
    assert len(set(expected)) > 2
    for epochs in (1, 4, 6):
        first = build_scheduler(node, optimizer())
        rates(first, epochs, metrics)
        restored, replayed = (build_scheduler(node, optimizer()) for _ in range(2))
        load_scheduler_state(restored, saved(scheduler_state(first)))
        replay(replayed, epochs, metrics)
        for scheduler in (restored, replayed):
            assert rates(scheduler, 12 - epochs, metrics[epochs:]) == expected[epochs:]


def test_a_changed_schedule_starts_from_the_config_after_the_old_state_of_the_optimizer() -> None:
    first = optimizer()
    rates(build_scheduler({"type": "ExponentialLR", "gamma": 0.1}, first), 4)
    for node in EVERY_TYPE:
        resumed = optimizer()
        scheduler = build_scheduler(node, resumed)
        load_optimizer_state(resumed, optimizer_state(first), edited=None)
        replay(scheduler, 4)
        assert rates(scheduler, 6) == rates(build_scheduler(node, optimizer()), 10)[4:]


def test_the_state_of_another_scheduler_is_refused() -> None:
    state = scheduler_state(build_scheduler({"type": "StepLR", "step_size": 3}, optimizer()))
    other = build_scheduler({"type": "ExponentialLR", "gamma": 0.5}, optimizer())
    with pytest.raises(
        SnapshotError, match=r"scheduler StepLR and the config names ExponentialLR\. Set runner\.load_sch"
    ):
        load_scheduler_state(other, state)
    page = scheduler_state(build_scheduler(PAGE_EXAMPLE, optimizer()))
    swapped = {
        **PAGE_EXAMPLE,
        "params": {**PAGE_EXAMPLE["params"], "schedulers": PAGE_EXAMPLE["params"]["schedulers"][::-1]},
    }
    with pytest.raises(SnapshotError, match="scheduler ConstantLR and the config names StepLR"):
        load_scheduler_state(build_scheduler(swapped, optimizer()), page)


def test_a_rehearsal_shows_the_schedule_and_leaves_the_optimizer_alone() -> None:
    untouched = optimizer()
    before = {key: value for key, value in untouched.param_groups[0].items() if key != "params"}
    seen = rehearse(PAGE_EXAMPLE, untouched, 9)
    assert [group for (group,) in seen] == [0.01, 0.01, 1, 1, 1, 1, 1, 0.1, 0.1]
    assert {key: value for key, value in untouched.param_groups[0].items() if key != "params"} == before


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"type": "OneCycleLR", "max_lr": 1.0, "total_steps": 5},
            "OneCycleLR cannot go on: Tried to step 6 times",
        ),
        ({"type": "StepLR", "step_size": 0}, "StepLR cannot go on: "),
    ],
)
def test_a_schedule_that_breaks_midway_breaks_in_rehearsal(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rehearse(node, optimizer(), 8)


# What a schedule counts and watches -------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_of_the_optimizer_are_counted(accumulate: int, make_runner: Any) -> None:
    seen: dict[int, float] = {}

    class Rates(Observer):
        def step_end(self, runner: Any, losses: Any) -> None:
            if runner.step:
                seen[runner.step] = runner.learning_rate

    node = {"type": "CosineAnnealingLR", "T_max": 7, "eta_min": 1e-4}
    runner = make_runner(
        samples=10, epochs=3, scheduler=node, interval="step", accumulate=accumulate, observers=[Rates()]
    )
    runner.fit()
    own = SGD([torch.zeros(1, requires_grad=True)], lr=1e-2)
    theirs, expected = lr_scheduler.CosineAnnealingLR(own, T_max=7, eta_min=1e-4), []
    updates = -(-5 // accumulate)  # five batches an epoch
    for _ in range(3 * updates):
        expected.append(own.param_groups[0]["lr"])
        own.step()
        theirs.step()
    after = [*expected[1:], own.param_groups[0]["lr"]]
    assert runner.step == 3 * updates and [*seen.values()] == pytest.approx(after)
    assert [epoch["lr"] for epoch in runner.history] == pytest.approx(expected[::updates])


@pytest.mark.parametrize("load_scheduler", [True, False])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_schedule_of_steps_goes_on_in_the_middle_of_an_epoch(
    batch: int, load_scheduler: bool, make_runner: Any, same: Any
) -> None:
    class StopAt(Observer):
        def step_end(self, runner: Any, losses: Any) -> None:
            if (runner.epoch, runner.progress.batches) == (1, batch):
                runner.stop.noted = 15

    def make(folder: str, *observers: Any) -> Any:
        node = {"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 9}
        sgd = {"type": "SGD", "lr": 0.1, "momentum": 0.9}
        settings = {"samples": 10, "accumulate": 2, "epochs": 3, "interval": "step"}
        return make_runner(folder=folder, scheduler=node, optimizer=sgd, observers=observers, **settings)

    whole = make("whole")
    whole.fit()
    make("parts", StopAt()).fit()
    again = make("parts")
    again.load_state(read_newest(again.snapshots.folder)[0], load_scheduler)
    again.fit()
    a, b = whole.state(), again.state()
    if not load_scheduler:  # replayed, it counts its calls otherwise
        a.pop("torch_scheduler_state_dict"), b.pop("torch_scheduler_state_dict")
    assert same(a, b)


def test_a_plateau_watches_the_metric_that_it_is_told(make_runner: Any, scripted: Any) -> None:
    """The key metric gets worse all the time, and the other is constant."""
    values = [5.0, 5.0, 5.0, 5.0]

    def evaluate(model: Any, epoch: int) -> dict[str, float]:
        return {"test.loss": 1.0 / epoch, "test.F1": values[epoch - 1]}

    node = {"type": "ReduceLROnPlateau", "patience": 1, "factor": 0.5}
    found = []
    for monitor in (None, "test.F1"):
        runner = make_runner(
            folder=str(monitor),
            epochs=4,
            scheduler=node,
            monitor=monitor,
            evaluate=evaluate,
        )
        runner.fit()
        found.append([epoch["lr"] for epoch in runner.history])
    assert found == [[1e-2] * 4, [1e-2, 1e-2, 1e-2, 5e-3]]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("cosine_annealing_warm_restarts", lr_scheduler.CosineAnnealingWarmRestarts),
        ("CosineAnnealingWarmRestarts", lr_scheduler.CosineAnnealingWarmRestarts),
        ("cosine_annealing", lr_scheduler.CosineAnnealingLR),
        ("reduce_lr_on_plateau", lr_scheduler.ReduceLROnPlateau),
        ("one_cycle_lr", lr_scheduler.OneCycleLR),
        ("chained", ChainedScheduler),
        ("sequential", SequentialLR),
    ],
)
def test_names_as_the_original_writes_them(name: str, part: type) -> None:
    assert scheduler_class(name) is part


def test_what_watches_a_metric_is_known_however_deep_it_is() -> None:
    assert watches_a_metric("ReduceLROnPlateau") and watches_a_metric(WARM_UP_THEN_PLATEAU)
    assert not watches_a_metric(NESTED) and not watches_a_metric("StepLR")
