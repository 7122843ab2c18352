"""The maps of a whole volume while it is segmented: in memory while they are small, else in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.instances import Maps, MapType
from skoots.refusals import refusal_in
from skoots.unfinished import Scratch
from skoots.volumes.output import reserve

IN_MEMORY_BYTES = 2 * 1024**3


class MapStore:
    """Quantised maps, and the labels made from them.

    Args:
        types: of the maps, by name: what a decoder reads.
        shape: voxels of the volume.
        voxel_size: D edge lengths of a voxel.
        scale: D voxels that a vector of length 1 spans; None where there are no vectors.
        folder: where large maps are kept until ``close``; they are removed then.
    """

    def __init__(
        self,
        types: Mapping[str, MapType],
        shape: Sequence[int],
        voxel_size: Sequence[float],
        scale: Sequence[float] | None,
        folder: Path,
    ) -> None:
        voxels, ndim = int(np.prod(shape)), len(shape)
        bytes_each = sum(kind.channels(ndim) * np.dtype(kind.dtype).itemsize for kind in types.values())
        in_files = voxels * (bytes_each + np.dtype(np.int32).itemsize) > IN_MEMORY_BYTES
        self._scratch: Scratch | None = None
        try:
            if in_files:
                self._scratch = Scratch(folder / "maps")
            arrays = {
                name: self._allocate(name, (kind.channels(ndim), *shape), kind.dtype)
                for name, kind in types.items()
            }
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
        self.maps = Maps(arrays, types, tuple(voxel_size), None if scale is None else tuple(scale))

    def _allocate(self, name: str, shape: Sequence[int], dtype: type) -> np.ndarray:
        if self._scratch is None:
            return np.zeros(shape, dtype)
        path = self._scratch.folder / f"{name}.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=tuple(shape))
        reserve(path)
        return array

    def store(self, box: Box, values: Mapping[str, np.ndarray]) -> None:
        """Keep the maps of a box.

        Args:
            box: where they lie.
            values: (C, *S) floats by name, at least those that are kept here.
        """
        window = (slice(None), *box.slices)
        for name, kind in self.maps.types.items():
            self.maps.arrays[name][window] = kind.quantise(values[name])

    def close(self) -> None:
        """Remove the files, if there are any."""
        if self._scratch is not None:
            del self.maps, self.labels
        self._remove()

    def _remove(self) -> None:
        if self._scratch is not None:
            self._scratch.remove()
