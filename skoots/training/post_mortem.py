"""The end of a training whose losses are no numbers, with all that is needed to find out why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from skoots.errors import SkootsError
from skoots.samples import Batch

if TYPE_CHECKING:
    from skoots.training.runner import TrainingRunner


def hopeless(runner: TrainingRunner) -> SkootsError:
    """What ends the training, for the user; the state is saved before."""
    heads = ", ".join(runner.nonfinite.heads)
    kept = _save(runner)
    return SkootsError(
        f"Training stopped: {runner.nonfinite.in_a_row} steps in a row had a loss that is no number, last "
        f"in head {heads}. Try a lower learning rate (runner.optimizer.params.lr) or "
        f"runner.clip_gradient: 1.0. {kept}"
        f"The snapshots of earlier epochs are in {runner.snapshots.folder}."
    )


def _save(runner: TrainingRunner) -> str:
    """Save the state, and the batch whose loss was no number if it is at hand; says where."""
    state = {key: value for key, value in runner.state().items() if key != "sampler"}
    parts = [p for p in runner.processes.gather(_on_host(runner.nonfinite.worst)) if p is not None]
    if parts and runner.processes.is_first:
        state["batch"] = {
            "origins": [origin for part in parts for origin in part.origins],
            **{name: torch.cat([part.tensors()[name] for part in parts]) for name in parts[0].tensors()},
        }
    saved = runner.snapshots.save_average(state, "post-mortem") if runner.processes.is_first else None
    if saved is None or saved.error is not None:
        said = "" if saved is None else f"{saved.error} "
    else:
        said = f"{saved.files[0]} holds the state, and the batch: look at them. "
    return runner.processes.share(said)


def _on_host(batch: Batch | None) -> Batch | None:
    return None if batch is None else batch.to("cpu")
