"""``skoots skeletonize``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skoots.cli import console, options
from skoots.terminal import print_summary, wants_bars

if TYPE_CHECKING:
    from skoots.api import SkeletonReport

EXAMPLES = (
    "skoots skeletonize data/train",
    "skoots skeletonize data/train --voxel-size 0.05,0.01,0.01 --overwrite",
)


class Algorithm(str, Enum):
    """How a skeleton is found."""

    thinning = "thinning"
    kimimaro = "kimimaro"


def skeletonize(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds NAME.tif and NAME.labels.tif.", show_default=False)
    ],
    voxel_size: options.VoxelSize = None,
    ignore_label: Annotated[
        int | None, typer.Option("--ignore-label", metavar="ID", help="Label that means: not known.")
    ] = None,
    algorithm: Annotated[
        Algorithm, typer.Option("--algorithm", help="kimimaro needs the extra of that name.")
    ] = Algorithm.thinning,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Trace anew what is up to date, too.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Default: all cores.")
    ] = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Trace the skeletons of a folder of labels.

    Training does it too where they are missing; they are kept beside the labels.
    """
    edges = options.numbers("--voxel-size", voxel_size, float, "0.5,0.1,0.1")
    from skoots import api

    result = api.skeletonize(
        folder,
        voxel_size=edges,
        ignore_label=ignore_label,
        algorithm="kimimaro" if algorithm is Algorithm.kimimaro else "thinning",
        overwrite=overwrite,
        threads=threads,
        progress=wants_bars(quiet),
    )
    print_summary(summary(result))


def summary(result: SkeletonReport) -> str:
    """One line a volume, and what cannot be told apart."""
    heading = ["volume", "objects", "time", "skeletons"]
    rows = [
        [v.name, str(v.objects), console.duration(v.seconds) if v.traced else "-", str(v.path)]
        for v in result.volumes
    ]
    fresh = sum(v.traced for v in result.volumes)
    paragraphs = [
        console.table([heading, *rows], "<>><"),
        f"{console.count(fresh, 'volume')} traced, {len(rows) - fresh} up to date already.",
    ]
    touching = {v.name: v.touching for v in result.volumes if v.touching}
    if touching:
        where = ", ".join(f"{n} in {name}" for name, n in touching.items())
        pairs = console.count(sum(touching.values()), "pair")
        paragraphs.append(f"The skeletons of {pairs} of objects touch ({where}); decoding would merge them.")
    return "\n\n".join(paragraphs)
