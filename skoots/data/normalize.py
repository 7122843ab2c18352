"""Intensity normalisation: one pair of numbers a volume, the same in training and inference."""

from __future__ import annotations

from collections.abc import Sequence
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
NEED_A_SPREAD = ("zscore", *PERCENTS)


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


def measure_intensity(volume: Volume, kind: NormalizationKind, own: bool = True) -> Intensity:
    """Shift and scale of a volume, read block by block.

    Args:
        volume: the image.
        kind: ``zscore`` (mean 0, deviation 1), ``percentile`` (1st to 99.8th percentile become 0 and 1),
            ``asinh`` (the median becomes 0 and the distance from the 16th percentile to it 1, then the
            inverse hyperbolic sine: objects a hundred times brighter than others do not hide these; as for
            astronomical images, Lupton et al. 1999), ``dtype`` (the range of the integer type becomes 0 to 1)
            or ``none``. Percentiles of integers are exact; those of floats are taken from at most four
            million voxels, evenly spaced.
        own: whether the volume is to be normalised by what is measured, so that it must have a spread;
            otherwise a scale may be 0.

    Raises:
        VolumeError: NaN or infinite voxels, or no spread to normalise by.
    """
    return measure_together([volume], kind, own)


def measure_together(volumes: Sequence[Volume], kind: NormalizationKind, own: bool = True) -> Intensity:
    """As ``measure_intensity``, of all voxels of several volumes with the same channels."""
    channels = volumes[0].channels or 1
    percents = PERCENTS.get(kind, ())
    sampled = bool(percents) and any(volume.dtype.kind == "f" for volume in volumes)
    (mean, deviation, low, high), samples = _scan(volumes, channels, keep=sampled)
    if percents:
        bounds = (
            np.percentile(samples, percents, axis=1) if sampled else integer_percentiles(volumes, percents)
        )
        shift, scale = bounds[1 if kind == "asinh" else 0], bounds[1] - bounds[0]
    elif kind == "zscore":
        shift, scale = mean, deviation
    elif kind == "dtype" and volumes[0].dtype.kind in "iu":
        limits = np.iinfo(volumes[0].dtype)
        shift, scale = np.full(channels, limits.min), np.full(channels, float(limits.max) - limits.min)
    else:
        shift, scale = np.zeros(channels), np.ones(channels)
    if kind in NEED_A_SPREAD:
        scale = np.where(high > low, scale, 0)
        scale = _spread(volumes, kind, scale, low, high) if own else scale
    return Intensity(shift.astype(np.float32), scale.astype(np.float32), compress=kind == "asinh")


def _spread(
    volumes: Sequence[Volume], kind: str, scale: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Scales to divide by: 1 for a channel of one value, if others have more to show."""
    paths = " and ".join(volume.path for volume in volumes)
    if (high == low).all():
        raise VolumeError(
            f"{paths}: every voxel is {low[0]:g}, so there is nothing to see; "
            "is it the right file, fully written?"
        )
    if kind in PERCENTS and ((scale <= 0) & (high > low)).any():
        first, second = PERCENTS[kind]
        raise VolumeError(
            f"{paths}: normalize: {kind} divides by the distance of the percentiles {first:g} and "
            f"{second:g}, which are one value here. Write normalize: zscore."
        )
    return np.where(scale > 0, scale, 1)


def bright_tail(volume: Volume) -> float:
    """How much farther the brightest voxels lie from the median than the darkest.

    (99.8th percentile - median) by (median - 0.2nd percentile), the largest of all channels: near 1 where
    grey values are symmetric, infinite where the 16th percentile is the median, so that ``asinh`` would have
    nothing to divide by.
    """
    _, samples = _scan([volume], volume.channels or 1, keep=True)
    low, below, middle, high = np.percentile(samples, [0.2, *PERCENTS["asinh"], 99.8], axis=1)
    return float(
        np.where(middle > below, (high - middle) / np.where(middle > low, middle - low, 1), np.inf).max()
    )


def _scan(volumes: Sequence[Volume], channels: int, keep: bool) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Mean, standard deviation, minimum and maximum per channel, and evenly spaced samples if asked for."""
    every = max(1, -(-sum(Box.of_shape(v.shape).size for v in volumes) // SAMPLE_VOXELS))
    count, mean, spread = 0, np.zeros(channels), np.zeros(channels)
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    samples = []
    for volume, block in ((v, block) for v in volumes for block in channel_blocks(v)):
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
