"""Intensity normalisation: one pair of numbers a volume, the same in training and inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from skoots.data.percentiles import channel_blocks, integer_percentiles
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import Volume

NormalizationKind = Literal["zscore", "percentile", "asinh", "dtype", "none"]
SAMPLE_VOXELS = 4_000_000
PERCENTS = {"percentile": (1, 99.8), "asinh": (16, 50)}


@dataclass(frozen=True)
class Intensity:
    """``(image - shift) / scale``, and its inverse hyperbolic sine if bright voxels are to be compressed.

    Args:
        shift: (C,) subtracted, one number a channel.
        scale: (C,) divided by.
        compress: whether large values are compressed.
    """

    shift: np.ndarray
    scale: np.ndarray
    compress: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(C, *S) of any type to float32."""
        shape = (-1, *(1,) * (image.ndim - 1))
        scaled = (image.astype(np.float32) - self.shift.reshape(shape)) / self.scale.reshape(shape)
        return np.arcsinh(scaled) if self.compress else scaled


def measure_intensity(volume: Volume, kind: NormalizationKind) -> Intensity:
    """Shift and scale of a volume, read block by block.

    Args:
        volume: the image.
        kind: ``zscore`` (mean 0, deviation 1), ``percentile`` (1st to 99.8th percentile become 0 and 1),
            ``asinh`` (the median becomes 0 and the distance from the 16th percentile to it 1, then the
            inverse hyperbolic sine: objects a hundred times brighter than others do not hide these; as for
            astronomical images, Lupton et al. 1999), ``dtype`` (the range of the integer type becomes 0 to 1)
            or ``none``. Percentiles of integers are exact; those of floats are taken from at most four
            million voxels, evenly spaced.

    Raises:
        VolumeError: NaN or infinite voxels, or the same value everywhere.
    """
    channels = volume.channels or 1
    percents = PERCENTS.get(kind, ())
    sampled = bool(percents) and volume.dtype.kind == "f"
    (mean, deviation, low, high), samples = _scan(volume, channels, keep=sampled)
    if (high == low).all():
        raise VolumeError(
            f"{volume.path}: every voxel is {low[0]:g}, so there is nothing to see; "
            "is it the right file, fully written?"
        )
    if kind == "zscore":
        return _intensity(mean, deviation)
    if percents:
        bounds = (
            np.percentile(samples, percents, axis=1) if sampled else integer_percentiles(volume, percents)
        )
        if kind == "percentile":
            return _intensity(bounds[0], bounds[1] - bounds[0])
        return _intensity(bounds[1], bounds[1] - bounds[0], compress=True)
    if kind == "dtype" and volume.dtype.kind in "iu":
        limits = np.iinfo(volume.dtype)
        return _intensity(np.full(channels, limits.min), np.full(channels, float(limits.max) - limits.min))
    return _intensity(np.zeros(channels), np.ones(channels))


def bright_tail(volume: Volume) -> float:
    """How much farther the brightest voxels lie from the median than the darkest.

    (99.8th percentile - median) by (median - 0.2nd percentile), the largest of all channels: near 1 where
    grey values are symmetric, infinite where at least half of the volume is its darkest value.
    """
    _, samples = _scan(volume, volume.channels or 1, keep=True)
    low, middle, high = np.percentile(samples, [0.2, 50, 99.8], axis=1)
    return float(
        np.where(middle > low, (high - middle) / np.where(middle > low, middle - low, 1), np.inf).max()
    )


def _intensity(shift: np.ndarray, scale: np.ndarray, compress: bool = False) -> Intensity:
    return Intensity(shift.astype(np.float32), np.where(scale > 0, scale, 1).astype(np.float32), compress)


def _scan(volume: Volume, channels: int, keep: bool) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Mean, standard deviation, minimum and maximum per channel, and evenly spaced samples if asked for."""
    every = max(1, -(-Box.of_shape(volume.shape).size // SAMPLE_VOXELS))
    count, mean, spread = 0, np.zeros(channels), np.zeros(channels)
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    samples = []
    for block in channel_blocks(volume):
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            where = "NaN" if np.isnan(block).any() else "infinite"
            raise VolumeError(
                f"{volume.path} holds {where} voxels; replace them, for instance by 0, and try again."
            )
        low, high = np.minimum(low, block.min(1)), np.maximum(high, block.max(1))
        # Blocks are merged by Chan's formula: exact for any number of voxels.
        new, block_mean = block.shape[1], block.mean(1, dtype=np.float64)
        spread += block.var(1, dtype=np.float64) * new + (block_mean - mean) ** 2 * (
            count * new / (count + new)
        )
        mean += (block_mean - mean) * (new / (count + new))
        count += new
        if keep:
            samples.append(block[:, ::every])
    deviation = np.sqrt(spread / max(count, 1))
    kept = np.concatenate(samples, axis=1) if keep else np.zeros((channels, 0))
    return (mean, deviation, low, high), kept
