"""TIFF, OME-TIFF and ImageJ stacks: memory-mapped where uncompressed, else decoded piece by piece."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile

from skoots.unfinished import Unfinished
from skoots.volumes.base import Volume, WritableVolume, place_of_file
from skoots.volumes.damage import damage_names
from skoots.volumes.layout import Layout, layout_of
from skoots.volumes.output import reserve
from skoots.volumes.segments import SEGMENTS, SegmentCache
from skoots.volumes.tiff_metadata import voxel_size_of
from skoots.volumes.tiff_pages import PageReader
from skoots.volumes.tiff_sections import sections_of
from skoots.volumes.tiff_structure import check_page_chain
from skoots.volumes.units import OME_UNITS, convert

# what it logs of a damaged file, and then reads on, is a fault here
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# a little below 4 GiB, as offsets must reach the page directories behind the pixels too
BIGTIFF_BYTES = 2**32 - 2**25
_OME_TYPES = {"int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64"}


class TiffVolume(Volume):
    """An image in a TIFF file; of several images in one file the first, of a pyramid the finest level.

    Args:
        path: the file.
        axes: axes in the order of the file, where its metadata are wrong or missing, e.g. ``zcyx``.
        voxel_size: edge lengths that win over those of the file.
        cache: where decoded pieces are kept; a file that is mapped needs none.

    Raises:
        VolumeError: the file is empty, damaged, no TIFF, or holds no single image, or sections are missing.
    """

    def __init__(
        self,
        path: str,
        axes: str | None = None,
        voxel_size: Sequence[float] | None = None,
        cache: SegmentCache = SEGMENTS,
    ) -> None:
        check_page_chain(path)
        with damage_names(path, "cannot be read as a TIFF image"):
            tif = tifffile.TiffFile(path)
        with tif:
            sections = sections_of(path, tif)
            layout = layout_of(path, sections.shape, sections.axes, axes)
            with damage_names(path, "has metadata that cannot be read"):
                lengths, unit = voxel_size_of(tif, len(layout.shape))
            self._read_part = PageReader(path, sections, cache).read
        self._cache = cache
        super().__init__(path, layout, sections.dtype, lengths, unit, axes, voxel_size)

    def cached_in(self, cache: SegmentCache) -> Volume:
        return TiffVolume(self.path, *self._given, cache)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, *self._given, self._cache)

    def _place(self) -> tuple[int, ...] | None:
        return place_of_file(self.path)

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return self._read_part(index)


class TiffOutput(WritableVolume):
    """An uncompressed TIFF file, memory-mapped, so that it can be written by box.

    Args:
        target: the file to become.
        layout: axes, channels first.
        dtype: type of the voxels.
        voxel_size: edge lengths, or None.
        unit: their unit, or None.
    """

    def __init__(
        self,
        target: Unfinished,
        layout: Layout,
        dtype: np.dtype,
        voxel_size: Sequence[float] | None,
        unit: str | None,
    ) -> None:
        super().__init__(str(target.path), layout, dtype, voxel_size, unit)
        self._target = target
        described = tiff_arguments(layout, self.dtype, self.voxel_size, unit)
        self._array: np.ndarray | None = tifffile.memmap(
            str(target.temporary), shape=layout.stored_shape, dtype=self.dtype, **described
        )
        reserve(target.temporary)

    @property
    def _open_array(self) -> np.ndarray:
        if self._array is None:
            raise ValueError(f"{self.path} has been closed")
        return self._array

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.array(self._open_array[index])

    def _write(self, index: tuple[slice, ...], array: np.ndarray) -> None:
        self._open_array[index] = array

    def close(self) -> None:
        if isinstance(self._array, np.memmap):
            self._array.flush()
            self._array = None  # some systems do not rename a file that is mapped
            self._target.commit()

    def discard(self) -> None:
        self._array = None
        self._target.remove()


def write_compressed(
    target: Unfinished,
    array: np.ndarray,
    layout: Layout,
    voxel_size: Sequence[float] | None,
    unit: str | None,
) -> None:
    """Write a whole array as a TIFF file compressed with zlib.

    Args:
        target: the file to become.
        array: (*S) or (C, *S).
        layout: axes, channels first.
        voxel_size: edge lengths, or None.
        unit: their unit, or None.
    """
    described = tiff_arguments(layout, array.dtype, voxel_size, unit)
    tifffile.imwrite(str(target.temporary), np.ascontiguousarray(array), compression="zlib", **described)


def tiff_arguments(
    layout: Layout, dtype: np.dtype, voxel_size: Sequence[float] | None, unit: str | None
) -> dict[str, Any]:
    """Arguments of ``tifffile.imwrite`` that keep axes and voxel size.

    OME-XML, which Fiji, napari and QuPath understand; tifffile's JSON where OME-TIFF has no such type (64-bit
    integers, half precision) or its readers would drop an axis of length one.
    """
    axes = layout.axes.upper()
    keeps_axes = 1 not in layout.stored_shape[: len(axes) - 2]
    metadata: dict[str, Any] = {"axes": axes}
    arguments: dict[str, Any] = {
        "photometric": "minisblack",
        "metadata": metadata,
        "bigtiff": math.prod(layout.stored_shape) * dtype.itemsize > BIGTIFF_BYTES,
    }
    if dtype.name in _OME_TYPES and keeps_axes:
        arguments["ome"] = True
        for axis, length in zip("ZYX"[-len(layout.shape) :], voxel_size or ()):
            metadata[f"PhysicalSize{axis}"] = float(length)
            metadata[f"PhysicalSize{axis}Unit"] = _ome_unit(unit)
    elif voxel_size is not None:
        metadata["spacing"] = [float(length) for length in voxel_size]
        metadata.update({} if unit is None else {"unit": unit})
    if voxel_size is not None:
        arguments.update(_resolution_tags(voxel_size, unit))
    return arguments


def _ome_unit(unit: str | None) -> str:
    return "reference frame" if unit is None else "pixel" if unit == "px" else OME_UNITS.get(unit, unit)


def _resolution_tags(voxel_size: Sequence[float], unit: str | None) -> dict[str, Any]:
    """For programs that read nothing but the resolution tags."""
    y, x = (convert(length, unit, "cm") for length in voxel_size[-2:])
    if x is None or y is None or not all(1e-3 < 1 / length < 2**31 for length in (x, y)):
        return {}
    return {"resolution": (1 / x, 1 / y), "resolutionunit": "CENTIMETER"}
