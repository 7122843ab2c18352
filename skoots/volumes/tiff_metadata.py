"""Voxel size from the metadata of a TIFF file: OME-XML, ImageJ, tifffile's JSON, or bare resolution tags.

Follows OME-XML (``PhysicalSizeX``), ImageJ (``spacing``, ``unit``, resolution tags) and tifffile's JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from tifffile import TiffFile, TiffPage

from skoots.volumes.units import convert, plain_unit

VoxelSize = tuple[tuple[float, ...] | None, str | None]
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}


def voxel_size_of(tif: TiffFile, ndim: int) -> VoxelSize:
    """Edge lengths of a voxel and their unit, both None where the file does not tell all axes.

    Args:
        tif: an open file.
        ndim: spatial dimensions.
    """
    page = tif.pages.first
    if tif.is_ome and tif.ome_metadata:
        return _from_ome(tif.ome_metadata, ndim)
    if tif.is_imagej and tif.imagej_metadata:
        return _from_imagej(tif.imagej_metadata, page, ndim)
    shaped = (tif.shaped_metadata or ({},))[0]
    if "spacing" in shaped:
        return _from_json(shaped, page, ndim)
    return _from_tags(page, ndim)


def ome_set(xml: str, name: str) -> tuple[str | None, list[str]]:
    """Which other files hold parts of an OME-TIFF image.

    Args:
        xml: the OME-XML of one file; none are read out of damaged XML.
        name: name of that file.

    Returns:
        the file that describes the set where this one does not, else None; the other files with its pixels.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None, []
    own, files = root.get("UUID"), dict[str, None]()
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        if tag == "BinaryOnly":
            return element.get("MetadataFile", "another file"), []
        file = element.get("FileName") if tag == "UUID" else None
        # a file that was renamed is known by its number
        if file and file.lower() != name.lower() and (own is None or element.text != own):
            files[file] = None
    return None, list(files)


def _from_ome(xml: str, ndim: int) -> VoxelSize:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None, None
    pixels = next((element for element in root.iter() if element.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None, None
    axes = "ZYX"[-ndim:]
    raw = [pixels.get(f"PhysicalSize{axis}") for axis in axes]
    units = [plain_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in axes]
    lengths = [convert(_number(length), unit, units[-1]) for length, unit in zip(raw, units)]
    return _all_or_none(lengths, units[-1])


def _from_imagej(metadata: dict[str, Any], page: Any, ndim: int) -> VoxelSize:
    yx = _pixel_size(page)
    unit = plain_unit(metadata.get("unit")) or _RESOLUTION_UNITS.get(_tag(page, "ResolutionUnit"))
    calibrated = "spacing" in metadata or (yx is not None and (unit is not None or yx != (1.0, 1.0)))
    if not calibrated:
        return None, None
    # ImageJ leaves out a spacing of 1, and resolution tags of 1
    return _all_or_none([abs(_number(metadata.get("spacing", 1.0))), *(yx or (1.0, 1.0))][-ndim:], unit)


def _from_json(shaped: dict[str, Any], page: Any, ndim: int) -> VoxelSize:
    unit = plain_unit(shaped.get("unit"))
    spacing = shaped["spacing"]
    if isinstance(spacing, Sequence) and not isinstance(spacing, str):
        if len(spacing) < ndim:
            return None, None
        return _all_or_none([_number(value) for value in spacing][-ndim:], unit)
    return _all_or_none([_number(spacing), *(_pixel_size(page) or (1.0, 1.0))][-ndim:], unit)


def _from_tags(page: Any, ndim: int) -> VoxelSize:
    # dots per inch are what any picture has by default; they say nothing of the object
    unit = _RESOLUTION_UNITS.get(_tag(page, "ResolutionUnit"))
    yx = _pixel_size(page)
    if ndim != 2 or yx is None or unit != "cm":
        return None, None
    return _all_or_none([convert(length, "cm", "um") for length in yx], "um")


def _pixel_size(page: Any) -> tuple[float, float] | None:
    """Height and width of a pixel from the resolution tags."""
    resolution = [_tag(page, "YResolution"), _tag(page, "XResolution")]
    if any(not value or not value[0] or not value[1] for value in resolution):
        return None
    (y, per_y), (x, per_x) = resolution
    return per_y / y, per_x / x


def _tag(page: Any, name: str) -> Any:
    tag = page.tags.get(name) if isinstance(page, TiffPage) else None
    return None if tag is None else tag.value


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _all_or_none(lengths: Sequence[float | None], unit: str | None) -> VoxelSize:
    known = tuple(length for length in lengths if length is not None and math.isfinite(length) and length > 0)
    return (known, unit) if len(known) == len(lengths) else (None, None)
