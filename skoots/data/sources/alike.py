"""Volumes that one network can serve: of the same dimensions, channels and proportions of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from skoots.data.labelled_volume import LabelledVolume
from skoots.errors import VolumeError
from skoots.geometry import relative_spacing
from skoots.volumes import Volume


class Described(Protocol):
    """What is known of a volume before it is read."""

    @property
    def image(self) -> Volume:
        """The image."""

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """D edge lengths of a voxel."""


def check_alike(first: Described, other: Described) -> None:
    """One network sees all volumes, so they must agree in what it is built for.

    Raises:
        VolumeError: dimensions, channels or proportions of voxels differ.
    """
    a, b = first.image, other.image
    if a.spatial_dims != b.spatial_dims:
        raise VolumeError(
            f"{b.path} is {b.spatial_dims}D and {a.path} {a.spatial_dims}D; train on one kind at a time."
        )
    if (a.channels or 1) != (b.channels or 1):
        raise VolumeError(
            f"{b.path} has {b.channels or 1} channels and {a.path} {a.channels or 1}; they must be equal."
        )
    if not _proportions_alike(first.voxel_size, other.voxel_size):
        raise VolumeError(
            f"{b.path} has voxels of {other.voxel_size} and {a.path} of {first.voxel_size}: other "
            f"proportions, which one "
            "network cannot serve. Resample one, or state data.voxel_size if a file is wrong."
        )


def _proportions_alike(one: Sequence[float], other: Sequence[float]) -> bool:
    ratios = [p / q for p, q in zip(relative_spacing(one), relative_spacing(other))]
    return all(0.8 < ratio < 1.25 for ratio in ratios)


def as_network_sees(volume: LabelledVolume, voxel_size: Sequence[float]) -> LabelledVolume:
    """A volume with the voxels that a network is built for, if its own are nearly of these proportions; so
    that its targets do not depend on what else is in a batch."""
    if not _proportions_alike(voxel_size, volume.voxel_size):
        return volume
    return replace(volume, voxel_size=tuple(voxel_size))
