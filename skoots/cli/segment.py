"""``skoots segment``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from skoots.cli import console, options
from skoots.terminal import print_summary, wants_bars

if TYPE_CHECKING:
    from skoots.api import Segmentation

NormalizeBy = Literal["volume", "training"]
EXAMPLES = (
    "skoots segment cell7.tif --snapshot runs/mito",
    "skoots segment cell7.zarr --snapshot runs/mito:best -o cell7.labels.zarr --maps",
    "skoots segment cell7.tif --snapshot mito.pt --voxel-size 0.05,0.01,0.01 --set min_size=50",
)

FORMATS = "TIFF, Zarr, NumPy, or HDF5 as file.h5:/dataset."


def segment(
    volume: Annotated[Path, typer.Argument(metavar="VOLUME", help=FORMATS, show_default=False)],
    snapshot: options.Snapshot,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A .tif, .zarr, .npy or file.h5:/dataset; default: NAME.segmentation beside the volume.",
        ),
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Write the outputs of the heads too.")] = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    voxel_size: options.VoxelSize = None,
    tile: Annotated[
        str | None, typer.Option("--tile", metavar="Z,Y,X", help="Voxels that are predicted at once.")
    ] = None,
    decoding: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A decoding setting, e.g. min_size=50; repeatable."),
    ] = None,
    normalize_by: Annotated[
        NormalizeBy | None,
        typer.Option(
            "--normalize-by",
            help="Whose intensity statistics are applied: the volume's own, or those of the training; "
            "default: as the model was trained.",
        ),
    ] = None,
    weights: options.Weights = "auto",
    plugin: options.Plugins = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Label the objects of a volume.

    Nothing that exists is replaced unless you say so, and the result does not depend on the tiles.
    """
    edges = options.numbers("--voxel-size", voxel_size, float, "0.5,0.1,0.1")
    window = options.numbers("--tile", tile, int, "32,256,256")
    changed = options.settings("--set", decoding)
    from skoots import api

    result = api.segment(
        volume,
        snapshot,
        output,
        maps=maps,
        overwrite=overwrite,
        device=device,
        voxel_size=edges,
        tile=window,
        decoding=changed or None,
        normalize_by=normalize_by,
        weights=weights,
        plugins=plugin or (),
        progress=wants_bars(quiet),
    )
    print_summary(summary(result))


def summary(result: Segmentation) -> str:
    """What was found, where it lies and what to type next."""
    voxels = " x ".join(map(str, result.shape))
    objects = console.count(result.objects, "object")
    found = f"{objects} in {voxels} voxels, found in {console.duration(result.seconds)}."
    maps = {f"Map {name}": path for name, path in result.maps.items()}
    lying = console.places({"Labels": result.output, **maps})
    return "\n\n".join([found, lying, console.next_command("evaluate", "LABELS", result.output)])
