"""``skoots check``: everything that a training would find out in its first minute, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skoots.api.build import open_volumes
from skoots.api.prepare import Prepared, about_workers, prepare, training_crops
from skoots.api.runner import check_training
from skoots.config import Config, load_config
from skoots.data.loaders import train_loader
from skoots.skeletons import Skeletons, touching_skeletons


@dataclass(frozen=True)
class CheckReport:
    """What a training with this config would work with.

    Args:
        config: with every ``auto`` decided.
        lines: plain sentences.
    """

    config: Config
    lines: list[str]


def check(
    config: Path | str | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    device: str | None = None,
) -> CheckReport:
    """Check a config and its data, and try one step on one batch.

    Args:
        config: as for ``train``.
        overrides: as for ``train``.
        plugins: as for ``train``.
        device: wins over the config's.

    Raises:
        SkootsError: all that ``train`` would raise.
    """
    prepared = prepare(load_config(config, overrides, plugins), device)
    open_volumes(prepared.config, "test")
    return CheckReport(prepared.config, [*prepared.decided, *_about_data(prepared), *_about_step(prepared)])


def _about_data(prepared: Prepared) -> list[str]:
    lines = []
    for kind, volumes in (
        ("train", prepared.train),
        ("background", prepared.background),
        ("validation", prepared.validation),
    ):
        for volume, count in volumes:
            shape = " x ".join(map(str, volume.shape))
            drawn = f", {count} samples an epoch" if kind != "validation" else ""
            lines.append(f"{kind}: {volume.name}, {shape} voxels, {_objects(volume.skeletons)}{drawn}.")
    return lines


def _objects(skeletons: Skeletons) -> str:
    if not len(skeletons):
        return "no objects"
    return f"{len(skeletons)} objects of median inscribed radius {float(np.median(skeletons.inscribed)):.1f}"


def _about_step(prepared: Prepared) -> list[str]:
    model, settings = prepared.model, prepared.config.train_settings
    dataset = training_crops(prepared)
    loader = train_loader(dataset, settings.batch_size, settings.seed, prepared.workers)
    check_training(prepared, len(loader))
    with closing(loader):
        batch = next(loader.batches()).to(prepared.device)
    model.train()
    with torch.no_grad():
        total, parts = model.loss(model(batch.images), model.targets(batch), batch, 1)
    touching = sum(touching_skeletons(labels, offset) for labels, offset in zip(batch.labels, batch.offset))
    parameters = sum(p.numel() for p in model.parameters())
    losses = ", ".join(f"{name} {float(value):.3f}" for name, value in parts.items())
    return [
        f"model: {parameters:,} parameters, stride {_by(model.stride)}, receptive field "
        f"{_by(model.receptive_field)} voxels on either side, on {prepared.device}.",
        f"one epoch: {len(dataset)} samples of {_by(prepared.crop)} voxels, {len(loader)} steps.",
        f"one batch: {int((batch.labels > 0).float().mean() * 100)} % foreground, {touching} pairs of "
        f"touching skeletons; loss {float(total):.3f} ({losses}).",
        *([about_workers(prepared, loader)[0]] if prepared.workers else []),
    ]


def _by(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))
