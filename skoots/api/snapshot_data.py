"""Labelled volumes for a trained model: those of its run, or others in their place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skoots.api.build import DataFacts, Volumes, open_volumes
from skoots.config import Config
from skoots.errors import ConfigError, Fault, VolumeError


def with_data(own: Config, asked: Config | None, data: Path | str | None) -> Config:
    """The config of a model with other data; intensities stay as the model knows them.

    Args:
        own: of the model.
        asked: whose data and inference to take; None keeps the own ones.
        data: a folder of labelled volumes, to validate on instead.
    """
    if asked is not None:
        section = asked.data.model_copy(
            update={
                "normalize": own.data.normalize,
                "normalize_by": own.data.normalize_by,
                "crop_size": own.data.crop_size,
            }
        )
        own = own.model_copy(update={"data": section, "inference": asked.inference})
    if data is not None:
        source = {"type": "Folder", "path": str(data)}
        own = own.model_copy(
            update={"data": own.data.model_copy(update={"validation": [source], "test": []})}
        )
    return own


def open_fitting(config: Config, facts: DataFacts, path: Path, sections: Sequence[str]) -> Volumes:
    """The volumes of the first section of the data that names some.

    Args:
        config: whose data.
        facts: of the model, which they must fit.
        path: of its snapshot, for messages.
        sections: names, e.g. ``validation`` and ``test``.

    Raises:
        ConfigError: none of the sections names data.
        VolumeError: a volume has other dimensions or channels than the model is for.
    """
    volumes = next((opened for name in sections if (opened := open_volumes(config, name))), [])
    if not volumes:
        others = "".join(f", nor does data.{name}" for name in sections[1:])
        raise ConfigError(
            [Fault(f"data.{sections[0]}", f"names no data{others}", "Give a folder: --data DIR")]
        )
    for volume, _ in volumes:
        found = DataFacts.of(volume)
        if (found.in_channels, found.spatial_dims) != (facts.in_channels, facts.spatial_dims):
            raise VolumeError(
                f"{volume.image.path} is {found.spatial_dims}D with {found.in_channels} channels; the model "
                f"in {path} is for {facts.spatial_dims}D with {facts.in_channels}."
            )
    return volumes
