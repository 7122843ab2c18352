"""What the JSON of a Zarr store says: which array, its axes and its voxel size.

Follows the Zarr v2 and v3 specifications, OME-NGFF 0.4 (Zarr v2) and 0.5 (v3), and xarray's names of axes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skoots.errors import VolumeError
from skoots.registry import near_misses
from skoots.volumes.layout import Layout, named_axes
from skoots.volumes.units import NGFF_UNITS, plain_unit

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
        return Node(folder, 3, metadata if is_array else None, metadata.get("attributes") or {})
    attributes = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    if (folder / ".zarray").is_file():
        return Node(folder, 2, _json(folder / ".zarray"), attributes)
    return Node(folder, 2, None, attributes) if attributes or (folder / ".zgroup").is_file() else None


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise VolumeError(f"{file} is damaged ({error}); write the Zarr store again.") from error
    if not isinstance(content, dict):
        raise VolumeError(f"{file} is damaged (no JSON object); write the Zarr store again.")
    return content


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
        return _plain(path, node)
    ome = node.attributes.get("ome", node.attributes)
    if not isinstance(ome, dict):
        ome = {}
    multiscales = ome.get("multiscales")
    if multiscales:
        return _finest_level(path, node, multiscales[0])
    if "bioformats2raw.layout" in ome:
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
    scale = None
    for name in _SIZE_ATTRIBUTES:
        values = node.attributes.get(name)
        if isinstance(values, list) and all(isinstance(value, (int, float)) for value in values):
            scale = _scale_of_spatial(values, axes)
            break
    unit = plain_unit(node.attributes.get("unit", node.attributes.get("units")))
    return StoredArray(node, shape, dtype, axes, scale, (unit,) * len(shape))


def _scale_of_spatial(values: Sequence[float], axes: str) -> tuple[float, ...] | None:
    """Lengths as given for all axes, or for z, y, x alone, as one an axis."""
    if len(values) == len(axes):
        return tuple(float(value) for value in values)
    spatial = [axis for axis in "zyx" if axis in axes]
    if len(values) != len(spatial):
        return None
    lengths = dict(zip(spatial, values))
    return tuple(float(lengths.get(axis, 1.0)) for axis in axes)


def _finest_level(path: str, group: Node, multiscale: dict[str, Any]) -> StoredArray:
    try:
        level = multiscale["datasets"][0]
        node = read_node(group.folder / level["path"])
    except (LookupError, TypeError) as error:
        raise VolumeError(
            f"{path} has damaged OME-Zarr metadata: its multiscales name no data set. Write it again."
        ) from error
    if node is None or node.array is None:
        raise VolumeError(
            f"{path} is incomplete: its OME-Zarr level {level['path']!r} is missing. Copy or write it again."
        )
    shape, dtype = _shape_and_type(path, node)
    described = multiscale.get("axes") or []
    axes = named_axes([axis.get("name") if isinstance(axis, dict) else axis for axis in described], shape)
    units = tuple(plain_unit(axis.get("unit")) if isinstance(axis, dict) else None for axis in described)
    units = units if len(units) == len(shape) else (None,) * len(shape)
    scale = np.ones(len(shape))
    for holder in (multiscale, level):
        for transformation in holder.get("coordinateTransformations") or []:
            if transformation.get("type") == "scale" and len(transformation.get("scale") or []) == len(shape):
                scale = scale * np.asarray(transformation["scale"], float)
    # a scale is obligatory there, so 1 without a unit is what those write who know none
    known = any(units) or bool((scale != 1).any())
    return StoredArray(node, shape, dtype, axes, tuple(float(s) for s in scale) if known else None, units)


def _shape_and_type(path: str, node: Node) -> tuple[tuple[int, ...], np.dtype]:
    metadata = node.array or {}
    try:
        name = metadata["dtype"] if node.zarr_format == 2 else metadata["data_type"]
        return tuple(int(n) for n in metadata["shape"]), np.dtype(name)
    except (KeyError, TypeError, ValueError) as error:
        raise VolumeError(
            f"{path}: its Zarr metadata have no shape or type that can be read ({error}); voxels must be "
            "plain integers or floats."
        ) from error


def chunks_of(found: StoredArray, layout: Layout) -> tuple[int, ...] | None:
    """Voxels per spatial axis of what is decoded at once: a chunk, or an inner chunk of a shard; None if the
    metadata do not say."""
    metadata = found.node.array or {}
    try:
        chunks = metadata.get("chunks") or metadata["chunk_grid"]["configuration"]["chunk_shape"]
        for codec in metadata.get("codecs") or []:
            if codec.get("name") == "sharding_indexed":
                chunks = codec["configuration"]["chunk_shape"]
        return tuple(max(1, int(chunks[axis])) for axis in layout.spatial)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


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
