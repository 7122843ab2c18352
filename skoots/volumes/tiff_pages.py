"""Reading a box out of the pages of a TIFF file, decoding only the pieces (strips, tiles) that it touches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tifffile import TiffPageSeries

from skoots.errors import VolumeError
from skoots.volumes.segments import SEGMENTS, SegmentCache

_JPEG = {6, 7, 33007, 34892}


@dataclass(frozen=True)
class _Page:
    """Where the pieces of one page lie."""

    file: str
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    arguments: dict[str, Any]


class PageReader:
    """The pages of a series as one array, without the file held open.

    Inside, a page is always (samples, depth, length, width, contiguous samples), as tifffile normalises it.

    Args:
        path: for messages.
        series: the series, of a file still open.
        cache: where decoded pieces are kept.

    Raises:
        VolumeError: the pages do not add up to the series.
    """

    def __init__(self, path: str, series: TiffPageSeries, cache: SegmentCache = SEGMENTS) -> None:
        self.path = path
        self.shape = tuple(series.shape)
        keyframe = series.keyframe
        self._page_shape = tuple(keyframe.shaped)
        self._tiled = keyframe.is_tiled
        if keyframe.is_tiled:
            self._piece = (
                1,
                keyframe.tiledepth,
                keyframe.tilelength,
                keyframe.tilewidth,
                self._page_shape[4],
            )
        else:
            self._piece = (1, 1, keyframe.rowsperstrip, self._page_shape[3], self._page_shape[4])
        self._grid = tuple(math.ceil(n / k) for n, k in zip(self._page_shape, self._piece))
        self._decode: Callable[..., Any] = keyframe.decode
        self._dtype = np.dtype(series.dtype)
        self._pages = [_page(page) for page in series]
        self._stacked = _stacked_axes(path, self.shape, self._page_shape, len(self._pages))
        self._files: dict[str, np.memmap] = {}
        self._cache, self._owner = cache, cache.owner()

    def segments(self) -> dict[str, list[tuple[int, int]]]:
        """Offset and number of bytes of every piece, by the file it lies in."""
        places: dict[str, list[tuple[int, int]]] = {}
        for page in self._pages:
            if page is not None:
                places.setdefault(page.file, []).extend(zip(page.offsets, page.counts))
        return places

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """A part of the series, one slice an axis."""
        stacked, inside = index[: self._stacked], self._page_slices(index[self._stacked :])
        counts = [part.stop - part.start for part in index]
        out = np.zeros(
            (math.prod(counts[: self._stacked]), *(part.stop - part.start for part in inside)), self._dtype
        )
        steps = itertools.product(*(range(part.start, part.stop) for part in stacked))
        for target, position in zip(out, steps):
            number = int(np.ravel_multi_index(position, self.shape[: self._stacked])) if position else 0
            self._read_page(number, inside, target)
        return out.reshape(counts)

    def _page_slices(self, index: Sequence[slice]) -> tuple[slice, ...]:
        """Slices of the five normalised axes of a page; axes of length one are passed over on both sides."""
        remaining = [part for part, n in zip(index, self.shape[self._stacked :]) if n > 1]
        return tuple(remaining.pop(0) if n > 1 else slice(0, 1) for n in self._page_shape)

    def _read_page(self, number: int, inside: tuple[slice, ...], target: np.ndarray) -> None:
        touched = [range(part.start // k, -(-part.stop // k)) for part, k in zip(inside, self._piece)]
        for cell in itertools.product(*touched):
            piece = self._segment(number, int(np.ravel_multi_index(cell, self._grid)))
            if piece is None:
                continue
            corner = [c * k for c, k in zip(cell, self._piece)]
            piece = piece.reshape((1, *piece.shape[-4:]))
            from_piece, to_target = [], []
            for part, begin, length in zip(inside, corner, piece.shape):
                first, last = max(part.start, begin), min(part.stop, begin + length)
                from_piece.append(slice(first - begin, last - begin))
                to_target.append(slice(first - part.start, last - part.start))
            target[tuple(to_target)] = piece[tuple(from_piece)]

    def _segment(self, number: int, segment: int) -> np.ndarray | None:
        page = self._pages[number]
        if page is None or segment >= len(page.counts) or page.counts[segment] == 0:
            return None  # never written: zeros
        return self._cache.get((self._owner, number, segment), lambda: self._decoded(page, number, segment))

    def _decoded(self, page: _Page, number: int, segment: int) -> np.ndarray:
        if page.file not in self._files:
            self._files[page.file] = np.memmap(
                page.file, np.uint8, "r"
            )  # no file position that processes could share
        offset, count = page.offsets[segment], page.counts[segment]
        data = self._files[page.file][offset : offset + count].tobytes()
        try:
            decoded = self._decode(data, segment, **page.arguments, _fullsize=self._tiled)[0]
        except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
            raise VolumeError(
                f"{self.path}: section {number + 1} cannot be decoded ({error}); the file is damaged or of a "
                "compression "
                "that is not supported. Write it again, without compression or with zlib."
            ) from error
        return np.asarray(decoded)


def _page(page: Any) -> _Page | None:
    if page is None:
        return None
    jpeg = page.keyframe.compression in _JPEG
    arguments = {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader} if jpeg else {}
    path = page.parent.filehandle.path
    return _Page(path, tuple(page.dataoffsets), tuple(page.databytecounts), arguments)


def _stacked_axes(path: str, shape: tuple[int, ...], page_shape: tuple[int, ...], pages: int) -> int:
    """How many leading axes of the series count pages; the others lie inside a page."""
    inside = [n for n in page_shape if n > 1]
    for stacked in range(len(shape), -1, -1):
        if [n for n in shape[stacked:] if n > 1] == inside and math.prod(shape[:stacked]) == pages:
            return stacked
    raise VolumeError(
        f"{path}: its {pages} pages of {tuple(inside)} do not add up to its shape {shape}; the file is "
        "damaged or of an "
        "unusual kind. Write it again, for example with Fiji or tifffile."
    )
