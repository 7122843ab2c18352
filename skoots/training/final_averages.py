"""The averages that are made when training ends: of the best epochs, and of the last ones (SWA)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from skoots.errors import SnapshotError
from skoots.models.segmentation_model import SegmentationModel
from skoots.samples import Batch
from skoots.training.averaging import refresh_statistics
from skoots.training.state import described_state

if TYPE_CHECKING:
    from skoots.training.runner import TrainingRunner

log = logging.getLogger("skoots")


def save_averages(runner: TrainingRunner) -> None:
    """``snapshot-average.pt`` of the pool and ``snapshot-swa.pt``, whichever was asked for; a failure costs
    the file, not the training."""
    try:
        # Only the first process knows what lies on its disk.
        found = runner.processes.on_first(
            lambda: runner.snapshots.average(runner.pool) if runner.pool else None
        )
    except SnapshotError as error:
        runner.failed_saves += 1
        log.error("The average of the best epochs was not made: %s", error)
        found = None
    if found is not None:
        weights, members = found
        facts: dict[str, Any] = {"count": len(members), "epochs": [member["epoch"] for member in members]}
        runner.average = _save(runner, weights, facts, "average")
        epochs, value = ", ".join(map(str, facts["epochs"])), runner.average["value"]
        scored = "" if value is None else f": {runner.key_metric} {value:.4g}"
        log.info("The average of epochs %s%s.", epochs, scored)
    if runner.swa is not None and runner.swa.count:
        facts = {"count": runner.swa.count, "swa_start": runner.swa.swa_start}
        saved = _save(runner, dict(runner.swa.model.state_dict()), facts, "swa")
        scored = "" if saved["value"] is None else f": {runner.key_metric} {saved['value']:.4g}"
        log.info("The stochastic average of %d epochs%s.", runner.swa.count, scored)


def _save(
    runner: TrainingRunner, weights: Mapping[str, Tensor], facts: Mapping[str, Any], tag: str
) -> dict[str, Any]:
    """Statistics measured, validated like any epoch, saved; the model stays as it was."""
    model = runner.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        model.load_state_dict(weights)
        refreshed = refresh(runner, model)
        measured = {} if runner.evaluate is None else runner.evaluate(model, runner.epoch)
        about = {**facts, "value": measured.get(runner.key_metric), "statistics": refreshed}
        if runner.processes.is_first:
            state = {**described_state(runner, measured), "net": model.state_dict(), "averaging": about}
            runner._announce(runner.snapshots.save_average(state, tag))
        return about
    finally:
        model.load_state_dict(before)


def refresh(runner: TrainingRunner, model: SegmentationModel) -> bool:
    """Measure the statistics of a model's batch norms on an epoch's crops; whether it has any."""
    runner.loader.sampler.set_epoch(runner.epoch + 1)
    refreshed = refresh_statistics(model, _until_stopped(runner), runner.device)
    if refreshed and runner.processes.world > 1:
        for buffer in model.buffers():
            buffer.copy_(runner.processes.mean(buffer.double()).to(buffer.dtype))
    return refreshed


def _until_stopped(runner: TrainingRunner) -> Iterator[Batch]:
    with runner.batches() as batches:
        for batch in batches:
            runner.heed_signals()
            yield batch
