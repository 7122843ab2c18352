"""What ``auto`` means: numbers decided from the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from skoots.data.labelled_volume import LabelledVolume
from skoots.errors import VolumeError
from skoots.geometry import Box, relative_spacing, tile_volume
from skoots.skeletons import nearest_offsets
from skoots.volumes import read_labels

CROP_VOXELS = {2: 128 * 128, 3: 24 * 64 * 64}
VALIDATION_CROP_VOXELS = {2: 512 * 512, 3: 48 * 160 * 160}
SCALE_QUANTILE = 99.5
SCALE_MARGIN = 1.15
SCALE_BLOCKS = 32


def choose_crop(
    shapes: Sequence[Sequence[int]], voxel_size: Sequence[float], stride: Sequence[int], voxels: int
) -> list[int]:
    """A window as near to a cube in physical length as the volumes allow, of about ``voxels`` voxels.

    Args:
        shapes: of all volumes.
        voxel_size: D edge lengths of a voxel.
        stride: each side is a multiple of it, unless the volume is shorter.
        voxels: how many the window should have.
    """
    most = [max(shape[axis] for shape in shapes) for axis in range(len(stride))]
    spacing = relative_spacing(voxel_size)
    crop = [float(s) for s in stride]
    fixed: set[int] = set()
    # Axes that the volumes limit are fixed at their length; the others share what is left.
    while len(fixed) < len(most):
        free = [a for a in range(len(most)) if a not in fixed]
        left = voxels / math.prod(most[a] for a in fixed)
        edge = (left * math.prod(spacing[a] for a in free)) ** (1 / len(free))
        crop = [float(most[a]) if a in fixed else edge / spacing[a] for a in range(len(most))]
        over = {a for a in free if crop[a] >= most[a]}
        if not over:
            break
        fixed |= over
    rounded = [max(s, round(length / s) * s) for length, s in zip(crop, stride)]
    return [most[a] if a in fixed else min(most[a], length) for a, length in enumerate(rounded)]


def choose_vector_scale(volumes: Sequence[LabelledVolume], seed: int = 0) -> list[float]:
    """What a vector of length 1 spans: a little more than nearly all voxels need, at least two voxels.

    The few voxels beyond are clipped, which following vectors in several steps makes good.

    Args:
        volumes: to learn from; of large ones, blocks drawn by ``seed``.
        seed: of the draw.

    Returns:
        D voxels.
    """
    rng = np.random.default_rng(seed)
    blocks = [
        (volume, tile.write) for volume in volumes for tile in tile_volume(volume.shape, _block(volume))
    ]
    if len(blocks) > SCALE_BLOCKS:
        blocks = [blocks[i] for i in rng.choice(len(blocks), SCALE_BLOCKS, replace=False)]
    lengths = [np.abs(_offsets(volume, box)) for volume, box in blocks]
    together = np.concatenate(lengths, axis=1)
    if together.size == 0:
        together = np.concatenate([np.abs(_offsets(v, Box.of_shape(v.shape))) for v in volumes], axis=1)
    if together.size == 0:
        raise VolumeError("No training volume holds an object; the network has nothing to learn from.")
    bounds = np.percentile(together, SCALE_QUANTILE, axis=1) * SCALE_MARGIN
    return [round(max(2.0, float(b)), 2) for b in bounds]


def _block(volume: LabelledVolume) -> tuple[int, ...]:
    return (64, 128, 128)[-len(volume.shape) :]


def _offsets(volume: LabelledVolume, box: Box) -> np.ndarray:
    """(D, n) offsets of the foreground of a box."""
    labels = read_labels(volume.labels, box, ignore_label=volume.ignore_label)
    if volume.ignore_label is not None:
        labels = np.where(labels == volume.ignore_label, 0, labels)
    present = volume.skeletons.select(np.unique(labels))
    return nearest_offsets(labels, present, volume.voxel_size, box.start)[:, labels > 0]
