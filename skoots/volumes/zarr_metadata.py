"""What the JSON of a Zarr store says: which array, its axes and its voxel size.

Follows the Zarr v2 and v3 specifications, OME-NGFF 0.4 (Zarr v2) and 0.5 (v3), and xarray's names of axes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skoots.errors import VolumeError
from skoots.registry import near_misses
from skoots.volumes.layout import Layout, named_axes
from skoots.volumes.units import NGFF_UNITS, plain_unit

if TYPE_CHECKING:
    from skoots.volumes.ngff import Level, Multiscale

_CHUNK_BYTES = 2**26
_LONGEST = 1e300
_SIZE_ATTRIBUTES = ("voxel_size", "resolution", "spacing")


@dataclass(frozen=True)
class Node:
    """A group or an array of a store.

    Args:
        folder: where it lies.
        zarr_format: 2 or 3.
        array: the metadata of the array; None = a group.
        attributes: the user's attributes.
    """

    folder: Path
    zarr_format: int
    array: dict[str, Any] | None
    attributes: dict[str, Any]


@dataclass(frozen=True)
class StoredArray:
    """The array to read, and what is known of its axes.

    Args:
        node: its node.
        shape: shape on disk.
        dtype: type on disk.
        axes: one letter an axis.
        scale: edge length per stored axis, or None.
        units: unit per stored axis.
    """

    node: Node
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str
    scale: tuple[float, ...] | None
    units: tuple[str | None, ...]


def read_node(folder: Path) -> Node | None:
    """The node in a folder, or None if there is none.

    Raises:
        VolumeError: its metadata are damaged.
    """
    if (folder / "zarr.json").is_file():
        metadata = _json(folder / "zarr.json")
        is_array = metadata.get("node_type") == "array"
        attributes = metadata.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise _damaged_json(folder / "zarr.json", "its attributes are no JSON object")
        return Node(folder, 3, metadata if is_array else None, attributes)
    attributes = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    if (folder / ".zarray").is_file():
        return Node(folder, 2, _json(folder / ".zarray"), attributes)
    return Node(folder, 2, None, attributes) if attributes or (folder / ".zgroup").is_file() else None


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise _damaged_json(file, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged_json(file, "no JSON object")
    return content


def _damaged_json(file: Path, what: str) -> VolumeError:
    return VolumeError(f"{file} is damaged ({what}); write the Zarr store again.")


def find_array(path: str) -> StoredArray:
    """The array that a path means: itself, level 0 of an OME-Zarr group, or the only array of a group.

    Raises:
        VolumeError: there is no node, or several arrays to choose from.
    """
    folder = Path(path)
    node = read_node(folder)
    if node is None:
        raise VolumeError(
            f"{path} is not a Zarr array or group: it has no zarr.json, .zarray or "
            f".zgroup.{_siblings(folder)}"
        )
    if node.array is not None:
        return _level_of_a_group(path, folder) or _plain(path, node)
    if images := _images_in(path, node):
        return _level(path, node, images[0], images[0].levels[0])
    ome = node.attributes.get("ome", node.attributes)
    if isinstance(ome, dict) and "bioformats2raw.layout" in ome:
        return find_array(str(folder / "0"))
    inner = arrays_below(folder)
    if len(inner) == 1:
        return find_array(str(folder / inner[0]))
    if not inner:
        raise VolumeError(f"{path} is a Zarr group without an array; write it again.")
    raise VolumeError(
        f"{path} holds {len(inner)} arrays ({', '.join(inner)}); name one, as in {path}/{inner[0]}."
    )


def arrays_below(folder: Path) -> list[str]:
    """Names of the images (arrays, and groups that hold some) right below a group."""
    return [
        child.name for child in sorted(folder.iterdir()) if child.is_dir() and read_node(child) is not None
    ]


def _siblings(folder: Path) -> str:
    if folder.suffix == ".zarr" or not folder.parent.is_dir():
        return " Write it again."
    close = near_misses(folder.name, arrays_below(folder.parent))
    return f" Did you mean {folder.parent / close[0]}?" if close else " Write it again."


def _plain(path: str, node: Node) -> StoredArray:
    shape, dtype = _shape_and_type(path, node)
    names = (node.array or {}).get("dimension_names") or node.attributes.get("_ARRAY_DIMENSIONS")
    axes = named_axes(names, shape)
    attributes, scale = _attributes(node), None
    for name in _SIZE_ATTRIBUTES:
        values = attributes.get(name)
        if isinstance(values, list) and all(type(value) in (int, float) for value in values):
            scale = _scale_of_spatial(values, axes)
            break
    unit = plain_unit(attributes.get("unit", attributes.get("units")))
    return StoredArray(node, shape, dtype, axes, scale, (unit,) * len(shape))


def _attributes(node: Node) -> dict[str, Any]:
    """Those of an array; where they state no voxel size, also those of its group, if all its arrays are of
    one shape: of a pyramid they would be the finest level's."""
    above = Path(os.path.abspath(node.folder)).parent
    group = None if node.folder.suffix == ".zarr" else read_node(above)
    if group is None or group.array is not None:
        return node.attributes
    if node.attributes.keys() & set(_SIZE_ATTRIBUTES) or not group.attributes.keys() & set(_SIZE_ATTRIBUTES):
        return node.attributes
    beside = [read_node(above / name) for name in arrays_below(above)]
    alike = all(
        (other.array or {}).get("shape") == (node.array or {}).get("shape")
        for other in beside
        if other is not None and other.array is not None
    )
    return {**group.attributes, **node.attributes} if alike else node.attributes


