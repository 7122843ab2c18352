"""Averages of weights: over the steps (EMA), and what an average needs before it can be used."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skoots.models.segmentation_model import SegmentationModel
from skoots.samples import Batch


class ExponentialAverage:
    """A moving average of a model's weights (EMA), which is validated and used instead of them.

    The decay grows as (1 + step) / (10 + step) up to the one given, as with SuperGradients' ``threshold``, so
    that the first weights are soon forgotten. Buffers are those of the model.

    Args:
        model: whose weights are averaged, on its device.
        decay: share of the average that a step leaves, in the long run.
    """

    def __init__(self, model: SegmentationModel, decay: float = 0.999) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, model: SegmentationModel) -> None:
        """Take in the weights after an optimizer step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        get_ema_multi_avg_fn(decay)(list(self.model.parameters()), list(model.parameters()), self.steps)
        for own, theirs in zip(self.model.buffers(), model.buffers()):
            own.copy_(theirs)


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
                model(batch.images.to(device))
    finally:
        for layer, momentum in zip(norms, momenta):
            layer.momentum = momentum
        model.eval()
    return True
