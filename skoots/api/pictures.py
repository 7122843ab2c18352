"""Which windows a training pictures, and for whom."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from skoots.api.build import decoder_of
from skoots.api.prepare import Prepared
from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.loggers.base import Logger
from skoots.reports.training_pictures import training_pictures, write_training_sheet
from skoots.training.observers import Observer
from skoots.training.pictures import PictureObserver, first_with_objects

NEVER_TRAINED = 0  # epochs are counted from 1: no training draws the crops of this one


def picture_observers(
    prepared: Prepared, dataset: CropDataset, loggers: Sequence[Logger], folder: Path
) -> list[Observer]:
    """The one that draws pictures of a crop and of a validation window; none if nobody wants any.

    Args:
        prepared: the training.
        dataset: its crops.
        loggers: that are given pictures.
        folder: the run folder.
    """
    every = prepared.config.runner.image_log_interval
    if every is None and all(logger.image_log_interval is None for logger in loggers):
        return []
    keys = [(NEVER_TRAINED, index) for index in range(len(dataset))]
    sources = {"train": partial(first_with_objects, dataset.sample, keys)}
    if prepared.validation:
        windows = CoveringDataset([volume for volume, _ in prepared.validation], prepared.validation_crop)
        sources["validation"] = partial(first_with_objects, windows.__getitem__, range(len(windows)))
    decoder, figures = decoder_of(prepared.config), folder / "figures"
    return [
        PictureObserver(sources, decoder, training_pictures, write_training_sheet, loggers, figures, every)
    ]
