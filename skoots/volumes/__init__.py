"""Arrays on disk, read by Box: TIFF, Zarr, HDF5, NumPy."""
