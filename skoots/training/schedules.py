"""Learning-rate schedules: any scheduler of ``torch.optim`` by name, nested as deep as you like, stepped once
an epoch, or once a step of the optimizer.

Torch's own ``SequentialLR`` and ``ChainedScheduler`` let their parts take turns on the one optimizer, and
lose count when they are nested or hold ``ReduceLROnPlateau``. Here each part drives a stand-in of the
optimizer, and the whole reads the results; that gives the same learning rates where torch's are right, and
right ones elsewhere.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from skoots.errors import ConfigError, SnapshotError
from skoots.registry import split_node
from skoots.training.optimizers import check_arguments, class_by_name

SchedulerFactory = Callable[[Optimizer], LRScheduler]
Node = str | Mapping[str, Any]
Interval = Literal["epoch", "step"]


class LRListScheduler(LRScheduler):
    """Sets the learning rates of a list at its milestones, as DeepLabCut's scheduler of this name does.

    Args:
        optimizer: its learning rates are set.
        milestones: epochs; milestone m takes effect after m completed epochs. Increasing.
        lr_list: for each milestone the learning rate of every parameter group; one number (in a list or not)
            serves all.
        last_epoch: epochs completed less one, as in torch; milestones already passed count.

    Raises:
        ConfigError: the lists do not fit each other or the parameter groups.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        lr_list: Sequence[float | Sequence[float]],
        last_epoch: int = -1,
    ) -> None:
        if len(milestones) != len(lr_list):
            raise ConfigError(
                f"LRListScheduler has {len(milestones)} milestones and {len(lr_list)} entries in lr_list; "
                "give one for each."
            )
        if any(later <= earlier for earlier, later in itertools.pairwise([-1, *milestones])):
            raise ConfigError(
                f"LRListScheduler needs increasing milestones of 0 or more, not {list(milestones)}."
            )
        self.milestones = list(milestones)
        self.lr_list = [self._for_groups(entry, len(optimizer.param_groups)) for entry in lr_list]
        super().__init__(optimizer, last_epoch)

    @staticmethod
    def _for_groups(entry: float | Sequence[float], groups: int) -> list[float]:
        rates = [float(rate) for rate in entry] if isinstance(entry, Sequence) else [float(entry)]
        if len(rates) not in (1, groups):
            raise ConfigError(
                f"LRListScheduler got {len(rates)} learning rates in {entry!r} and the optimizer has "
                f"{groups} parameter groups; give one number, or one for each group."
            )
        return rates * groups if len(rates) == 1 else rates

    def get_lr(self) -> list[float | Tensor]:
        """The rates of the last milestone passed; before the first, those that the optimizer has."""
        passed = bisect_right(self.milestones, self.last_epoch)
        if passed == 0:
            return [group["lr"] for group in self.optimizer.param_groups]
        return list(self.lr_list[passed - 1])


