"""Exact percentiles of integer volumes, one or several together, that are read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from skoots.geometry import tile_volume
from skoots.volumes import Volume

BLOCK = (32, 512, 512)
BINS = 2**16
Span = tuple[int, int, int]


def channel_blocks(volume: Volume) -> Iterator[np.ndarray]:
    """All voxels, block by block: (C, n) each, one channel where the volume has no channel axis."""
    for tile in tile_volume(volume.shape, BLOCK[-volume.spatial_dims :]):
        yield volume.read(tile.write).reshape(volume.channels or 1, -1)


def integer_percentiles(volumes: Sequence[Volume], percents: Sequence[float]) -> np.ndarray:
    """What ``np.percentile`` gives for all voxels of each channel, without having them in memory.

    Args:
        volumes: of integer types, with the same channels.
        percents: in [0, 100].

    Returns:
        (len(percents), C) float64.
    """
    count = sum(int(np.prod(volume.shape)) for volume in volumes)
    places = np.asarray(percents, float) / 100 * (count - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, count - 1)
    ranks = sorted({*below.tolist(), *above.tolist()})
    rows = {rank: row for row, rank in enumerate(ranks)}
    values = values_of_rank(volumes, ranks)
    low, high = (values[[rows[r] for r in side]] for side in (below.tolist(), above.tolist()))
    return low + (high - low) * (places - below)[:, None]


def values_of_rank(volumes: Sequence[Volume], ranks: Sequence[int]) -> np.ndarray:
    """The values that would stand at some places if all voxels of a channel were sorted.

    Histograms that narrow down: types of 16 bit take one pass through the volume, of 32 bit two.

    Args:
        volumes: of integer types, with the same channels.
        ranks: places, from 0.

    Returns:
        (len(ranks), C) float64.
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
    return np.array([[float(first) for first, _, _ in row] for row in spans]).T


def _limits(volumes: Sequence[Volume]) -> tuple[int, int]:
    """The smallest and the largest value that their types allow."""
    limits = [np.iinfo(volume.dtype) for volume in volumes]
    return min(int(each.min) for each in limits), max(int(each.max) for each in limits)


def _step(span: Span) -> int:
    return max(1, -(-(span[1] - span[0] + 1) // BINS))


def _histograms(volumes: Sequence[Volume], spans: list[list[Span]]) -> dict[tuple[int, Span], np.ndarray]:
    counts = {(c, span): np.zeros(BINS, np.int64) for c, row in enumerate(spans) for span in row}
    limits = _limits(volumes)
    for block in (block for volume in volumes for block in channel_blocks(volume)):
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
