"""``skoots preview``: what the network will see, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from skoots.api.prepare import Prepared, prepare, training_crops
from skoots.config import load_config
from skoots.data.dataset import CoveringDataset
from skoots.data.loaders import EpochSampler
from skoots.errors import ConfigError, Fault, SkootsError
from skoots.models.segmentation_model import SegmentationModel
from skoots.reports.contact_sheet import ShownSample, write_contact_sheet
from skoots.samples import Batch, Sample

From = Literal["train", "validation"]


@dataclass(frozen=True)
class Preview:
    """A contact sheet.

    Args:
        picture: the file.
        origins: where each of its samples comes from.
        columns: what is shown of each.
    """

    picture: Path
    origins: list[str]
    columns: list[str]


def preview(
    config: Path | str | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    output: Path | str = "preview.png",
    samples: int = 6,
    source: From = "train",
    epoch: int = 1,
) -> Preview:
    """Write a contact sheet of samples, augmented, with the targets that the heads make of them.

    Those of ``train`` are the first ones that a training with this config draws in the epoch. Nothing is
    trained, and no run folder is made.

    Args:
        config: as for ``train``.
        overrides: as for ``train``, e.g. ``train_settings.seed=1`` for other crops.
        plugins: as for ``train``.
        output: PNG file; one that exists is replaced.
        samples: at most so many.
        source: ``train``, or ``validation`` for its windows, spread over all.
        epoch: counted from 1, of the training crops.

    Raises:
        SkootsError: the config has faults, the data cannot be read, or the picture not be written.
    """
    output = Path(output)
    if output.suffix.lower() != ".png":
        raise SkootsError(f"{output} is no name for a PNG file. Give one that ends in .png.")
    if samples < 1 or epoch < 1:
        raise SkootsError("Samples and epochs are counted from 1; give 1 or more.")
    prepared = prepare(load_config(config, overrides, plugins), "cpu", with_weights=False)
    drawn = _training(prepared, samples, epoch) if source == "train" else _validation(prepared, samples)
    shown = [_with_targets(prepared.model, sample) for sample in drawn]
    columns = write_contact_sheet(output, shown)
    return Preview(output, [sample.origin for sample in drawn], columns)


def _training(prepared: Prepared, samples: int, epoch: int) -> list[Sample]:
    """The first crops of an epoch, in the order of the training."""
    dataset = training_crops(prepared)
    sampler = EpochSampler(len(dataset), prepared.config.train_settings.seed)
    sampler.set_epoch(epoch)
    return [dataset.sample(key) for key in list(sampler)[:samples]]


def _validation(prepared: Prepared, samples: int) -> list[Sample]:
    """Windows at equal distances among all."""
    if not prepared.validation:
        problem, remedy = "names no validation data to look at", "Add some, or look at --source train"
        raise ConfigError([Fault("data.validation", problem, remedy)])
    volumes = [volume for volume, _ in prepared.validation]
    dataset = CoveringDataset(volumes, prepared.validation_crop)
    shown = min(samples, len(dataset))
    return [dataset[i * len(dataset) // shown] for i in range(shown)]


def _with_targets(model: SegmentationModel, sample: Sample) -> ShownSample:
    with torch.no_grad():
        heads = model.targets(Batch.collate([sample]))
    targets = {name: target[0].float().numpy() for head in heads.values() for name, target in head.items()}
    return ShownSample(sample.image, sample.labels, sample.valid, targets, sample.voxel_size, sample.origin)