def _scale_of_spatial(values: Sequence[float], axes: str) -> tuple[float, ...] | None:
    """Lengths as given for all axes, or for z, y, x alone, as one an axis."""
    if len(values) == len(axes):
        return tuple(_length(value) for value in values)
    spatial = [axis for axis in "zyx" if axis in axes]
    if len(values) != len(spatial):
        return None
    lengths = dict(zip(spatial, values))
    return tuple(_length(lengths.get(axis, 1.0)) for axis in axes)


def _length(value: float) -> float:
    return float(value) if abs(value) < _LONGEST else math.inf  # JSON has integers of any size


def _images_in(path: str, group: Node) -> list[Multiscale]:
    if "multiscales" not in group.attributes and "ome" not in group.attributes:
        return []
    from skoots.volumes.ngff import multiscales_of  # pydantic loads slowly

    return multiscales_of(path, group.attributes)


def _level_of_a_group(path: str, folder: Path) -> StoredArray | None:
    """An array that a group above it describes as one of its levels; None if there is no such group."""
    folder = Path(os.path.abspath(folder))
    for parent in folder.parents:
        group = read_node(parent)
        if group is not None and group.array is None:
            for image in _images_in(str(parent), group):
                for level in image.levels:
                    if os.path.normpath(parent / level.path) == str(folder):
                        return _level(path, group, image, level)
        if parent.suffix.lower() == ".zarr":
            return None  # the store ends here
    return None


def _level(path: str, group: Node, image: Multiscale, level: Level) -> StoredArray:
    node = read_node(group.folder / level.path)
    if node is None or node.array is None:
        raise VolumeError(
            f"{path} is incomplete: its OME-Zarr level {level.path!r} is missing. Copy or write it again."
        )
    shape, dtype = _shape_and_type(path, node)
    scale, units = image.scale_of(level, len(shape))
    return StoredArray(node, shape, dtype, image.axes_of(shape), scale, units)


def _shape_and_type(path: str, node: Node) -> tuple[tuple[int, ...], np.dtype]:
    metadata = node.array or {}
    shape = integers(metadata.get("shape"))
    name = metadata.get("dtype" if node.zarr_format == 2 else "data_type")
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except TypeError:
        dtype = None
    if shape is None or dtype is None:
        raise VolumeError(
            f"{path} has damaged Zarr metadata, or voxels that are no plain integers or floats (shape "
            f"{metadata.get('shape')!r}, type {name!r}). Write it again."
        )
    return shape, dtype


def integers(value: Any) -> tuple[int, ...] | None:
    """A list of integers of 0 and more; None for anything else."""
    plain = isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)
    return tuple(value) if plain else None


def chunks_of(found: StoredArray, layout: Layout) -> tuple[int, ...] | None:
    """Voxels per spatial axis of what is decoded at once: a chunk, or an inner chunk of a shard; None if the
    metadata do not say."""
    metadata = found.node.array or {}
    stored = integers(metadata.get("chunks") or within(metadata.get("chunk_grid"), "chunk_shape"))
    codecs = metadata.get("codecs")
    for codec in codecs if isinstance(codecs, list) else []:
        if isinstance(codec, dict) and codec.get("name") == "sharding_indexed":
            stored = integers(within(codec, "chunk_shape"))
    if stored is None or len(stored) != len(found.shape):
        return None
    size = math.prod(stored) * found.dtype.itemsize
    # a chunk may reach beyond the array, but not by much; otherwise its size is damage
    if size > max(_CHUNK_BYTES, 8 * math.prod(found.shape) * found.dtype.itemsize):
        raise VolumeError(
            f"{found.node.folder} is damaged: its chunks are {' x '.join(map(str, stored))} voxels and its "
            f"shape is {found.shape}. Write it again."
        )
    return tuple(max(1, stored[axis]) for axis in layout.spatial)


def within(part: Any, key: str) -> Any:
    """A value of the configuration of a codec or grid."""
    configuration = part.get("configuration") if isinstance(part, dict) else None
    return configuration.get(key) if isinstance(configuration, dict) else None


def group_metadata(
    layout: Layout, name: str, voxel_size: Sequence[float] | None, unit: str | None, zarr_format: int
) -> dict[str, dict[str, Any]]:
    """The files of an OME-Zarr group with one level, ``0``: name -> content.

    Args:
        layout: axes, channels first.
        name: name of the image.
        voxel_size: edge lengths, or None.
        unit: their unit, or None.
        zarr_format: 2 writes OME-NGFF 0.4, 3 writes 0.5.
    """
    space: dict[str, Any] = {"type": "space"} | (
        {"unit": NGFF_UNITS.get(unit, unit)} if unit and unit != "px" else {}
    )
    axes = [{"name": axis, **({"type": "channel"} if axis == "c" else space)} for axis in layout.axes]
    lengths = list(voxel_size or (1.0,) * len(layout.shape))
    scale = [1.0] * (len(axes) - len(lengths)) + lengths
    multiscale = {
        "name": name,
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }
    if zarr_format == 2:
        return {".zgroup": {"zarr_format": 2}, ".zattrs": {"multiscales": [{"version": "0.4", **multiscale}]}}
    ome = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    return {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": ome}}
