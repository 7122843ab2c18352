"""Images that show no objects, to learn from what is none."""

from __future__ import annotations

from collections.abc import Sequence

from skoots.data.augment import AUGMENTATIONS, Augmentation
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.normalize import Intensity
from skoots.skeletons import Skeletons
from skoots.volumes import Volume
from skoots.volumes.background import BackgroundLabels


def background_volume(
    name: str, image: Volume, intensity: Intensity, voxel_size: Sequence[float]
) -> LabelledVolume:
    """An image all of whose voxels are known to be background.

    Args:
        name: for messages.
        image: the image.
        intensity: its normalisation.
        voxel_size: D edge lengths of a voxel.
    """
    nothing = Skeletons.pack({}, image.spatial_dims)
    return LabelledVolume(name, image, BackgroundLabels(image), nothing, intensity, tuple(voxel_size))


def background_augmentations() -> list[Augmentation]:
    """What ``background_augment: default`` means: flips and grey values; there are no shapes to vary."""
    return [AUGMENTATIONS.build(name) for name in ("Flip", "BrightnessContrast", "Noise")]
