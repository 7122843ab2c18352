"""The maps of a whole volume, in five bytes a voxel: in memory while they are small, else in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.refusals import refusal_in
from skoots.unfinished import Scratch
from skoots.volumes.output import reserve

IN_MEMORY_BYTES = 2 * 1024**3


class Maps:
    """Vectors as int8 (127 levels decode exactly), probabilities as uint8, and the labels made from them.

    Args:
        shape: voxels of the volume.
        folder: where large maps are kept until ``close``; they are removed then.
    """

    def __init__(self, shape: Sequence[int], folder: Path) -> None:
        voxels = int(np.prod(shape))
        in_files = voxels * (len(shape) + 2 + 4) > IN_MEMORY_BYTES
        self._scratch: Scratch | None = None
        try:
            if in_files:
                self._scratch = Scratch(folder / "maps")
            self.vector = self._allocate("vector", (len(shape), *shape), np.int8)
            self.semantic = self._allocate("semantic", shape, np.uint8)
            self.skeleton = self._allocate("skeleton", shape, np.uint8)
            self.labels = self._allocate("labels", shape, np.int32)
        except OSError as error:
            self._remove()
            refusal = refusal_in(error)
            if refusal is None or refusal.is_memory:
                raise
            remedy = "Write the output to a larger disk." if refusal.is_room else refusal.remedy
            raise VolumeError(
                f"The maps of a volume of {voxels:,} voxels cannot be kept in {folder} meanwhile: "
                f"{refusal.reason}. {remedy}"
            ) from error
        except BaseException:
            self._remove()
            raise

    def _allocate(self, name: str, shape: Sequence[int], dtype: type) -> np.ndarray:
        if self._scratch is None:
            return np.zeros(shape, dtype)
        path = self._scratch.folder / f"{name}.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape))
        reserve(path)
        return array

    def store(self, box: Box, maps: Mapping[str, np.ndarray]) -> None:
        """Keep the maps of a box.

        Args:
            box: where they lie.
            maps: ``vector`` (D, *S) in [-1, 1], ``semantic`` and ``skeleton`` (1, *S) in [0, 1].
        """
        window = (slice(None), *box.slices)
        self.vector[window] = np.rint(maps["vector"] * 127).astype(np.int8)
        for name in ("semantic", "skeleton"):
            getattr(self, name)[box.slices] = np.rint(maps[name][0] * 255).astype(np.uint8)

    def close(self) -> None:
        """Remove the files, if there are any."""
        if self._scratch is not None:
            del self.vector, self.semantic, self.skeleton, self.labels
        self._remove()

    def _remove(self) -> None:
        if self._scratch is not None:
            self._scratch.remove()
