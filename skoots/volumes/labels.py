"""Labels: integer instance ids out of a volume."""

from __future__ import annotations

import numpy as np

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes.base import Volume

_INT32_MAX = np.iinfo(np.int32).max
_INT64_MAX = np.iinfo(np.int64).max


def read_labels(volume: Volume, box: Box | None = None, *, ignore_label: int | None = None) -> np.ndarray:
    """Read instance ids, 0 = background.

    Args:
        volume: any integer type, one channel or none.
        box: the part to read; None reads all.
        ignore_label: an id that marks unknown voxels; it alone may be negative.

    Returns:
        (*S) int32, or int64 where an id is too large for it.

    Raises:
        VolumeError: float labels, several channels, negative ids, or ids above the largest int64.
    """
    check_labels(volume)
    labels = volume.read(Box.of_shape(volume.shape) if box is None else box)
    if volume.channels is not None:
        labels = labels[0]
    if labels.size == 0:
        return labels.astype(np.int32)
    lowest, highest = int(labels.min()), int(labels.max())
    if highest > _INT64_MAX:
        raise VolumeError(
            f"{volume.path}: the label {highest} is larger than {_INT64_MAX}; renumber the labels, "
            "for example with skimage.segmentation.relabel_sequential."
        )
    if lowest < 0:
        _check_negative(volume.path, labels, ignore_label)
    fits = highest <= _INT32_MAX and lowest >= -_INT32_MAX
    return labels.astype(np.int32 if fits else np.int64, copy=False)


def read_objects(volume: Volume, box: Box, ignore_label: int | None = None) -> np.ndarray:
    """Read instance ids, unknown voxels as background; see ``read_labels``."""
    ids = read_labels(volume, box, ignore_label=ignore_label)
    if ignore_label is not None:
        ids[ids == ignore_label] = 0
    return ids


def check_labels(volume: Volume) -> None:
    """Refuse a volume that cannot hold labels, without reading it.

    Raises:
        VolumeError: float type or several channels.
    """
    if volume.dtype.kind == "f":
        raise VolumeError(
            f"{volume.path} is {volume.dtype}, but labels must be integer ids (0 = background, one number "
            "per object). "
            "If its values are ids, convert it: labels.round().astype('int32') in NumPy, or Image > Type in "
            "Fiji."
        )
    if volume.channels is not None and volume.channels != 1:
        raise VolumeError(
            f"{volume.path} has {volume.channels} channels, but labels have none. Save one channel; if these "
            "are sections "
            "of a stack, save it with the axes zyx."
        )


def _check_negative(path: str, labels: np.ndarray, ignore_label: int | None) -> None:
    negative = np.unique(labels[labels < 0])
    wrong = negative[negative != ignore_label] if ignore_label is not None else negative
    if wrong.size:
        raise VolumeError(
            f"{path} has the negative label {int(wrong[0])}; labels are 0 for background and positive for "
            "objects. "
            f"If it marks unknown voxels, set ignore_label: {int(wrong[0])}."
        )
