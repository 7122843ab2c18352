"""Intensity normalisation: one pair of numbers a volume, the same in training and inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from skoots.data.exact_shift import Voxel, is_counts, minus, minus_first, split
from skoots.data.percentiles import channel_blocks, integer_percentiles, sample_percentiles
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import Volume

NormalizationKind = Literal["zscore", "percentile", "asinh", "dtype", "none"]
SAMPLE_VOXELS = 4_000_000
PERCENTS = {"percentile": (1, 99.8), "asinh": (16, 50)}
NEED_A_SPREAD = ("zscore", *PERCENTS)
AT_ONCE = 2**18  # voxels in float64 at a time
MOST = Fraction(float(np.finfo(np.float32).max))


@dataclass(frozen=True)
class Intensity:
    """``(image - shift) / scale``, and its inverse hyperbolic sine if bright voxels are to be compressed.

    Args:
        shift: (C,) subtracted, one number a channel.
        scale: (C,) divided by.
        compress: whether large values are compressed.
        rest: (C,) what float64 could not hold of the shift; None is 0.
    """

    shift: np.ndarray
    scale: np.ndarray
    compress: bool = False
    rest: np.ndarray | None = None

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(C, *S) of any type to float32."""
        return self.compressed(self.scaled(image))

    def scaled(self, image: np.ndarray) -> np.ndarray:
        """(C, *S) of any type to float32, not compressed yet; the shift is taken away before anything is
        rounded."""
        if is_counts(image.dtype):
            return self.counts_scaled(image)
        rest = np.zeros(len(self.shift)) if self.rest is None else self.rest
        scaled = np.empty(image.shape, np.float32)
        for grey, into, shift, low, scale in zip(image, scaled, self.shift, rest, self.scale):
            grey, into = grey.reshape(-1), into.reshape(-1)
            for start in range(
                0, len(grey), AT_ONCE
            ):  # what lies between is float64: no more of it than fits a cache
                part = slice(start, start + AT_ONCE)
                with np.errstate(
                    over="ignore", invalid="ignore"
                ):  # beyond float32: infinite, which is looked for
                    into[part] = minus(grey[part], float(shift), float(low)) / float(scale)
        return scaled

    def counts_scaled(self, image: np.ndarray) -> np.ndarray:
        """The same in 32-bit arithmetic, of what were integers of at most 16 bits before they were
        interpolated."""
        each = (-1, *(1,) * (image.ndim - 1))
        shift, scale = self.shift.astype(np.float32), self.scale.astype(np.float32)
        return (image.astype(np.float32) - shift.reshape(each)) / scale.reshape(each)

    def compressed(self, scaled: np.ndarray) -> np.ndarray:
        """What is left to do with scaled voxels."""
        return np.arcsinh(scaled) if self.compress else scaled

    @property
    def exact_shift(self) -> list[Fraction]:
        """Shift and rest together."""
        rest = np.zeros(len(self.shift)) if self.rest is None else self.rest
        return [Fraction(float(a)) + Fraction(float(b)) for a, b in zip(self.shift, rest)]

    @classmethod
    def of_exact(cls, shift: Sequence[Fraction], scale: np.ndarray, compress: bool = False) -> Intensity:
        """From C exact shifts and (C,) scales."""
        nearest, rest = split(shift)
        return cls(nearest, np.asarray(scale, np.float64), compress, rest if rest.any() else None)


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
        VolumeError: NaN or infinite voxels, no spread to normalise by, or voxels that 32-bit floats cannot
            hold or tell apart.
    """
    return measure_together([volume], kind, own)


def measure_together(volumes: Sequence[Volume], kind: NormalizationKind, own: bool = True) -> Intensity:
    """As ``measure_intensity``, of all voxels of several volumes with the same channels."""
    channels = volumes[0].channels or 1
    percents = PERCENTS.get(kind, ())
    sampled = bool(percents) and any(volume.dtype.kind == "f" for volume in volumes)
    found = _scan(volumes, channels, keep=sampled)
    if percents:
        bounds = (
            sample_percentiles(found.samples, percents) if sampled else integer_percentiles(volumes, percents)
        )
        shift = bounds[1 if kind == "asinh" else 0]
        scale = np.array([float(high - low) for low, high in zip(*bounds)])
    elif kind == "zscore":
        shift, scale = found.mean, found.deviation
    elif kind == "dtype" and volumes[0].dtype.kind in "iu":
        limits = np.iinfo(volumes[0].dtype)
        shift = [Fraction(int(limits.min))] * channels
        scale = np.full(channels, float(int(limits.max) - int(limits.min)))
    else:
        shift, scale = [Fraction(0)] * channels, np.ones(channels)
    if kind in NEED_A_SPREAD:
        scale = np.where(found.differs, scale, 0)
        scale = _spread(volumes, kind, scale, found) if own else scale
    if own or kind not in NEED_A_SPREAD:
        _check_range(volumes, kind, shift, scale, found)
    return Intensity.of_exact(shift, scale, compress=kind == "asinh")


def _spread(volumes: Sequence[Volume], kind: str, scale: np.ndarray, found: _Scan) -> np.ndarray:
    """Scales to divide by: 1 for a channel of one value, if others have more to show."""
    paths = _named(volumes)
    if not found.differs.any():
        raise VolumeError(
            f"{paths}: every voxel is {found.low[0]:g}, so there is nothing to see; "
            "is it the right file, fully written?"
        )
    if ((scale <= 0) & found.differs).any():
        if kind not in PERCENTS:
            raise VolumeError(
                f"{paths}: the voxels differ by too little to be told apart; multiply them by a large number."
            )
        first, second = PERCENTS[kind]
        raise VolumeError(
            f"{paths}: normalize: {kind} divides by the distance of the percentiles {first:g} and "
            f"{second:g}, which are one value here. Write normalize: zscore."
        )
    return np.where(scale > 0, scale, 1)


def _check_range(
    volumes: Sequence[Volume], kind: str, shift: Sequence[Fraction], scale: np.ndarray, found: _Scan
) -> None:
    """Whether 32-bit floats, with which networks compute, hold the normalised voxels and tell them apart.

    Raises:
        VolumeError: they do not.
    """
    if all(is_counts(volume.dtype) for volume in volumes):
        return
    for c, (low, high) in enumerate(zip(found.low, found.high)):
        farthest = max(abs(Fraction(end) - shift[c]) for end in (low, high))
        if farthest / Fraction(float(scale[c])) > MOST:
            raise VolumeError(
                f"{_named(volumes)}: with normalize: {kind}, voxels from {low:g} to {high:g} are beyond the "
                "32-bit floats that networks compute with; replace the outliers, or rescale the image."
            )
        grain = float(np.spacing(np.float32(farthest))) if farthest <= MOST else 0.0
        integers = all(volume.dtype.kind != "f" for volume in volumes)
        is_lost = grain > found.deviation[c] / 100 > 0 and (grain > 1 or not integers)
        if kind not in NEED_A_SPREAD and is_lost and not _are_float32(volumes):
            raise VolumeError(
                f"{_named(volumes)}: normalize: {kind} leaves voxels from {low:g} to {high:g} as they are, "
                "and 32-bit floats, with which networks compute, cannot tell them apart there. Write "
                "normalize: zscore."
            )


def _are_float32(volumes: Sequence[Volume]) -> bool:
    """Whether voxels are stored as floats of at most 32 bits, which lose nothing."""
    return all(volume.dtype.kind == "f" and volume.dtype.itemsize <= 4 for volume in volumes)


def _named(volumes: Sequence[Volume]) -> str:
    return " and ".join(volume.path for volume in volumes)


def bright_tail(volume: Volume) -> float:
    """How much farther the brightest voxels lie from the median than the darkest.

    (99.8th percentile - median) by (median - 0.2nd percentile), the largest of all channels: near 1 where
    grey values are symmetric, infinite where the 16th percentile is the median, so that ``asinh`` would have
    nothing to divide by.
    """
    samples = _scan([volume], volume.channels or 1, keep=True).samples
    ratios = [
        float((high - middle) / (middle - low if middle > low else 1)) if middle > below else math.inf
        for low, below, middle, high in zip(*sample_percentiles(samples, [0.2, *PERCENTS["asinh"], 99.8]))
    ]
    return max(ratios)


@dataclass(frozen=True)
class _Scan:
    """What one pass through volumes tells of each channel.

    Args:
        mean: C exact numbers.
        deviation: (C,) standard deviation.
        low: C smallest values.
        high: C largest values.
        samples: (C, n) evenly spaced voxels, none if they were not asked for.
    """

    mean: list[Fraction]
    deviation: np.ndarray
    low: list[Voxel]
    high: list[Voxel]
    samples: np.ndarray

    @property
    def differs(self) -> np.ndarray:
        """(C,) whether a channel holds more than one value."""
        return np.array([high > low for low, high in zip(self.low, self.high)])


def _scan(volumes: Sequence[Volume], channels: int, keep: bool) -> _Scan:
    every = max(1, -(-sum(Box.of_shape(v.shape).size for v in volumes) // SAMPLE_VOXELS))
    count, total, spread = 0, [Fraction(0)] * channels, np.zeros(channels)
    low: list[Voxel] = [math.inf] * channels
    high: list[Voxel] = [-math.inf] * channels
    samples = []
    for volume, box, block in ((v, *found) for v in volumes for found in channel_blocks(v)):
        check_finite(block, volume, box)
        new = block.shape[1]
        for c, row in enumerate(block):
            least, most = row.min().item(), row.max().item()
            away = minus_first(row, least)
            with np.errstate(over="ignore", invalid="ignore"):
                mean, variance = float(away.mean()), float(away.var())
            if not math.isfinite(variance):
                raise VolumeError(
                    f"{volume.path} holds voxels from {least:g} to {most:g} in {_said(box)}, too far apart "
                    "to compute with; replace the outliers, or rescale the image."
                )
            # Blocks are merged by Chan's formula: exact for any number of voxels.
            own = Fraction(least) + Fraction(mean)
            apart = float(own - total[c] / count) if count else 0.0
            spread[c] += variance * new + apart**2 * (count * new / (count + new))
            total[c] += own * new
            low[c], high[c] = min(low[c], least), max(high[c], most)
        count += new
        if keep:
            samples.append(block[:, ::every])
    return _Scan(
        [each / count for each in total],
        np.sqrt(spread / count),
        low,
        high,
        np.concatenate(samples, axis=1) if keep else np.zeros((channels, 0)),
    )


def check_finite(values: np.ndarray, volume: Volume, box: Box) -> None:
    """Refuse NaN and infinite voxels.

    Args:
        values: (C, ...) voxels of a box, as stored or normalised.
        volume: where they were read, for the message.
        box: of the volume.

    Raises:
        VolumeError: one is NaN or infinite.
    """
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    first = int(np.argmin(np.isfinite(values)))
    channel, *within = (int(i) for i in np.unravel_index(first, (len(values), *box.shape)))
    what = "a NaN" if np.isnan(values.flat[first]) else "an infinite"
    place = [a + b for a, b in zip(box.start, within)]
    of_channel = f", channel {channel}" if volume.channels else ""
    raise VolumeError(
        f"{volume.path} holds {what} voxel at {place}{of_channel}; replace such voxels, for instance by 0, "
        "and try again."
    )


def _said(box: Box) -> str:
    return f"the box from {list(box.start)} to {list(box.stop)}"


def read_scaled(volume: Volume, box: Box, intensity: Intensity) -> np.ndarray:
    """A box of an image normalised but not compressed yet, (C, *S) float32.

    Raises:
        VolumeError: a voxel is NaN or infinite, or becomes so.
    """
    image = volume.read(box).reshape(-1, *box.shape)
    scaled = intensity.scaled(image)
    if not np.isfinite(scaled).all():
        check_finite(image, volume, box)
        largest = float(np.abs(image.astype(np.float64)).max())
        raise VolumeError(
            f"{volume.path} holds voxels of up to {largest:g} in {_said(box)}, which normalisation brings "
            "beyond 32-bit floats; replace the outliers, or write normalize_by: volume."
        )
    return scaled
