"""One step: forward, loss, backward, update. Nothing in it waits for the device, see ``TrainingStep``."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from skoots.models.criteria.base import summed_over_processes
from skoots.models.segmentation_model import SegmentationModel
from skoots.samples import Batch
from skoots.training.averaging import ExponentialAverage
from skoots.training.distributed import Network, Processes
from skoots.training.precision import Precision


@dataclass(frozen=True)
class Losses:
    """What a step found, on the device.

    Args:
        names: ``loss`` and the heads.
        values: their losses, (1 + heads,) float32.
        finite: whether they, those before in the same update, and the gradient if the step updates, are
            numbers; 0-d bool. A gradient that only its scale has made infinite counts as one.
        left_out: True if it is known already that they are not; a device that computes ahead may not know.
        ends: whether the step updates.
    """

    names: tuple[str, ...]
    values: Tensor
    finite: Tensor
    left_out: bool = False
    ends: bool = True

    def named(self) -> dict[str, Tensor]:
        """Each loss by name."""
        return dict(zip(self.names, self.values.unbind()))


class TrainingStep:
    """Learns from one batch.

    An update whose loss or gradient is no number is left out whole: weights, optimizer, moving average and
    the statistics of batch norms stay as they were. On a device that computes ahead of the program this is
    decided on the device by the fused optimizers of torch (Adam, AdamW, SGD, Adagrad), as
    ``torch.amp.GradScaler`` does it; other optimizers make the program wait once an update.

    Args:
        model: on its device.
        optimizer: of its parameters.
        network: calls the model: compiled, or one of several processes; None calls it as it is.
        clip_gradient: longest gradient; None leaves it alone.
        ema: moving average of the weights.
        precision: number format of the forward pass.
        scaler: of the loss; None takes that of the precision.
        processes: those that train together.
        ahead: whether the device computes ahead of the program; None decides by the device.
    """

    def __init__(
        self,
        model: SegmentationModel,
        optimizer: Optimizer,
        network: Network | None = None,
        *,
        clip_gradient: float | None = None,
        ema: ExponentialAverage | None = None,
        precision: Precision | None = None,
        scaler: GradScaler | None = None,
        processes: Processes | None = None,
        ahead: bool | None = None,
    ) -> None:
        self.model, self.optimizer, self.network = model, optimizer, network or Network(model)
        self.clip_gradient, self.ema = clip_gradient, ema
        self.precision = precision or Precision()
        self.scaler = scaler if scaler is not None else self.precision.scaler()
        self.processes = processes or Processes()
        device = next(model.parameters()).device
        self.ahead = device.type != "cpu" if ahead is None else ahead
        self._on_device = self.ahead and all(group.get("fused") for group in optimizer.param_groups)
        self.statistics = Statistics(model)
        self._finite = torch.ones((), dtype=torch.bool, device=device)

    def __call__(
        self, batch: Batch, epoch: int, begins: bool = True, ends: bool = True, size: int = 1
    ) -> Losses:
        """Learn from a batch on the device.

        Args:
            batch: on the device.
            epoch: counted from 1; 0 is the warm-up, in which every head counts.
            begins: whether it is the first of those whose gradients make one update.
            ends: whether it is the last of them.
            size: how many they are.
        """
        if begins:
            self.optimizer.zero_grad(set_to_none=True)
            self.statistics.remember()
            self._finite = torch.ones_like(self._finite)
        exchange = nullcontext() if ends else self.network.without_exchange()
        with exchange:
            with self.precision.autocast():
                outputs = self.network(batch.images)
            with summed_over_processes(self.processes.world > 1):
                total, parts = self.model.loss(outputs, self.model.targets(batch), batch, epoch)
            if total.requires_grad:
                loss = total / size
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        names = ("loss", *parts)
        values = torch.stack([total.detach(), *(part.detach() for part in parts.values())]).float()
        # One verdict for all processes, so that what follows from it is the same on each.
        finite = self._finite = self.processes.all_true(self._finite & values[0].isfinite())
        if ends:
            finite = self._update(total.requires_grad)
        return Losses(names, values, finite, not self.ahead and not bool(finite), ends)

    def _update(self, has_gradient: bool) -> Tensor:
        """One step of the optimizer, unless a loss or the gradient is no number; whether they are, see
        ``Losses``."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if self.scaler is not None and has_gradient:
            self.scaler.unscale_(self.optimizer)
        finite = self._finite
        if gradients:
            length = nn.utils.get_total_norm(gradients)
            if self.network.sharded:
                length = length.full_tensor()  # type: ignore[attr-defined]
            finite = finite & length.isfinite()
            if self.clip_gradient is not None:
                nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_gradient, length)
        finite = self.processes.all_true(finite)
        scaled = self.scaler is not None and has_gradient
        if scaled:
            self._step_with_scaler(finite)
        elif self._on_device:
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.step()
            del self.optimizer.found_inf  # type: ignore[attr-defined]
        elif bool(finite):
            self.optimizer.step()
        known = None if self.ahead else bool(finite)
        self.statistics.restore_unless(finite if known is None else known)
        if self.ema is not None:
            self.ema.update(self.model, finite if known is None else known)
        return self._apart_from_its_scale(finite) if scaled else finite

    def _step_with_scaler(self, finite: Tensor) -> None:
        """The scaler leaves out what is not finite by itself, and lowers its scale."""
        assert self.scaler is not None
        found = self.scaler._per_optimizer_states[id(self.optimizer)]["found_inf_per_device"]
        for flag in found.values():  # what another process has found counts too
            flag.copy_(torch.maximum(flag, (~finite).float()))
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _apart_from_its_scale(self, finite: Tensor) -> Tensor:
        """A gradient too large for its format is the way in which the scale is found, as long as there is a
        scale left to be lowered."""
        assert self.scaler is not None
        scale = self.scaler._get_scale_async()
        assert scale is not None
        return finite | (self._finite & (scale >= 1))


class Statistics:
    """The running statistics of batch norms, which take in what made a loss infinite and would never forget
    a NaN.

    Args:
        model: whose batch norms are looked after.
    """

    def __init__(self, model: nn.Module) -> None:
        self.live = [
            buffer
            for layer in model.modules()
            if isinstance(layer, nn.modules.batchnorm._BatchNorm)
            for buffer in layer.buffers(recurse=False)
        ]
        self.before = [torch.empty_like(buffer) for buffer in self.live]

    @torch.no_grad()
    def remember(self) -> None:
        """Keep them as they are."""
        if self.live:
            torch._foreach_copy_(self.before, self.live)

    @torch.no_grad()
    def restore_unless(self, finite: bool | Tensor) -> None:
        """Bring them back to what was kept, unless all was finite."""
        if isinstance(finite, bool):
            if not finite and self.live:
                torch._foreach_copy_(self.live, self.before)
            return
        for live, before in zip(self.live, self.before):
            live.copy_(torch.where(finite, live, before))
