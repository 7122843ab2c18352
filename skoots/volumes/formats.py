"""Which format a path means, and the verbs on it: open, create, write, check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.refusals import MEMORY, reading, writing
from skoots.registry import near_misses
from skoots.unfinished import Unfinished
from skoots.volumes.base import Volume, WritableVolume
from skoots.volumes.hdf5 import dataset_exists, split_name
from skoots.volumes.layout import Layout
from skoots.volumes.output import check_folder, exists_error
from skoots.volumes.zarr_metadata import read_node

SUPPORTED = "TIFF (.tif, .tiff), Zarr and OME-Zarr (.zarr), HDF5 (file.h5:/dataset) and NumPy (.npy)"

Format = Literal["tiff", "zarr", "hdf5", "numpy"]
_SUFFIXES: dict[str, Format] = {".tif": "tiff", ".tiff": "tiff", ".npy": "numpy", ".zarr": "zarr"}


def format_of(path: str) -> Format | None:
    """The format that a path means by its name, or, for a folder, by what lies in it."""
    if split_name(path) is not None:
        return "hdf5"
    if any(part.lower().endswith(".zarr") for part in Path(path).parts):
        return "zarr"
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES and Path(path).is_dir() and read_node(Path(path)) is not None:
        return "zarr"
    return _SUFFIXES.get(suffix)


def open_volume(
    path: str | Path, *, voxel_size: Sequence[float] | None = None, axes: str | None = None
) -> Volume:
    """Open an image or label array for reading; no voxel is read yet.

    Args:
        path: ``.tif``/``.tiff`` (OME-TIFF, ImageJ), a ``.zarr`` folder or an array inside one
            (``store.zarr/inner/array``), ``file.h5:/dataset`` or ``.npy``.
        voxel_size: edge lengths of a voxel, z y x (2D: y x), that win over those of the file.
        axes: axes in the order of the file, e.g. ``zcyx``, where the file names them wrongly or not at all.

    Raises:
        VolumeError: the file is missing, damaged, of an unknown kind, or holds no 2D or 3D image.
    """
    path = str(path)
    kind = format_of(path)
    if kind is None:
        _check_exists(path)
        raise VolumeError(f"{path} is of a kind that skoots does not read; it reads {SUPPORTED}. Convert it.")
    file = (split_name(path) or (path, None))[0]
    _check_exists(file)
    if Path(file).is_dir() != (kind == "zarr"):
        what, wanted = ("a folder", "a file") if Path(file).is_dir() else ("a file", "a Zarr folder")
        raise VolumeError(f"{file} is {what}, where its name says {wanted}; check the path.")
    try:
        with reading(file, VolumeError):
            return _reader(kind)(path, axes, voxel_size)
    except MemoryError as error:
        raise VolumeError(
            f"{file} asks for more memory than there is. {MEMORY} If it is a small file, it is damaged."
        ) from error
    except OSError as error:
        raise VolumeError(
            f"{file} cannot be read: {error.strerror or error}. Check its permissions."
        ) from error


def _reader(kind: Format) -> Callable[[str, str | None, Sequence[float] | None], Volume]:
    """The reading class of a format, imported when it is needed."""
    if kind == "tiff":
        from skoots.volumes.tiff import TiffVolume

        return TiffVolume
    if kind == "zarr":
        from skoots.volumes.zarr import ZarrVolume

        return ZarrVolume
    if kind == "hdf5":
        from skoots.volumes.hdf5 import HDF5Volume

        return HDF5Volume
    from skoots.volumes.memory import NumpyVolume

    return NumpyVolume


def _check_exists(path: str) -> None:
    file = Path(path)
    if file.exists():
        return
    folder = file.parent
    if not folder.is_dir():
        raise VolumeError(f"{path} does not exist, nor does its folder {folder}; check the path.")
    names = [entry.name for entry in folder.iterdir()]
    close = near_misses(file.name, names)
    hint = f"did you mean {' or '.join(close)}?" if close else "check the path."
    raise VolumeError(f"{path} does not exist; {hint}")


def check_output(path: str | Path, overwrite: bool = False) -> None:
    """Say before any work whether a volume can be written to a path.

    Args:
        path: the output, as for ``create_volume``.
        overwrite: whether it may replace a volume that is there.

    Raises:
        VolumeError: the format is unknown, the output exists, or its folder is not writable.
    """
    path = str(path)
    kind = format_of(path)
    if kind is None:
        raise VolumeError(
            f"{path} names no format that skoots writes; it writes {SUPPORTED}. End the name accordingly."
        )
    file = Path((split_name(path) or (path, None))[0])
    if dataset_exists(path) if kind == "hdf5" else file.exists():
        if not overwrite:
            raise exists_error(path)
        # a folder is only replaced where it surely is a Zarr store: anything else may be somebody's work
        if file.is_dir() and (kind != "zarr" or read_node(file) is None):
            raise VolumeError(
                f"{path} is a folder that is no Zarr store and is not overwritten; choose another path."
            )
    check_folder(file)


def create_volume(
    path: str | Path,
    shape: Sequence[int],
    dtype: np.dtype | type | str,
    voxel_size: Sequence[float] | None = None,
    unit: str | None = None,
    channels: int | None = None,
    chunks: Sequence[int] | None = None,
    overwrite: bool = False,
    zarr_format: Literal[2, 3] = 2,
) -> WritableVolume:
    """Begin a volume that is written by box; it appears under its name when it is closed.

    Args:
        path: ``.zarr`` (an OME-Zarr group with one level), ``.tif`` (uncompressed OME-TIFF, BigTIFF where
            needed), ``file.h5:/dataset`` or ``.npy`` (which cannot keep the voxel size).
        shape: spatial shape, (Z, Y, X) or (Y, X).
        dtype: integer or float of 8 to 64 bit.
        voxel_size: edge lengths of a voxel, z y x; None = unknown.
        unit: their unit, e.g. ``nm`` or ``um``.
        channels: number of channels; None = no channel axis.
        chunks: spatial shape of a chunk (Zarr, HDF5); None = chosen.
        overwrite: whether it may replace a volume that is there.
        zarr_format: 2 writes OME-NGFF 0.4, 3 writes 0.5.

    Raises:
        VolumeError: see ``check_output``.
    """
    path = str(path)
    check_output(path, overwrite)
    layout, dtype = _output_layout(path, shape, channels), np.dtype(dtype)
    stored_chunks = None
    if chunks is not None:
        inner = tuple(max(1, min(int(n), size)) for n, size in zip(chunks, layout.shape))
        stored_chunks = (1,) * (len(layout.axes) - len(inner)) + inner
    kind = format_of(path)
    target = None
    with writing(path, VolumeError):
        _make_folder_of(path)
        try:
            if kind == "hdf5":
                from skoots.volumes.hdf5_output import HDF5Output

                return HDF5Output(path, layout, dtype, voxel_size, unit, stored_chunks, overwrite)
            target = Unfinished(Path(path), overwrite, VolumeError)
            if kind == "zarr":
                from skoots.volumes.zarr import ZarrOutput

                return ZarrOutput(target, layout, dtype, voxel_size, unit, stored_chunks, zarr_format)
            if kind == "tiff":
                from skoots.volumes.tiff import TiffOutput

                return TiffOutput(target, layout, dtype, voxel_size, unit)
            from skoots.volumes.memory import NumpyOutput

            return NumpyOutput(target, layout, dtype)
        except BaseException:
            if target is not None:
                target.remove()
            raise


def write_volume(
    path: str | Path,
    array: np.ndarray,
    voxel_size: Sequence[float] | None = None,
    unit: str | None = None,
    channels: int | None = None,
    chunks: Sequence[int] | None = None,
    overwrite: bool = False,
    zarr_format: Literal[2, 3] = 2,
    compress: bool = True,
) -> None:
    """Write a whole array at once.

    Args:
        path: as for ``create_volume``, and so are the other arguments.
        array: (*S), or (C, *S) if ``channels`` is given.
        voxel_size: edge lengths of a voxel, z y x; None = unknown.
        unit: their unit.
        channels: length of the first axis, if that is the channel axis; None = no channel axis.
        chunks: spatial shape of a chunk.
        overwrite: whether it may replace a volume that is there.
        zarr_format: 2 writes OME-NGFF 0.4, 3 writes 0.5.
        compress: TIFF only: compress with zlib. Zarr and HDF5 are always compressed, NumPy files never.

    Raises:
        VolumeError: see ``check_output``.
    """
    shape = array.shape if channels is None else array.shape[1:]
    if channels is not None and array.shape[0] != channels:
        raise ValueError(f"an array of shape {array.shape} does not begin with {channels} channels")
    if compress and format_of(str(path)) == "tiff":
        from skoots.volumes.tiff import write_compressed

        check_output(path, overwrite)
        layout = _output_layout(str(path), shape, channels)
        with writing(path, VolumeError):
            _make_folder_of(str(path))
            with Unfinished(Path(path), overwrite, VolumeError) as target:
                write_compressed(target, array, layout, voxel_size, unit)
        return
    with create_volume(
        path, shape, array.dtype, voxel_size, unit, channels, chunks, overwrite, zarr_format
    ) as volume:
        volume.write(Box.of_shape(shape), array)


def _make_folder_of(path: str) -> None:
    Path((split_name(path) or (path, None))[0]).parent.mkdir(parents=True, exist_ok=True)


def _output_layout(path: str, shape: Sequence[int], channels: int | None) -> Layout:
    if len(shape) not in (2, 3):
        raise VolumeError(
            f"{path}: a volume has 2 or 3 spatial dimensions, not {len(shape)} (shape {tuple(shape)})."
        )
    first = () if channels is None else (int(channels),)
    stored = (*first, *(int(n) for n in shape))
    return Layout(stored, tuple(range(len(first), len(stored))), None if channels is None else 0)
