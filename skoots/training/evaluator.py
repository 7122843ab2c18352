"""Validation: losses and instance metrics over windows that cover the validation volumes."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from skoots.instances import Decoder, Maps
from skoots.metrics import METRIC_NAMES, Overlap, contingency, score, stack
from skoots.models.nonfinite import NonFiniteMapError
from skoots.models.segmentation_model import SegmentationModel
from skoots.runtime import without_trials
from skoots.samples import Batch
from skoots.training.distributed import Processes
from skoots.training.precision import Precision

log = logging.getLogger("skoots")


@dataclass(frozen=True)
class _Window:
    """What was measured in one window: losses by name, voxels, overlaps of objects or why there are none."""

    losses: dict[str, float]
    voxels: int
    overlaps: list[Overlap]
    fault: str = ""


class Evaluator:
    """Scores a model on validation windows.

    Every window is decoded by itself, so an object that is cut by a window's border counts once on either
    side. Several processes share the windows; what they measured is put together in the order of the windows,
    so that the numbers do not depend on how many they are.

    Args:
        loader: batches of windows; of several processes each has every so many.
        decoder: makes instances of maps.
        device: where the model lies.
        heed: called after every window, see ``TrainingRunner.heed``; raises if the training is to stop.
        at_once: a context in which a stop need not wait for the window to be measured.
        precision: number format of the network.
        processes: those that share the windows.
        strict: whether a network that gives NaN or infinite maps is an error; else a warning says so, and the
            scores of objects are NaN, which no snapshot is chosen by.
    """

    def __init__(
        self,
        loader: Iterable[Batch],
        decoder: Decoder,
        device: torch.device,
        heed: Callable[[], None] = lambda: None,
        at_once: Callable[[], AbstractContextManager[None]] = nullcontext,
        precision: Precision | None = None,
        processes: Processes | None = None,
        strict: bool = False,
    ) -> None:
        self.strict = strict
        self.loader, self.decoder, self.device = loader, decoder, device
        self.heed, self.at_once = heed, at_once
        self.precision, self.processes = precision or Precision(), processes or Processes()

    @torch.no_grad()
    @without_trials()
    def __call__(self, model: SegmentationModel, epoch: int) -> dict[str, float]:
        """``test.loss``, ``test.loss.HEAD`` and ``test.METRIC``; losses are means over windows weighted by
        voxels that count."""
        model.eval()
        own = []
        missing = self._windows_that_others_have_more()
        for batch in self.loader:
            with self.at_once():
                own.append(self._measure(model, batch.to(self.device), epoch))
            self.heed()
        for _ in range(missing):  # as often as the others, which ask this process then, and for its weights
            self._measure(model, Batch.collate([self.loader.dataset[0]]).to(self.device), epoch)  # type: ignore[attr-defined]
            self.heed()
        metrics, faults = _put_together(self.processes.gather(own))
        if faults and self.processes.is_first:
            more = f" So in {len(faults)} windows." if len(faults) > 1 else ""
            log.warning("Validation: %s%s Its objects are not scored.", faults[0], more)
        return metrics

    def _windows_that_others_have_more(self) -> int:
        if self.processes.world == 1:
            return 0
        own = len(self.loader)  # type: ignore[arg-type]
        return self.processes.largest(own)[0] - own

    def _measure(self, model: SegmentationModel, batch: Batch, epoch: int) -> _Window:
        with self.precision.autocast():
            outputs = model(batch.images)
        total, parts = model.loss(outputs, model.targets(batch), batch, epoch)
        losses = {"test.loss": float(total), **{f"test.loss.{k}": float(v) for k, v in parts.items()}}
        voxels = int(batch.valid.sum())
        try:
            return _Window(losses, voxels, self._overlaps(model, outputs, batch))
        except NonFiniteMapError as error:
            fault = f"{str(error).rstrip('.')}, in {'; '.join(batch.origins)}."
            if self.strict:
                raise NonFiniteMapError(f"{fault} Use an earlier snapshot.") from error
            return _Window(losses, voxels, [], fault)

    def _overlaps(self, model: SegmentationModel, outputs: dict, batch: Batch) -> list[Overlap]:
        maps = model.predict(outputs)
        channels = {name: values.shape[1] for name, values in maps.items()}
        if self.decoder.lacks(channels, batch.labels.ndim - 1, model.vector_scale):
            return []
        host = {name: maps[name].float().cpu().numpy() for name in self.decoder.reads}
        truths = torch.where(batch.valid, batch.labels, -1).cpu().numpy()
        overlaps = []
        for i, truth in enumerate(truths):
            values = {name: array[i] for name, array in host.items()}
            read = Maps.of(values, self.decoder.reads, batch.voxel_size, model.vector_scale)
            overlaps.append(contingency(truth, self.decoder.decode(read), ignore=-1))
        return overlaps


def _put_together(by_process: Sequence[Sequence[_Window]]) -> tuple[dict[str, float], list[str]]:
    """The metrics of all windows, and what was wrong with maps; the first process has the first window, the
    second the second, and so on."""
    rounds = itertools.zip_longest(*by_process)
    windows = [window for taken in rounds for window in taken if window is not None]
    sums: dict[str, float] = {}
    for window in windows:
        for name, value in window.losses.items():
            sums[name] = sums.get(name, 0.0) + value * window.voxels
    voxels = sum(window.voxels for window in windows)
    metrics = {name: value / max(voxels, 1) for name, value in sums.items()}
    faults = [window.fault for window in windows if window.fault]
    overlaps = [overlap for window in windows for overlap in window.overlaps]
    if overlaps or faults:
        scores = dict.fromkeys(METRIC_NAMES, math.nan) if faults else score(stack(overlaps))
        metrics |= {f"test.{name}": scores[name] for name in METRIC_NAMES}
    return metrics, faults
