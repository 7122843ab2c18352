"""One volume to learn from: image, labels, skeletons, and how a window of it is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import fastremap
import numpy as np

from skoots.compiled import compiled
from skoots.data.augment import SpatialMap, Window
from skoots.data.augment.resample import Arrays, move_skeletons, resample
from skoots.data.exact_shift import is_counts
from skoots.data.normalize import Intensity, read_scaled
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
        resident: a name of its own, if it is to stay on the device that trains.
    """

    name: str
    image: Volume
    labels: Volume
    skeletons: Skeletons
    intensity: Intensity
    voxel_size: tuple[float, ...]
    ignore_label: int | None = None
    resident: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image.shape

    def window(self, box: Box, spatial_map: SpatialMap | None = None) -> Window:
        """Read a box, as a map shows it; no more of the volume is read than that needs.

        Where it sticks out of the volume the image repeats its rim and nothing is valid.

        Args:
            box: of the volume.
            spatial_map: from the box to what it shows, both counted from the start of the box. None means
                the box itself.

        Raises:
            VolumeError: the box lies outside the volume.
        """
        spatial_map = spatial_map or SpatialMap.identity(box.ndim)
        image, ids, valid = self._resampled(box, spatial_map)
        labels, present = compact(ids)
        skeletons = self.moved_skeletons(present, spatial_map, box)
        skeletons = replace(skeletons, ids=np.searchsorted(present, skeletons.ids) + 1)
        scaled = image if self.scaled_when_read else self.intensity.counts_scaled(image)
        return Window(self.intensity.compressed(scaled), labels, valid, skeletons, self.voxel_size)

    @property
    def scaled_when_read(self) -> bool:
        """Whether ``read`` takes the shift away and divides by the scale: voxels that 32-bit floats might not
        tell apart are not interpolated before."""
        return not is_counts(self.image.dtype)

    def _resampled(self, box: Box, spatial_map: SpatialMap) -> Arrays:
        reach = self.reach(box, spatial_map)
        part, start = self.read(reach), reach.relative_to(box).start
        return resample((part.image, part.labels, part.valid), spatial_map, box.shape, start)

    def reach(self, box: Box, spatial_map: SpatialMap) -> Box:
        """The part of the volume that a box needs under a map; at least the rim, which is repeated.

        Raises:
            VolumeError: the box lies outside the volume.
        """
        if box.intersect(Box.of_shape(self.shape)).is_empty:
            raise VolumeError(f"{self.name}: {box} lies outside the volume of shape {self.shape}.")
        wanted = spatial_map.reach(box.shape).shift(box.start)
        start = [min(max(a, 0), n - 1) for a, n in zip(wanted.start, self.shape)]
        stop = [min(max(b, a + 1), n) for a, b, n in zip(start, wanted.stop, self.shape)]
        return Box(tuple(start), tuple(stop))

    def moved_skeletons(self, ids: np.ndarray, spatial_map: SpatialMap, box: Box) -> Skeletons:
        """Whole skeletons of the given objects (ascending), where a window shows them: the nearest point of
        an object may lie outside."""
        return move_skeletons(self.skeletons.select(ids), spatial_map, box.start)

    def read(self, box: Box) -> Part:
        """A part, grey values as they are stored or scaled, unknown voxels made background; the box must lie
        inside.

        Raises:
            VolumeError: a voxel is NaN or infinite, or is when it is scaled.
        """
        if self.scaled_when_read:
            image = read_scaled(self.image, box, self.intensity)
        else:
            image = self.image.read(box).reshape(-1, *box.shape)
        ids = read_labels(self.labels, box, ignore_label=self.ignore_label)
        if self.ignore_label is None:
            return Part(image, ids, np.ones(box.shape, bool))
        valid = ids != self.ignore_label
        ids[~valid] = 0
        return Part(image, ids, valid)


@dataclass(frozen=True)
class Part:
    """What lies in a box of a volume.

    Args:
        image: (C, *S) integers of at most 16 bits as stored, or float32, scaled; see ``scaled_when_read``.
        labels: (*S) ids of the volume, 0 = background or unknown.
        valid: (*S) bool, whether the truth is known.
    """

    image: np.ndarray
    labels: np.ndarray
    valid: np.ndarray


def compact(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels 1..n (int32) in ascending order of the ids present, and these ids."""
    present = fastremap.unique(ids)
    present = present[present > 0].astype(np.int64)
    labels = np.empty(ids.shape, np.int32)
    _renumber(ids.ravel(), present, labels.ravel())
    return labels, present


@compiled()
def _renumber(ids, present, labels):  # type: ignore[no-untyped-def]
    last, number = 0, 0
    for i in range(len(ids)):
        if ids[i] != last:
            last = ids[i]
            number = 0 if last <= 0 else np.searchsorted(present, last) + 1
        labels[i] = number


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
