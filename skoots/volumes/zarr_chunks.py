"""Whether chunks of a Zarr array become as long as its metadata say.

tensorstore stops the other codecs there; Blosc is given the length that the chunk itself states, up to 2 GiB,
and where there is not as much memory the process is aborted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skoots.errors import VolumeError
from skoots.volumes.zarr_metadata import StoredArray, integers, within

_HEADER_BYTES = 16


class BloscLengths:
    """The lengths that the chunks of an array state. Inner chunks of shards are not looked at.

    Args:
        path: for messages.
        found: the array.
    """

    def __init__(self, path: str, found: StoredArray) -> None:
        self._path, self._folder = path, found.node.folder
        metadata = found.node.array or {}
        if found.node.zarr_format == 2:
            codec, self._chunks = _named(metadata.get("compressor"), "id"), integers(metadata.get("chunks"))
        else:
            codecs = metadata.get("codecs")
            names = [_named(part, "name") for part in codecs] if isinstance(codecs, list) else []
            codec = "blosc" if "blosc" in names else None
            self._chunks = integers(within(metadata.get("chunk_grid"), "chunk_shape"))
        self._name = _naming(found.node.zarr_format, metadata)
        self._applies = codec == "blosc" and self._chunks is not None and 0 not in self._chunks
        self._bytes = math.prod(self._chunks or ()) * np.dtype(found.dtype).itemsize

    def check(self, index: Sequence[slice]) -> None:
        """Look at the chunks that a part of the array lies in.

        Raises:
            VolumeError: one is longer than a chunk can be.
        """
        if not self._applies or self._chunks is None:
            return
        cells = (range(part.start // n, -(-part.stop // n)) for part, n in zip(index, self._chunks))
        for cell in itertools.product(*cells):
            file = self._folder / self._name(cell)
            try:
                with file.open("rb") as opened:
                    header = opened.read(_HEADER_BYTES)
            except FileNotFoundError:
                continue  # never written: the fill value
            length = int.from_bytes(header[4:8], "little")
            if length > self._bytes:
                raise VolumeError(
                    f"{self._path} is damaged: {file} would become {length} bytes, and a chunk has "
                    f"{self._bytes}. Write or copy it again."
                )


def _named(part: Any, key: str) -> Any:
    return part.get(key) if isinstance(part, dict) else None


def _naming(zarr_format: int, metadata: dict[str, Any]) -> Callable[[Sequence[int]], Path]:
    """From the place of a chunk in the grid to its file."""
    if zarr_format == 2:
        separator, prefix = metadata.get("dimension_separator", "."), ""
    else:
        encoding = metadata.get("chunk_key_encoding")
        is_default = _named(encoding, "name") == "default"
        separator = within(encoding, "separator") or ("/" if is_default else ".")
        prefix = f"c{separator}" if is_default else ""
    return lambda cell: Path(prefix + str(separator).join(str(n) for n in cell))
