"""A run that goes on with other options: what is edited counts, as if it had been so from the first epoch on,
and all else goes on exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from skoots.snapshots import read_newest
from skoots.training.edits import Edits
from skoots.training.observers import Observer
from skoots.training.optimizers import build_optimizer, changed_options, options_of
from skoots.training.runner import TrainingRunner

Make = Callable[..., Any]
METRICS = [1.0, 2.0, 3.0, 0.5, 2.0, 3.0]
SGD = {"type": "SGD", "lr": 1e-2, "momentum": 0.9}
STEP = {"type": "StepLR", "step_size": 1, "gamma": 0.5}
SEQUENCE = {
    "type": "SequentialLR",
    "schedulers": [{"type": "LinearLR", "start_factor": 0.1, "total_iters": 2}, STEP],
    "milestones": [3],
}
SCHEDULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "added": ({}, {"scheduler": STEP}),
    "removed": ({"scheduler": STEP}, {}),
    "gamma": ({"scheduler": STEP}, {"scheduler": {**STEP, "gamma": 0.1}}),
    "another class": ({"scheduler": STEP}, {"scheduler": {"type": "CosineAnnealingLR", "T_max": 6}}),
    "list": (
        {"scheduler": {"type": "LRListScheduler", "milestones": [1, 4], "lr_list": [[0.5], [0.25]]}},
        {"scheduler": {"type": "LRListScheduler", "milestones": [5], "lr_list": [[0.125]]}},
    ),
    "sequence": ({"scheduler": SEQUENCE}, {"scheduler": {**SEQUENCE, "milestones": [1]}}),
    "plateau": (
        {"scheduler": {"type": "ReduceLROnPlateau", "patience": 0}},
        {"scheduler": {"type": "ReduceLROnPlateau", "patience": 1, "factor": 0.3}},
    ),
    "steps": (
        {"scheduler": STEP},
        {"scheduler": {"type": "ExponentialLR", "gamma": 0.9}, "interval": "step"},
    ),
    "one cycle": (
        {"scheduler": {"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 20}, "interval": "step"},
        {"scheduler": {"type": "OneCycleLR", "max_lr": 0.2, "total_steps": 14}, "interval": "step"},
    ),
    "cycle to none": (
        {"scheduler": {"type": "OneCycleLR", "max_lr": 0.1, "total_steps": 20}, "interval": "step"},
        {},
    ),
    "mean added": ({"scheduler": STEP}, {"scheduler": STEP, "swa": {"swa_start": 2, "swa_lr": 0.3}}),
    "mean later": (
        {"swa": {"swa_start": 1, "swa_lr": 0.3}},
        {"swa": {"swa_start": 4, "swa_lr": 0.3, "anneal_epochs": 2}},
    ),
    "mean removed": ({"swa": {"swa_start": 1, "swa_lr": 0.3}, "scheduler": STEP}, {"scheduler": STEP}),
    "rate of the mean": (
        {"swa": {"swa_start": 1, "swa_lr": 0.3, "anneal_epochs": 4}, "scheduler": STEP},
        {"swa": {"swa_start": 1, "swa_lr": 0.7, "anneal_epochs": 3}, "scheduler": STEP},
    ),
}


@pytest.fixture
def make(make_runner: Make, scripted: Make) -> Make:
    def build(folder: str, epochs: int = 6, **changes: Any) -> TrainingRunner:
        settings = {"optimizer": SGD, **changes}
        return make_runner(folder=folder, epochs=epochs, evaluate=scripted(METRICS).evaluate, **settings)

    return build


class StopAt(Observer):
    """Asks for the end after a batch of an epoch, as a signal does."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at = epoch, batch

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        if (runner.epoch + 1, runner.progress.batches) == self.at:
            runner.stop.noted = 15


