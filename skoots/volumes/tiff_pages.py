"""Reading a box out of the pages of a TIFF file, decoding only the pieces (strips, tiles) that it touches."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tifffile import TiffPage

from skoots.errors import VolumeError
from skoots.volumes.damage import damage_names
from skoots.volumes.segments import SEGMENTS, SegmentCache
from skoots.volumes.tiff_sections import Page, Sections
from skoots.volumes.tiff_structure import check_segments

_JPEG = {6, 7, 33007, 34892}
_END_OF_JPEG = b"\xff\xd9"
# A piece that becomes more than this much, and this many times its own bytes, is damage: zlib packs 1032 to 1
# at most, zstd 32768 to 1.
_PIECE_BYTES, _PACKED_AT_MOST = 2**26, 2**16


@dataclass(frozen=True)
class _Storage:
    """How pages are stored; all that are alike share one.

    Inside, a page is always (samples, depth, length, width, contiguous samples), as tifffile normalises it.
    """

    piece: tuple[int, ...]
    grid: tuple[int, ...]
    tiled: bool
    decode: Callable[..., Any] | None  # None: pixels lie there as they are in memory
    dtype: np.dtype


@dataclass(frozen=True)
class _Page:
    """Where the pieces of one page lie."""

    file: str
    offsets: Sequence[int]
    counts: Sequence[int]
    storage: _Storage
    arguments: dict[str, Any]

    @property
    def cut_shows(self) -> bool:
        """Whether each piece is a JPEG stream with an end of its own."""
        return "jpegtables" in self.arguments and self.arguments["jpegheader"] is None


class PageReader:
    """The sections of an image as one array, without the file held open.

    Args:
        path: for messages.
        sections: of a file still open.
        cache: where decoded pieces are kept.

    Raises:
        VolumeError: the pages do not add up to the image, or pixels of theirs are missing.
    """

    def __init__(self, path: str, sections: Sections, cache: SegmentCache = SEGMENTS) -> None:
        self.path = path
        self.shape = sections.shape
        self._page_shape = tuple(sections.pages[0].shaped)
        self._dtype = sections.dtype
        stores: dict[tuple[int, bool], _Storage] = {}
        self._pages = []
        for number, page in enumerate(sections.pages, 1):
            with damage_names(path, f"cannot be read: page {number} is damaged"):
                self._pages.append(_page(path, number, page, stores))
        if len(self._pages) == 1 and self._pages[0].storage.decode is None:
            self._pages = _unbroken(self._pages[0], math.prod(self.shape) // math.prod(self._page_shape))
        self._stacked = _stacked_axes(path, self.shape, self._page_shape, len(self._pages))
        self._files: dict[str, np.memmap] = {}
        self._cache, self._owner = cache, cache.owner()
        self._check_places()

    def _check_places(self) -> None:
        places: dict[str, list[tuple[int, int]]] = {}
        for page in self._pages:
            places.setdefault(page.file, []).extend(zip(page.offsets, page.counts))
        for file, segments in places.items():
            check_segments(file, os.path.getsize(file), segments)

    def read(self, index: tuple[slice, ...]) -> np.ndarray:
        """A part of the image, one slice an axis."""
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
        page = self._pages[number]
        if page.storage.decode is None:
            target[...] = self._mapped(page)[inside]
            return
        touched = [range(part.start // k, -(-part.stop // k)) for part, k in zip(inside, page.storage.piece)]
        for cell in itertools.product(*touched):
            piece = self._segment(number, int(np.ravel_multi_index(cell, page.storage.grid)))
            if piece is None:
                continue
            corner = [c * k for c, k in zip(cell, page.storage.piece)]
            piece = piece.reshape((1, *piece.shape[-4:]))
            from_piece, to_target = [], []
            for part, begin, length in zip(inside, corner, piece.shape):
                first, last = max(part.start, begin), min(part.stop, begin + length)
                from_piece.append(slice(first - begin, last - begin))
                to_target.append(slice(first - part.start, last - part.start))
            target[tuple(to_target)] = piece[tuple(from_piece)]

    def _mapped(self, page: _Page) -> np.ndarray:
        return np.ndarray(self._page_shape, page.storage.dtype, self._bytes(page.file), page.offsets[0])

    def _bytes(self, file: str) -> np.memmap:
        if file not in self._files:
            # no file position that processes could share
            self._files[file] = np.memmap(file, np.uint8, "r")
        return self._files[file]

    def _segment(self, number: int, segment: int) -> np.ndarray | None:
        page = self._pages[number]
        if page.counts[segment] == 0:
            return None  # a tile that was never written: zeros
        return self._cache.get((self._owner, number, segment), lambda: self._decoded(page, number, segment))

    def _decoded(self, page: _Page, number: int, segment: int) -> np.ndarray:
        assert page.storage.decode is not None
        offset, count = page.offsets[segment], page.counts[segment]
        data = self._bytes(page.file)[offset : offset + count].tobytes()
        with damage_names(
            f"{self.path}: section {number + 1}",
            "cannot be decoded",
            "The file is damaged or of a compression that is not supported. Write it again, without "
            "compression or with zlib.",
        ):
            if page.cut_shows and not data.rstrip(b"\0").endswith(_END_OF_JPEG):
                raise ValueError("its JPEG data are cut off")  # the decoder makes grey of the rest
            decoded = page.storage.decode(data, segment, **page.arguments, _fullsize=page.storage.tiled)[0]
        return np.asarray(decoded)


def _page(path: str, number: int, page: Page, stores: dict[tuple[int, bool], _Storage]) -> _Page:
    """A page, once its tables are found to hold all its pixels."""
    key = page.keyframe
    assert key is not None
    alike = (key.hash, key.is_final)
    if alike not in stores:
        stores[alike] = _storage(path, number, key)
    storage = stores[alike]
    file = page.parent.filehandle.path
    offsets, counts = tuple(page.dataoffsets), tuple(page.databytecounts)
    if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in (*offsets, *counts, *storage.piece)):
        raise VolumeError(
            f"{path}: page {number} is damaged: its tables hold no counts. Copy or write it again."
        )
    if storage.decode is None:
        # those of MetaMorph and Zeiss count their bytes in ways of their own
        own = key.is_stk or key.parent.is_lsm
        there = sum(counts[: len(offsets)])
        if not offsets or offsets[0] == 0 or (there < key.nbytes and not own):
            raise _missing(path, number, f"it has {there} of {key.nbytes} bytes")
        return _Page(file, offsets[:1], (key.nbytes,), storage, {})
    wanted = math.prod(storage.grid)
    if min(len(offsets), len(counts)) < wanted:
        what = "tiles" if storage.tiled else "strips"
        raise _missing(path, number, f"it has {min(len(offsets), len(counts))} of {wanted} {what}")
    offsets, counts = offsets[:wanted], counts[:wanted]
    # a tile may have been left out as empty, but not all of them, nor a strip
    left_out = [at == 0 and n == 0 for at, n in zip(offsets, counts)]
    empty = [at == 0 or n == 0 for at, n in zip(offsets, counts)]
    if empty != left_out or all(empty) or (any(empty) and not storage.tiled):
        raise _missing(path, number, f"{sum(empty)} of {wanted} pieces have no bytes")
    size = math.prod(storage.piece) * np.dtype(page.dtype).itemsize
    if size > max(_PIECE_BYTES, _PACKED_AT_MOST * max(counts)):
        raise VolumeError(
            f"{path}: page {number} is damaged: {max(counts)} bytes cannot hold a piece of {size} bytes. "
            "Copy or write it again."
        )
    jpeg = key.compression in _JPEG
    arguments = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader} if jpeg else {}
    return _Page(file, offsets, counts, storage, arguments)


def _unbroken(first: _Page, sections: int) -> list[_Page]:
    """Sections whose pixels follow those of the only page."""
    size = first.counts[0]
    return [replace(first, offsets=(first.offsets[0] + size * number,)) for number in range(sections)]


def _storage(path: str, number: int, key: TiffPage) -> _Storage:
    shape = tuple(key.shaped)
    if key.is_final:
        stored = np.dtype(key.dtype).newbyteorder(key.parent.byteorder)
        return _Storage(shape, (1,) * len(shape), False, None, stored)
    if key.is_tiled:
        piece = (1, key.tiledepth, key.tilelength, key.tilewidth, shape[4])
    else:
        piece = (1, 1, key.rowsperstrip, shape[3], shape[4])
    if 0 in piece:
        raise VolumeError(
            f"{path}: page {number} is damaged: its strips or tiles are {' x '.join(map(str, piece[1:4]))} "
            "voxels. Copy or write it again."
        )
    grid = tuple(math.ceil(n / k) for n, k in zip(shape, piece))
    return _Storage(piece, grid, key.is_tiled, key.decode, np.dtype(key.dtype))


def _missing(path: str, number: int, what: str) -> VolumeError:
    return VolumeError(f"{path}: pixels of page {number} are missing: {what}. Copy or write it again.")


def _stacked_axes(path: str, shape: tuple[int, ...], page_shape: tuple[int, ...], pages: int) -> int:
    """How many leading axes of the image count pages; the others lie inside a page."""
    inside = [n for n in page_shape if n > 1]
    for stacked in range(len(shape), -1, -1):
        if [n for n in shape[stacked:] if n > 1] == inside and math.prod(shape[:stacked]) == pages:
            return stacked
    raise VolumeError(
        f"{path}: its {pages} pages of {tuple(inside)} do not add up to its shape {shape}; the file is "
        "damaged or of an unusual kind. Write it again, for example with Fiji or tifffile."
    )
