"""Exact percentiles of volumes, one or several together, that are read block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from skoots.geometry import Box, tile_volume
from skoots.volumes import Volume

BLOCK = (32, 512, 512)
BINS = 2**16
Span = tuple[int, int, int]


def channel_blocks(volume: Volume) -> Iterator[tuple[Box, np.ndarray]]:
    """All voxels, block by block: where they lie, and (C, n) each; without a channel axis, C is 1."""
    for tile in tile_volume(volume.shape, BLOCK[-volume.spatial_dims :]):
        yield tile.write, volume.read(tile.write).reshape(volume.channels or 1, -1)


def integer_percentiles(volumes: Sequence[Volume], percents: Sequence[float]) -> list[list[Fraction]]:
    """What ``np.percentile`` gives for all voxels of each channel, exactly, without having them in memory.

    Args:
        volumes: of integer types, with the same channels.
        percents: in [0, 100].

    Returns:
        len(percents) lists of C numbers.
    """
    count = sum(int(np.prod(volume.shape)) for volume in volumes)
    return _interpolated(count, percents, lambda ranks: values_of_rank(volumes, ranks))


def sample_percentiles(samples: np.ndarray, percents: Sequence[float]) -> list[list[Fraction]]:
    """What ``np.percentile`` gives for each channel, exactly.

    Args:
        samples: (C, n) finite.
        percents: in [0, 100].

    Returns:
        len(percents) lists of C numbers.
    """

    def of_rank(ranks: Sequence[int]) -> list[list[int]]:
        return [list(row) for row in zip(*np.partition(samples, ranks, axis=1)[:, ranks].tolist())]

    return _interpolated(samples.shape[1], percents, of_rank)


def _interpolated(
    count: int, percents: Sequence[float], of_rank: Callable[[Sequence[int]], list[list[int]]]
) -> list[list[Fraction]]:
    """Linear between the two values whose ranks are nearest, as NumPy does by default."""
    places = [Fraction(float(percent)) / 100 * (count - 1) for percent in percents]
    below = [int(place) for place in places]
    above = [min(rank + 1, count - 1) for rank in below]
    ranks = sorted({*below, *above})
    values = dict(zip(ranks, of_rank(ranks)))
    return [
        [
            Fraction(low) + (Fraction(high) - Fraction(low)) * (place - b)
            for low, high in zip(values[b], values[a])
        ]
        for place, b, a in zip(places, below, above)
    ]


def values_of_rank(volumes: Sequence[Volume], ranks: Sequence[int]) -> list[list[int]]:
    """The values that would stand at some places if all voxels of a channel were sorted.

    Histograms that narrow down: types of 16 bit take one pass through the volume, of 32 bit two.

    Args:
        volumes: of integer types, with the same channels.
        ranks: places, from 0.

    Returns:
        len(ranks) lists of C numbers.
    """
    channels = volumes[0].channels or 1
    first, last = _limits(volumes)
    # of each channel and rank: the span that its value lies in, and how many values are below the span
    spans: list[list[Span]] = [[(first, last, 0)] * len(ranks) for _ in range(channels)]
    while any(first < last for row in spans for first, last, _ in row):
        counts = _histograms(volumes, spans)
        spans = [
            [_narrowed(span, counts[c, span], rank) for span, rank in zip(row, ranks)]
            for c, row in enumerate(spans)
        ]
    return [[row[i][0] for row in spans] for i in range(len(ranks))]


def _limits(volumes: Sequence[Volume]) -> tuple[int, int]:
    """The smallest and the largest value that their types allow."""
    limits = [np.iinfo(volume.dtype) for volume in volumes]
    return min(int(each.min) for each in limits), max(int(each.max) for each in limits)


def _step(span: Span) -> int:
    return max(1, -(-(span[1] - span[0] + 1) // BINS))


def _histograms(volumes: Sequence[Volume], spans: list[list[Span]]) -> dict[tuple[int, Span], np.ndarray]:
    counts = {(c, span): np.zeros(BINS, np.int64) for c, row in enumerate(spans) for span in row}
    limits = _limits(volumes)
    for block in (block for volume in volumes for _, block in channel_blocks(volume)):
        for (channel, span), histogram in counts.items():
            first, last, _ = span
            values = block[channel]
            if (first, last) != limits:
                values = values[(values >= first) & (values <= last)]
            # unsigned, where differences of any two integers fit and wrap around to the right number
            away = values.astype(np.uint64) - np.uint64(first % 2**64)
            bins = (away // np.uint64(_step(span))).astype(np.int64)
            histogram += np.bincount(bins, minlength=BINS)
    return counts


def _narrowed(span: Span, histogram: np.ndarray, rank: int) -> Span:
    first, last, below = span
    ends = np.cumsum(histogram)
    row = int(np.searchsorted(ends, rank - below, side="right"))
    step = _step(span)
    start = first + row * step
    return start, min(start + step - 1, last), below + int(ends[row] - histogram[row])
