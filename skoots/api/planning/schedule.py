"""How long, how often, and what is drawn: samples, epochs, learning rate, the score that decides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from skoots.api.planning.decision import Decision, some
from skoots.data.crops import random_crop
from skoots.data.labelled_volume import LabelledVolume
from skoots.geometry import Box

STEPS_AN_EPOCH = {"cpu": (20, 60), "accelerator": (50, 250)}
STEPS = {"cpu": 900, "accelerator": 25_000}
EPOCHS = {"cpu": (15, 30), "accelerator": (100, 300)}
WARM_UP = 3
OBJECT_SHARE = 0.95  # of the crops are to hold an object
OBJECT_RATE = (0.33, 0.9)  # at least nnU-Net's share; some crops lie anywhere, so that background is seen
TRIALS = 200
FEW_OBJECTS = 50


def choose_steps(voxels: int, crop_voxels: int, batch: int, device: str) -> int:
    """Steps of an epoch in which the crops hold about as many voxels as the volumes, within bounds.

    Args:
        voxels: of all training volumes.
        crop_voxels: of one crop.
        batch: crops in a step.
        device: ``cpu`` or ``accelerator``.
    """
    low, high = STEPS_AN_EPOCH[device]
    return min(high, max(low, math.ceil(voxels / (crop_voxels * batch))))


def choose_epochs(steps: int, device: str) -> int:
    """Epochs that make the steps that a training takes, within bounds."""
    low, high = EPOCHS[device]
    return min(high, max(low, round(STEPS[device] / steps)))


def share_samples(total: int, objects: Sequence[int]) -> list[int]:
    """Samples of each volume, in proportion to its objects, as powers of two; at least one.

    Few different numbers make few sources; a single volume gets the total as it is.
    """
    if len(objects) == 1:
        return [total]
    shares = [total * n / max(1, sum(objects)) for n in objects]
    return [2 ** max(0, round(math.log2(max(share, 1)))) for share in shares]


def share_of_crops_with_objects(
    volumes: Sequence[LabelledVolume], crop: Sequence[int], seed: int = 0, known: Sequence[Box] | None = None
) -> float:
    """Share of crops, drawn anywhere, that hold a skeleton point.

    Args:
        volumes: to draw from.
        crop: voxels of a crop.
        seed: of the draws.
        known: of each volume the part that crops keep to; None means the whole.
    """
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(TRIALS):
        row = int(rng.integers(len(volumes)))
        volume = volumes[row]
        box = random_crop(volume.shape, crop, rng, within=None if known is None else known[row])
        points = volume.skeletons.points
        held += bool(((points >= box.start) & (points < box.stop)).all(1).any())
    return held / TRIALS


def decide_object_rate(anywhere: float, foreground: float) -> Decision:
    """Share of crops to be drawn around an object.

    Args:
        anywhere: share of crops that hold an object wherever they lie.
        foreground: share of voxels inside objects.
    """
    missing = (OBJECT_SHARE - anywhere) / (1 - anywhere) if anywhere < OBJECT_SHARE else 0.0
    rate = round(min(OBJECT_RATE[1], max(OBJECT_RATE[0], missing)), 2)
    reason = (
        f"{100 * foreground:.0f} % of the voxels lie inside objects, and {100 * anywhere:.0f} % of crops "
        "drawn anywhere "
        f"hold one; with this rate {100 * (rate + (1 - rate) * anywhere):.0f} % do. "
        "Around objects, small ones are drawn as often as large ones."
    )
    return Decision("data.object_rate", rate, reason)


def decide_schedule(steps: int, epochs: int, passes: float, device: str, held_out: int) -> list[Decision]:
    """Runner and settings.

    Args:
        steps: of an epoch.
        epochs: of the training.
        passes: times that an epoch's crops hold the voxels of the volumes.
        device: ``cpu`` or ``accelerator``.
        held_out: objects to validate on; 0 without validation.
    """
    warm_up = min(WARM_UP, epochs // 3)
    cosine = {"type": "CosineAnnealingLR", "params": {"T_max": max(1, epochs - warm_up)}}
    linear = {"type": "LinearLR", "params": {"start_factor": 0.1, "total_iters": warm_up}}
    schedule = (
        {"type": "SequentialLR", "params": {"schedulers": [linear, cosine], "milestones": [warm_up]}}
        if warm_up
        else cosine
    )
    return [
        *_decide_score(held_out),
        Decision(
            "runner.eval_interval", min(10, max(1, epochs // 6)), "Epochs; the last one is validated too."
        ),
        Decision("runner.clip_gradient", 5.0),
        Decision("runner.optimizer", {"type": "AdamW", "params": {"lr": 3e-3, "weight_decay": 1e-3}}),
        Decision(
            "runner.scheduler", schedule, "Warms up, then falls to 0 in the last epoch: follows epochs."
        ),
        Decision(
            "train_settings.epochs",
            epochs,
            f"{steps * epochs:,} steps, {steps} an epoch, in which every voxel is seen "
            f"{passes * epochs:,.0f} times on "
            "average. "
            + ("On a CPU time is scarce; a GPU would get more. " if device == "cpu" else "")
            + "--epochs plans for another number.",
        ),
        *([Decision("train_settings.dataloader_pin_memory", True)] if device == "accelerator" else []),
        Decision("train_settings.display_iters", 10),
    ]


def _decide_score(held_out: int) -> list[Decision]:
    if held_out == 0:
        return [
            Decision("runner.key_metric", "test.loss", "Without validation data no snapshot is the best.")
        ]
    if held_out < FEW_OBJECTS:
        reason = (
            f"There are only {some(held_out, 'object')} to validate on, so that F1 moves in steps of "
            f"{1 / held_out:.2g}; mAP, over IoU 0.5 to 0.95, also sees borders get better."
        )
        return [Decision("runner.key_metric", "test.mAP", reason)]
    return [
        Decision(
            "runner.key_metric", "test.F1", f"{some(held_out, 'object')} to validate on are enough for F1."
        )
    ]
