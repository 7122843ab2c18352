"""Which normalisation an image gets: its own, the one it had in training, or that of all training volumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skoots.api.build import LoadedModel, Volumes
from skoots.config import Config
from skoots.data.intensity_record import IntensityRecord
from skoots.data.normalize import Intensity, measure_intensity
from skoots.errors import ConfigError, Fault
from skoots.volumes import Volume


def record_of(config: Config, training: Volumes) -> IntensityRecord:
    """The statistics of the training volumes, as they were measured when these were opened."""
    measured = [(v.mark, v.intensity, int(np.prod(v.shape))) for v, _ in training]
    return IntensityRecord.of(config.data.normalize, measured)


def normalised(config: Config, record: IntensityRecord | None, volumes: Volumes) -> Volumes:
    """Volumes as ``data.normalize_by`` says: with their own statistics, or those of the training.

    Raises:
        ConfigError: those of the training are asked for and not known.
    """
    if config.data.normalize_by == "volume":
        return volumes
    return [(replace(v, intensity=_of_training(record)), count) for v, count in volumes]


def intensity_for(loaded: LoadedModel, image: Volume, measured: Intensity | None = None) -> Intensity:
    """The normalisation of an image that is to be segmented.

    Args:
        loaded: the model, with the statistics of its training.
        image: the image.
        measured: its own statistics, if they are known.

    Raises:
        ConfigError: those of the training are asked for and not known.
        VolumeError: the image has no statistics.
    """
    if loaded.config.data.normalize_by == "training":
        return _of_training(loaded.intensity)
    known = None if loaded.intensity is None else loaded.intensity.known(image)
    return known or measured or measure_intensity(image, loaded.config.data.normalize)


def _of_training(record: IntensityRecord | None) -> Intensity:
    if record is None:
        problem = 'is "training", and these weights came without the statistics of a training'
        raise ConfigError([Fault("data.normalize_by", problem, "Write normalize_by: volume")])
    return record.pooled