class _StandIn(Optimizer):
    """The options of an optimizer at the start of training, without its parameters: for a scheduler."""

    def __init__(self, optimizer: Optimizer) -> None:
        groups = [
            {**group, "params": [torch.zeros(0)], "lr": float(group.get("initial_lr", group["lr"]))}
            for group in optimizer.param_groups
        ]
        for group in groups:
            group.pop("initial_lr", None)
            group.pop("param_names", None)
        super().__init__(groups, dict(optimizer.defaults))

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing: there are no parameters."""

    @property
    def rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.param_groups]


class _Composite(LRScheduler):
    """A scheduler made of others, each with a stand-in of the optimizer of its own."""

    momenta = ("momentum", "betas")  # what cyclic schedulers set beside the learning rate

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[SchedulerFactory]) -> None:
        if not schedulers:
            raise ConfigError(f"{type(self).__name__} needs at least one scheduler.")
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        self.optimizer = optimizer
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self._base_momenta = [
            {key: group[key] for key in self.momenta if key in group} for group in optimizer.param_groups
        ]
        self.last_epoch = 0
        self.stand_ins = [_StandIn(optimizer) for _ in schedulers]
        self.parts = [factory(stand_in) for factory, stand_in in zip(schedulers, self.stand_ins)]
        self._apply()

    def _rates(self) -> list[float]:
        raise NotImplementedError

    def _running(self) -> list[int]:
        """The parts whose turn it is."""
        raise NotImplementedError

    def step(self, metric: float | None = None) -> None:
        """One more epoch is completed.

        Args:
            metric: what ``ReduceLROnPlateau`` among the parts watches, None if it was not measured.
        """
        before = self._running()
        self.last_epoch += 1
        for index in self._running():
            if index in before:  # a part whose turn begins now stands at its own epoch 0
                step_scheduler(self.parts[index], metric)
        self._apply()

    def _apply(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self._base_momenta):
            group.update(base)
        for index in self._running():
            own_groups = self.stand_ins[index].param_groups
            for group, own, base in zip(self.optimizer.param_groups, own_groups, self._base_momenta):
                group.update({key: own[key] for key, value in base.items() if own[key] != value})
        _set_rates(self.optimizer, self._rates())
        self._last_lr = list(self._rates())

    def state_dict(self) -> dict[str, Any]:
        """Epochs completed, and of each part its state and the options of its stand-in."""
        return {
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
            "_last_lr": list(self._last_lr),
            "_schedulers": [scheduler_state(part) for part in self.parts],
            "options": [
                [
                    {key: value for key, value in group.items() if key != "params"}
                    for group in stand_in.param_groups
                ]
                for stand_in in self.stand_ins
            ],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        if len(state_dict["_schedulers"]) != len(self.parts):
            raise SnapshotError(
                f"The snapshot's {type(self).__name__} has {len(state_dict['_schedulers'])} schedulers "
                f"and the config's has {len(self.parts)}. {_FOLLOW_CONFIG}"
            )
        for part, state in zip(self.parts, state_dict["_schedulers"]):
            load_scheduler_state(part, state)
        for stand_in, options in zip(self.stand_ins, state_dict["options"]):
            for group, saved in zip(stand_in.param_groups, options):
                group.update(saved)
        self.last_epoch = state_dict["last_epoch"]
        self.base_lrs = list(state_dict["base_lrs"])
        self._apply()


class SequentialLR(_Composite):
    """One scheduler after the other; each counts from its own first epoch and from the initial learning rate.

    Args:
        optimizer: its learning rates are set.
        schedulers: functions that build a scheduler on an optimizer.
        milestones: epochs completed at which the next scheduler takes over, increasing, one fewer than
            schedulers.
        last_epoch: epochs completed less one, as in torch.

    Raises:
        ConfigError: the milestones do not fit.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[SchedulerFactory],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if len(milestones) != len(schedulers) - 1 or list(milestones) != sorted(milestones):
            raise ConfigError(
                f"SequentialLR has {len(schedulers)} schedulers and the milestones {list(milestones)}; "
                "give increasing milestones, one fewer than schedulers."
            )
        self.milestones = list(milestones)
        super().__init__(optimizer, schedulers)
        for _ in range(last_epoch + 1):
            self.step()

    def _running(self) -> list[int]:
        return [bisect_right(self.milestones, self.last_epoch)]

    def _rates(self) -> list[float]:
        return self.stand_ins[self._running()[0]].rates

    def state_dict(self) -> dict[str, Any]:
        """As of every composite, and the milestones."""
        return {**super().state_dict(), "milestones": list(self.milestones)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.milestones = list(state_dict["milestones"])
        super().load_state_dict(state_dict)


class ChainedScheduler(_Composite):
    """Several schedulers at once: their factors of the initial learning rate multiply.

    Args:
        optimizer: its learning rates are set.
        schedulers: functions that build a scheduler on an optimizer.
    """

    def _running(self) -> list[int]:
        return list(range(len(self.parts)))

    def _rates(self) -> list[float]:
        by_group = zip(self.base_lrs, *(stand_in.rates for stand_in in self.stand_ins))
        return [base * prod(rate / base for rate in rates) if base else 0.0 for base, *rates in by_group]


_OWN: dict[str, type[LRScheduler]] = {
    part.__name__: part for part in (LRListScheduler, SequentialLR, ChainedScheduler)
}
_FOLLOW_CONFIG = "Set runner.load_scheduler_state_dict: false to follow the config."


def scheduler_class(name: str) -> type[LRScheduler]:
    """The scheduler with this name: a class of ``torch.optim.lr_scheduler``, or one of this file.

    Case, underscores and a missing ``LR`` at the end do not matter: ``cosine_annealing_warm_restarts``,
    ``step_lr``, ``cosine_annealing``.

    Raises:
        PluginError: there is none; the message lists near misses.
    """
    known = {
        key: value
        for key, value in vars(lr_scheduler).items()
        if inspect.isclass(value)
        and issubclass(value, LRScheduler)
        and value is not LRScheduler
        and key[0] != "_"
    }
    return class_by_name("scheduler", name, {**known, **_OWN}, endings=("", "lr", "scheduler"))


def timing_of(node: Node) -> tuple[Interval, str | None]:
    """What a schedule counts and which metric it watches: the keys ``interval`` and ``monitor`` of its
    node."""
    given = {} if isinstance(node, str) else node
    return given.get("interval", "epoch"), given.get("monitor")


def watches_a_metric(node: Node) -> bool:
    """Whether a schedule is a ``ReduceLROnPlateau``, or has one in it."""
    name, arguments = split_node(node)
    nested = arguments.get("schedulers", ())
    return scheduler_class(name) is ReduceLROnPlateau or any(map(watches_a_metric, nested))


def build_scheduler(node: Node, optimizer: Optimizer, key_metric_asc: bool = False) -> LRScheduler:
    """The scheduler that a config node names, with the schedulers nested in it.

    Args:
        node: ``{type: StepLR, step_size: 100}`` or ``{type: StepLR, params: {step_size: 100}}``; where an
            argument is a scheduler (or a list of them), a node again. ``interval`` and ``monitor`` beside
            them are for whoever steps it, see ``timing_of``.
        optimizer: its learning rates are set.
        key_metric_asc: whether larger is better for the metric that :func:`step_scheduler` is given; the
            ``mode`` of a ``ReduceLROnPlateau`` that has none.

    Raises:
        PluginError: there is no scheduler of this name.
        ConfigError: an argument does not fit.
    """
    if not isinstance(node, str) and "type" not in node:
        raise ConfigError(
            f"A scheduler needs a type, e.g. type: StepLR; this one has only {', '.join(node) or 'nothing'}."
        )
    name, arguments = split_node(node)
    for key in ("interval", "monitor"):
        arguments.pop(key, None)
    part = scheduler_class(name)
    check_arguments(f"Scheduler {part.__name__}", part, arguments, given=("optimizer",))
    if issubclass(part, ReduceLROnPlateau):
        arguments.setdefault("mode", "max" if key_metric_asc else "min")
    if issubclass(part, _Composite):
        nested = arguments.get("schedulers")
        if not isinstance(nested, Sequence) or isinstance(nested, str):
            raise ConfigError(f"Scheduler {part.__name__} needs schedulers, a list of scheduler nodes.")
        arguments["schedulers"] = [
            partial(build_scheduler, child, key_metric_asc=key_metric_asc) for child in nested
        ]
    try:
        return part(optimizer=optimizer, **arguments)
    except (TypeError, ValueError, ArithmeticError, KeyError) as error:
        raise ConfigError(f"Scheduler {part.__name__}: {str(error).rstrip('.')}.") from error


def step_scheduler(scheduler: LRScheduler, metric: float | None = None) -> None:
    """Tell a scheduler that one more epoch is completed.

    Args:
        scheduler: from :func:`build_scheduler`.
        metric: what ``ReduceLROnPlateau`` watches; None if this epoch did not measure it, and then that
            scheduler waits.

    Raises:
        ConfigError: the scheduler cannot go on, e.g. ``OneCycleLR`` beyond its ``total_steps``.
    """
    try:
        with _optimizer_may_rest():
            if isinstance(scheduler, _Composite):
                scheduler.step(metric)
            elif not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
            elif metric is not None:
                scheduler.step(metric)
    except (ValueError, ArithmeticError) as error:
        raise ConfigError(
            f"Scheduler {type(scheduler).__name__} cannot go on: {str(error).rstrip('.')}."
        ) from error


def replay(scheduler: LRScheduler, epochs: int, metrics: Sequence[float | None] = ()) -> None:
    """Bring a new scheduler to the point after ``epochs`` completed epochs, and its optimizer's learning
    rates with it.

    Args:
        scheduler: just built, on an optimizer whose options are those of the config (see
            ``load_optimizer_state``).
        epochs: how many are completed.
        metrics: the metric of each of them, for ``ReduceLROnPlateau``; where it is missing that scheduler
            stands still.

    Raises:
        ConfigError: the schedule ends before.
    """
    _set_rates(scheduler.optimizer, scheduler.get_last_lr())
    for epoch in range(epochs):
        step_scheduler(scheduler, metrics[epoch] if epoch < len(metrics) else None)


def rehearse(node: Node, optimizer: Optimizer, epochs: int) -> list[list[float]]:
    """The learning rates of every epoch and parameter group that a schedule would give; ``optimizer`` is left
    alone.

    Raises:
        PluginError, ConfigError: as :func:`build_scheduler` and :func:`step_scheduler` would, before training
        has begun.
    """
    stand_in = _StandIn(optimizer)
    scheduler = build_scheduler(node, stand_in)
    rates = []
    for epoch in range(epochs):
        if epoch:
            step_scheduler(scheduler)
        rates.append(stand_in.rates)
    return rates


def scheduler_state(scheduler: LRScheduler) -> dict[str, Any]:
    """``scheduler.state_dict()`` with the name of its class under ``type``, for a snapshot."""
    return {**scheduler.state_dict(), "type": type(scheduler).__name__}


def load_scheduler_state(scheduler: LRScheduler, state: Mapping[str, Any]) -> None:
    """Give a scheduler the state that a snapshot holds, and its optimizer the learning rates of that point.

    Raises:
        SnapshotError: it is the state of another class (torch would take it without a word).
    """
    saved, wanted = state.get("type", type(scheduler).__name__), type(scheduler).__name__
    if saved != wanted:
        raise SnapshotError(
            f"The snapshot holds the state of the scheduler {saved} and the config names {wanted}. "
            f"{_FOLLOW_CONFIG}"
        )
    scheduler.load_state_dict({key: value for key, value in state.items() if key != "type"})
    _set_rates(scheduler.optimizer, scheduler.get_last_lr())


def _set_rates(optimizer: Optimizer, rates: Sequence[float | Tensor]) -> None:
    for group, rate in zip(optimizer.param_groups, rates):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(float(rate))  # captured graphs read this very tensor
        else:
            group["lr"] = float(rate)


@contextmanager
def _optimizer_may_rest() -> Iterator[None]:
    """Torch warns of a scheduler's step before any of the optimizer's, which is right when past epochs are
    replayed, when a stand-in is driven, and when the first epoch had only steps that were skipped."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of .lr_scheduler.step", UserWarning)
        yield
