"""One volume to learn from: image, labels, skeletons, and how a window of it is read."""

from __future__ import annotations

from dataclasses import dataclass

import fastremap
import numpy as np

from skoots.data.augment import Window
from skoots.data.normalize import Intensity
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.samples import Sample
from skoots.skeletons import Skeletons, nearest_offsets
from skoots.volumes import Volume, read_labels


@dataclass(frozen=True)
class LabelledVolume:
    """An image with its labels.

    Args:
        name: for messages.
        image: the image volume.
        labels: the label volume, of the same spatial shape.
        skeletons: of all its objects, in voxels of the volume.
        intensity: normalisation of the image.
        voxel_size: D edge lengths of a voxel.
        ignore_label: this id means "not known"; None if every voxel is labelled.
    """

    name: str
    image: Volume
    labels: Volume
    skeletons: Skeletons
    intensity: Intensity
    voxel_size: tuple[float, ...]
    ignore_label: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.shape

    def window(self, box: Box) -> Window:
        """Read a box; where it sticks out of the volume the image repeats its rim and nothing is valid."""
        inside = box.intersect(Box.of_shape(self.shape))
        if inside.is_empty:
            raise VolumeError(f"{self.name}: {box} lies outside the volume of shape {self.shape}.")
        image = self.intensity.apply(self.image.read(inside).reshape(-1, *inside.shape))
        ids = read_labels(self.labels, inside, ignore_label=self.ignore_label)
        valid = np.ones(inside.shape, bool) if self.ignore_label is None else ids != self.ignore_label
        labels, present = _compact(np.where(valid, ids, 0))
        near = self.skeletons.select(present)
        skeletons = Skeletons(
            np.searchsorted(present, near.ids) + 1,
            near.starts,
            near.points - np.array(box.start, np.float32),
            near.inscribed,
        )
        around = [(i - b, e - j) for i, b, e, j in zip(inside.start, box.start, box.stop, inside.stop)]
        if any(a or b for a, b in around):
            image = np.pad(image, [(0, 0), *around], mode="edge")
            labels, valid = np.pad(labels, around), np.pad(valid, around)
        return Window(image, labels, valid, skeletons, self.voxel_size)


def _compact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels 1..n in ascending order of the ids present, and these ids."""
    present = fastremap.unique(ids)
    present = present[present > 0].astype(np.int64)
    labels = np.searchsorted(present, ids.ravel()).reshape(ids.shape).astype(np.int32) + 1
    labels[ids <= 0] = 0
    return labels, present


def make_sample(window: Window, origin: str = "") -> Sample:
    """A window with its offsets, as the model's targets need them; made after augmentation."""
    radius = np.zeros(int(window.labels.max(initial=0)) + 1, np.float32)
    known = window.skeletons.ids < len(radius)
    radius[window.skeletons.ids[known]] = window.skeletons.inscribed[known]
    return Sample(
        image=np.ascontiguousarray(window.image, dtype=np.float32),
        labels=np.ascontiguousarray(window.labels),
        offset=nearest_offsets(window.labels, window.skeletons, window.voxel_size),
        inscribed=radius[window.labels],
        valid=np.ascontiguousarray(window.valid),
        voxel_size=window.voxel_size,
        origin=origin,
    )