def used(runner: TrainingRunner) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Learning rates of every epoch, and what cycles move besides, at the end."""
    keys = ("lr", "momentum", "weight_decay")
    options = [{key: group[key] for key in keys} for group in runner.optimizer.param_groups]
    return [{key: row[key] for key in row if key.startswith("lr")} for row in runner.history], options


@pytest.mark.parametrize("stop", [1, 3, 5])
@pytest.mark.parametrize("name", SCHEDULES)
def test_an_edited_schedule_is_where_it_would_be(name: str, stop: int, make: Make) -> None:
    before, after = SCHEDULES[name]
    make("parts", stop, **{**before, **({"swa": before["swa"]} if "swa" in before else {})}).fit()
    again = make("parts", **after)
    means = [part.get("swa", {}) for part in (before, after)]
    edits = Edits(schedule=True, swa=means[0] != means[1],
                  swa_start=means[1] and means[0].get("swa_start") != means[1]["swa_start"])  # fmt: skip
    again.load_state(read_newest(again.snapshots.folder)[0], edits=edits)
    again.fit()
    whole = make("whole", **after)
    whole.fit()
    (own, at_last), (expected, at_last_expected) = used(again), used(whole)
    assert own[stop:] == expected[stop:] and at_last == at_last_expected


@pytest.mark.parametrize("schedule", [None, STEP, SEQUENCE, {"type": "ReduceLROnPlateau", "patience": 0}])
@pytest.mark.parametrize("edit", [{"lr": 0.3}, {"momentum": 0.5}, {"weight_decay": 0.1}, {"nesterov": True}])
def test_an_edited_option_counts_and_the_schedule_goes_on_from_it(
    edit: dict[str, Any], schedule: Any, make: Make
) -> None:
    make("parts", 3, scheduler=schedule).fit()
    again = make("parts", scheduler=schedule, optimizer={**SGD, **edit})
    changed = changed_options(options_of(SGD, again.model), options_of({**SGD, **edit}, again.model))
    assert changed == [set(edit)]
    again.load_state(read_newest(again.snapshots.folder)[0], edits=Edits(options=changed))
    again.fit()
    whole = make("whole", scheduler=schedule, optimizer={**SGD, **edit})
    whole.fit()
    assert used(again)[0][3:] == used(whole)[0][3:] and used(again)[1] == used(whole)[1]
    if schedule is None or "lr" not in edit:
        assert all(again.optimizer.param_groups[0][key] == value for key, value in edit.items())


@pytest.mark.parametrize("schedule", [None, SEQUENCE, {"type": "ReduceLROnPlateau", "patience": 0}])
def test_all_else_goes_on_to_the_last_bit(schedule: Any, make: Make, same: Make) -> None:
    """An option that is named as edited, but has the value that it had, changes nothing."""
    whole = make("whole", scheduler=schedule)
    whole.fit()
    for keys in ({"weight_decay"}, {"lr"}):  # beside the schedule, and through a replay of it
        make("parts", 3, scheduler=schedule).fit()
        again = make("parts", scheduler=schedule)
        again.load_state(read_newest(again.snapshots.folder)[0], edits=Edits(options=[keys]))
        again.fit()
        assert same(again.state(), whole.state())


def test_what_was_learnt_follows_a_parameter_into_another_group(make: Make) -> None:
    adam = {"type": "AdamW", "lr": 1e-2}
    moved = {**adam, "decay_norms_and_biases": False, "parameter_groups": {"heads.vector": {"lr": 0.5}}}
    first = make("run", 2, optimizer=adam)
    first.fit()
    for before, after in ((adam, moved), (moved, adam)):
        start = make("run", 2, optimizer=before)
        start.load_state(read_newest(start.snapshots.folder)[0], edits=Edits(options=None))
        learnt = {name: start.optimizer.state[p]["exp_avg"] for name, p in start.model.named_parameters()}
        start.snapshots.save(start.state(), 2)
        again = make("run", 3, optimizer=after)
        assert changed_options(options_of(before, again.model), options_of(after, again.model)) is None
        again.load_state(read_newest(again.snapshots.folder)[0], edits=Edits(options=None))
        for name, parameter in again.model.named_parameters():
            assert torch.equal(again.optimizer.state[parameter]["exp_avg"], learnt[name])
        rates = {name: rate for name, rate in again.learning_rates.items()}
        assert rates == ({"lr": 1e-2} if after is adam else {"lr": 1e-2, "lr.heads.vector": 0.5})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"type": "AdamW", "lr": 1e-2}, {"amsgrad": True}),
        ({"type": "RMSprop", "lr": 1e-3}, {"centered": True, "momentum": 0.9}),
        ({"type": "SGD", "lr": 1e-2}, {"momentum": 0.9}),
        ({"type": "SGD", "lr": 1e-2, "momentum": 0.9}, {"momentum": 0.0}),
        ({"type": "AdamW", "lr": 1e-2, "amsgrad": True}, {"amsgrad": False}),
    ],
)
def test_an_option_that_remembers_more_begins_at_zero(
    before: dict[str, Any], after: dict[str, Any], make: Make
) -> None:
    make("run", 2, optimizer=before).fit()
    again = make("run", 3, optimizer={**before, **after})
    changed = changed_options(options_of(before, again.model), options_of({**before, **after}, again.model))
    assert changed == [set(after)]
    again.load_state(read_newest(again.snapshots.folder)[0], edits=Edits(options=changed))
    assert again.fit().epochs == 3


def test_another_class_of_optimizer_begins_anew_on_its_schedule(make: Make) -> None:
    make("run", 2, scheduler=STEP).fit()
    again = make("run", 3, scheduler=STEP, optimizer={"type": "AdamW", "lr": 0.1})
    again.load_state(read_newest(again.snapshots.folder)[0])
    assert again.learning_rate == pytest.approx(0.025) and not again.optimizer.state
    again.fit()


def test_a_rate_edited_in_the_middle_of_an_epoch_is_the_one_in_its_row(make: Make) -> None:
    make("run", 2, observers=[StopAt(2, 1)]).fit()
    again = make("run", 2, optimizer={**SGD, "lr": 0.5})
    state = read_newest(again.snapshots.folder)[0]
    assert state["sampler"]["batches"] == 1
    again.load_state(state, edits=Edits(options=[{"lr"}]))
    again.fit()
    assert again.history[-1]["lr"] == 0.5


def test_a_new_seed_draws_anew(make: Make) -> None:
    make("run", 1).fit()
    for edited in (False, True):
        again = make("run", 2)
        torch.manual_seed(99)
        expected = torch.get_rng_state()
        again.load_state(read_newest(again.snapshots.folder)[0], edits=Edits(seed=edited))
        assert torch.equal(torch.get_rng_state(), expected) is edited


def test_names_of_parameters_are_in_the_state(make_model: Make) -> None:
    model = make_model(2)
    names = build_optimizer(SGD, model).state_dict()["param_groups"][0]["param_names"]
    assert names == [name for name, _ in model.named_parameters()]
