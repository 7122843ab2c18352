"""Whether a TIFF file is all there: the chain of its pages, checked before anything is decoded.

Libraries read a file that was cut off as a shorter stack, without an error; here it is a fault.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from skoots.errors import VolumeError

# Without these tags a page cannot be understood: bits, description, offsets, bytes, colours, tiles.
_NEEDED_TAGS = {258, 270, 273, 279, 320, 324, 325}
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


@dataclass(frozen=True)
class _Flavour:
    """How numbers of the page directory are packed, classic TIFF or BigTIFF."""

    first_offset_at: int
    count: struct.Struct
    entry: struct.Struct
    offset: struct.Struct
    inline_bytes: int


def _flavour(head: bytes) -> _Flavour | None:
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return None
    version = struct.unpack(order + "H", head[2:4])[0]
    if version == 42:
        return _Flavour(
            4, struct.Struct(order + "H"), struct.Struct(order + "HHI4s"), struct.Struct(order + "I"), 4
        )
    if version == 43:
        return _Flavour(
            8, struct.Struct(order + "Q"), struct.Struct(order + "HHQ8s"), struct.Struct(order + "Q"), 8
        )
    return None


def check_page_chain(path: str) -> None:
    """Follow the chain of page directories to its end.

    Raises:
        VolumeError: the file is empty, no TIFF, or its chain of pages runs beyond the end of the file.
    """
    size = os.path.getsize(path)
    if size == 0:
        raise VolumeError(f"{path} is empty (0 bytes); write or copy it again.")
    with open(path, "rb") as file:
        flavour = _flavour(file.read(16))
        if flavour is None:
            raise VolumeError(f"{path} is not a TIFF image: it does not begin like one. Re-save it as TIFF.")
        file.seek(flavour.first_offset_at)
        offset = _number(file, flavour.offset)
        if offset == 0:
            raise VolumeError(f"{path} is a TIFF file without an image; write it again.")
        seen: set[int] = set()
        while offset != 0:
            if offset in seen:
                raise VolumeError(
                    f"{path} is damaged: its page {len(seen)} is followed by one that came before. Copy or "
                    "write it again."
                )
            seen.add(offset)
            following = _next_page(file, flavour, offset, size)
            if following is None:
                raise truncated(path, f"page {len(seen)} is described beyond its end", size)
            offset = following


def check_segments(path: str, size: int, segments: Iterable[tuple[int, int]]) -> None:
    """Hold the places of all pixel data against the size of the file.

    Args:
        path: for messages.
        size: bytes of the file.
        segments: offset and number of bytes of each piece of pixel data.

    Raises:
        VolumeError: some pixels lie beyond the end.
    """
    end = max((offset + count for offset, count in segments), default=0)
    if end > size:
        raise truncated(path, f"its pixels need {end} bytes", size)


def truncated(path: str, why: str, size: int) -> VolumeError:
    """The error of a file that was cut off."""
    return VolumeError(f"{path} is truncated: {why}, but the file has {size} bytes. Copy or write it again.")


def _number(file: BinaryIO, packed: struct.Struct) -> int:
    data = file.read(packed.size)
    return int(packed.unpack(data)[0]) if len(data) == packed.size else 0


def _next_page(file: BinaryIO, flavour: _Flavour, offset: int, size: int) -> int | None:
    """Offset of the page after the one at ``offset`` (0 = last), or None if this page is not all there."""
    if offset + flavour.count.size > size:
        return None
    file.seek(offset)
    entries_bytes = _number(file, flavour.count) * flavour.entry.size
    entries = file.read(entries_bytes) if entries_bytes <= size else b""
    link = file.read(flavour.offset.size)
    if len(entries) < entries_bytes or len(link) < flavour.offset.size:
        return None
    for tag, kind, count, value in flavour.entry.iter_unpack(entries):
        length = count * _TYPE_BYTES.get(kind, 1)
        if (
            tag in _NEEDED_TAGS
            and length > flavour.inline_bytes
            and flavour.offset.unpack(value)[0] + length > size
        ):
            return None
    return int(flavour.offset.unpack(link)[0])
