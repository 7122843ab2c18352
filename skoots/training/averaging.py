"""Averages of weights: over steps (EMA), over epochs (SWA), and what an average needs before it can be
used."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import SWALR, AveragedModel

from skoots.models.segmentation_model import SegmentationModel
from skoots.models.weights import load_weights
from skoots.samples import Batch
from skoots.training.schedules import load_scheduler_state, replay


class ExponentialAverage:
    """A moving average of a model's weights (EMA), which is validated and used instead of them.

    Buffers are those of the model.

    Args:
        model: whose weights are averaged, on its device.
        decay: share of the average that a step leaves, in the long run.
        warmup: whether the decay grows as (1 + step) / (10 + step) up to the one given, as with
            SuperGradients' ``threshold``, so that the first weights are soon forgotten.
        every: optimizer steps between updates of the average.
    """

    def __init__(
        self, model: SegmentationModel, decay: float = 0.999, warmup: bool = True, every: int = 1
    ) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.warmup, self.every = decay, warmup, every
        self.steps = 0

    @torch.no_grad()
    def update(self, model: SegmentationModel, finite: bool | Tensor = True) -> None:
        """Take in the weights after an optimizer step.

        Args:
            model: as it is now.
            finite: False, or a 0-d tensor that is, if the step was left out: it counts, and nothing is taken
                in.
        """
        self.steps += 1
        if self.steps % self.every or finite is False:
            return
        taken = self.steps // self.every
        decay = min(self.decay, taken / (9 + taken)) if self.warmup else self.decay
        share: Tensor | float = (1 - decay) if finite is True else (1 - decay) * finite.float()
        own: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(model.parameters())
        change = torch._foreach_sub(theirs, own)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(own, change)
        for mine, buffer in zip(self.model.buffers(), model.buffers()):
            mine.copy_(buffer)


class StochasticAverage:
    """The mean of the weights after every epoch from one on (SWA, Izmailov et al. 2018), as in the training
    protocol of SKOOTS: from then on ``torch.optim.swa_utils.SWALR`` sets the learning rate.

    Args:
        model: whose weights are averaged, on its device.
        optimizer: whose learning rate is set.
        swa_start: epoch after which the first weights are taken in.
        swa_lr: learning rate from then on.
        anneal_epochs: epochs in which it is reached.
        anneal_strategy: ``cos`` or ``linear``.
        evaluate: whether the mean is validated when the model is, as ``swa.loss``, ``swa.F1`` and so on.
    """

    def __init__(
        self,
        model: SegmentationModel,
        optimizer: Optimizer,
        swa_start: int = 100,
        swa_lr: float = 0.05,
        anneal_epochs: int = 10,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        evaluate: bool = False,
    ) -> None:
        self.optimizer, self.swa_start, self.evaluate = optimizer, swa_start, evaluate
        self.average = AveragedModel(model)
        self.average.module.eval().requires_grad_(False)
        self._options = {
            "swa_lr": swa_lr,
            "anneal_epochs": anneal_epochs,
            "anneal_strategy": anneal_strategy,
        }
        self.scheduler: SWALR | None = None
        self._taken_in = 0  # the last epoch; training may be stopped after it and before the next begins

    @property
    def model(self) -> SegmentationModel:
        """The mean, in evaluation mode."""
        return cast(SegmentationModel, self.average.module)

    @property
    def count(self) -> int:
        """Epochs taken in."""
        return int(self.average.n_averaged)

    def begin_epoch(self, epoch: int) -> None:
        """Take over the learning rate in the first epoch after ``swa_start``."""
        if epoch > self.swa_start and self.scheduler is None:
            self._take_over()

    def _take_over(self) -> None:
        for group in self.optimizer.param_groups:
            group.pop("swa_lr", None)
        self.scheduler = SWALR(self.optimizer, **self._options)  # type: ignore[arg-type]

    def end_epoch(self, model: SegmentationModel, epoch: int) -> None:
        """Take in the weights after an epoch, if it is one of those averaged."""
        if epoch >= self.swa_start and epoch > self._taken_in:
            self._taken_in = epoch
            self.average.update_parameters(model)
            for own, theirs in zip(self.model.buffers(), model.buffers()):
                own.copy_(theirs)

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        scheduler = {} if self.scheduler is None else self.scheduler.state_dict()
        return {
            "net": self.model.state_dict(),
            "count": self.count,
            "epoch": self._taken_in,
            "scheduler": {key: value for key, value in scheduler.items() if not callable(value)},
        }

    def load_state(self, state: Mapping[str, Any], schedule: bool = True) -> None:
        """Take up what ``state`` gave.

        Args:
            state: from ``state``.
            schedule: whether the learning rate goes on where it was; say False where it is replayed.

        Raises:
            SnapshotError: the mean is that of another model.
        """
        load_weights(self.model, state["net"])
        self.average.n_averaged.fill_(state["count"])
        self._taken_in = state["epoch"]
        if state["scheduler"] and schedule:
            self._take_over()
            assert self.scheduler is not None
            load_scheduler_state(self.scheduler, state["scheduler"])

    def replay(self, epochs: int) -> None:
        """Bring the learning rate to where it is so many epochs after ``swa_start``; below 0 it is not its
        turn."""
        if epochs >= 0:
            self._take_over()
            assert self.scheduler is not None
            replay(self.scheduler, epochs)


def refresh_statistics(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> bool:
    """Measure the running statistics of batch norms anew, as means over batches: averaged weights do not fit
    averaged statistics. All other layers stay in evaluation mode, so nothing is drawn at random.

    Args:
        model: its batch norms that are in training mode after ``model.train()``; frozen ones keep theirs.
        batches: to measure on.
        device: where the model lies.

    Returns:
        Whether it has any.
    """
    norms = [
        layer
        for layer in model.train().modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training and layer.track_running_stats
    ]
    model.eval()
    if not norms:
        return False
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean
        layer.train()
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch.to(device).images)
    finally:
        for layer, momentum in zip(norms, momenta):
            layer.momentum = momentum
        model.eval()
    return True
