"""``skoots view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skoots.cli import options

EXAMPLES = (
    "skoots view image.tif image.segmentation.tif",
    "skoots view image.zarr --voxel-size 50,9.2,9.2",
)


def view(
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help="The image.", show_default=False)],
    labels: Annotated[
        list[Path] | None, typer.Argument(metavar="[LABELS]...", help="Label volumes to lay over it.")
    ] = None,
    voxel_size: options.VoxelSize = None,
    debug: options.Debug = False,
) -> None:
    """Look at a volume and its labels in napari."""
    edges = options.numbers("--voxel-size", voxel_size, float, "0.5,0.1,0.1")
    from skoots import api

    api.view(volume, labels or (), voxel_size=edges)
