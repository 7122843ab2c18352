"""Arrays on disk, read and written by Box: TIFF, Zarr, HDF5, NumPy."""

from skoots.volumes.base import Volume, WritableVolume
from skoots.volumes.formats import check_output, create_volume, open_volume, write_volume
from skoots.volumes.labels import check_labels, read_labels, read_objects
from skoots.volumes.lazy import as_dask

__all__ = [
    "Volume",
    "WritableVolume",
    "as_dask",
    "check_labels",
    "check_output",
    "create_volume",
    "open_volume",
    "read_labels",
    "read_objects",
    "write_volume",
]
