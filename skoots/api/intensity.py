"""Which normalisation an image gets: by its own statistics, or by those of the training."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from skoots.api.build import LoadedModel, Volumes
from skoots.config import Config
from skoots.data.intensity_record import IntensityRecord
from skoots.data.normalize import Intensity, measure_intensity
from skoots.errors import ConfigError, Fault
from skoots.volumes import Volume

log = logging.getLogger("skoots")


def normalised(config: Config, record: IntensityRecord | None, volumes: Volumes) -> Volumes:
    """Volumes as ``data.normalize_by`` says.

    Args:
        config: its ``data`` section.
        record: statistics of the training, None if they are not known.
        volumes: with their own statistics.

    Raises:
        ConfigError: those of the training are asked for and not known.
    """
    if not by_training(config):
        return volumes
    return [(replace(volume, intensity=_pooled(record)), count) for volume, count in volumes]


def check_types(config: Config, images: Iterable[Volume]) -> None:
    """Grey values that share statistics are of one type.

    Raises:
        ConfigError: they are of several, and those of the training are applied to all.
    """
    types = {image.dtype.name: image.path for image in images}
    if by_training(config) and len(types) > 1:
        named = " and ".join(f"{path} is {name}" for name, path in types.items())
        problem = f'is "training", but voxels are of different types: {named}'
        remedy = "Write normalize_by: volume, or save all volumes as one type"
        raise ConfigError([Fault("data.normalize_by", problem, remedy)])


def intensity_for(loaded: LoadedModel, image: Volume, measured: Intensity | None = None) -> Intensity:
    """The normalisation of an image that is to be segmented.

    Args:
        loaded: the model, with the statistics of its training.
        image: the image.
        measured: its own statistics, if they are known already.

    Raises:
        ConfigError: those of the training are asked for and not known.
        VolumeError: the image has no statistics.
    """
    if not by_training(loaded.config):
        return measured or measure_intensity(image, loaded.config.data.normalize)
    pooled = _pooled(loaded.intensity)
    if loaded.intensity is not None and image.dtype.name not in loaded.intensity.dtypes:
        log.warning(
            "%s is %s and the training was on %s, whose statistics are applied; results may suffer.",
            image.path,
            image.dtype.name,
            " and ".join(loaded.intensity.dtypes),
        )
    return pooled


def by_training(config: Config) -> bool:
    """Whether statistics of the training are applied; ``dtype`` and ``none`` have none."""
    return config.data.normalize_by == "training" and config.data.normalize not in ("dtype", "none")


def _pooled(record: IntensityRecord | None) -> Intensity:
    if record is None:
        problem = 'is "training", and these weights came without the statistics of a training'
        raise ConfigError([Fault("data.normalize_by", problem, "Write normalize_by: volume")])
    return record.pooled
