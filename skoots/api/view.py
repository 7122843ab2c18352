"""``skoots view``: a volume and its labels in napari (the extra ``napari``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skoots.errors import SkootsError
from skoots.volumes import open_volume, read_labels


def view(
    volume: Path | str, labels: Sequence[Path | str] = (), *, voxel_size: Sequence[float] | None = None
) -> None:
    """Open napari with an image and label layers in physical proportion; returns when its window is closed.

    Args:
        volume: the image.
        labels: label volumes to lay over it.
        voxel_size: edge lengths of a voxel, if the file says none or wrong ones.

    Raises:
        SkootsError: napari is not installed, or a volume cannot be read.
    """
    try:
        import napari
    except ImportError as error:
        raise SkootsError("Looking at volumes needs napari: pip install 'skoots[napari]'.") from error
    image = open_volume(volume, voxel_size=voxel_size)
    overlays = [open_volume(path, voxel_size=voxel_size) for path in labels]
    scale = image.voxel_size or (1.0,) * image.spatial_dims
    viewer = napari.Viewer(title=f"skoots: {image.path}")
    channel_axis = None if image.channels is None else 0
    viewer.add_image(image.read_all(), name=Path(image.path).name, scale=scale, channel_axis=channel_axis)
    for overlay in overlays:
        viewer.add_labels(read_labels(overlay), name=Path(overlay.path).name, scale=scale)
    napari.run()
