"""What is trained on, and what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skoots.api.planning.decision import Decision, some
from skoots.data.hold_out import Cut, best_cut, hold_out_volumes, series_of
from skoots.data.object_geometry import ObjectGeometry
from skoots.geometry import Box

AXES = "zyx"


@dataclass(frozen=True)
class Split:
    """The volumes of a folder, shared out.

    Args:
        train: names of the volumes to train on.
        validation: names of those held out.
        cut: where the only volume is divided.
        held_out: objects to validate on.
        reason: in a sentence.
    """

    train: list[str]
    validation: list[str]
    cut: Cut | None
    held_out: int
    reason: str


def choose_split(
    names: Sequence[str],
    shapes: Sequence[Sequence[int]],
    voxel_size: Sequence[float],
    geometries: Sequence[ObjectGeometry],
    seed: int = 0,
) -> Split:
    """Whole volumes are held out where there are several, else a part of the only one.

    Args:
        names: of the volumes.
        shapes: of the volumes.
        voxel_size: D edge lengths of a voxel.
        geometries: of the volumes' objects.
        seed: of the draw.
    """
    if len(names) > 1:
        return _whole_volumes(list(names), geometries, seed)
    cut = best_cut(shapes[0], voxel_size, geometries[0].starts, geometries[0].stops)
    if cut is None:
        reason = (
            "The only volume cannot be divided so that both parts hold objects: without --validation DIR "
            "nothing "
            "says which snapshot is best."
        )
        return Split(list(names), [], None, 0, reason)
    axis = AXES[-len(shapes[0]) :][cut.axis]
    share = 100 * cut.validation.size / (cut.train.size + cut.validation.size)
    reason = (
        f"The only volume is divided across {axis}: {share:.0f} % are held out, with "
        f"{some(cut.held, 'object')}, of "
        f"which the cut divides {cut.divided}. --validation DIR names other volumes."
    )
    return Split(list(names), [], cut, cut.held, reason)


def _whole_volumes(names: list[str], geometries: Sequence[ObjectGeometry], seed: int) -> Split:
    held = hold_out_volumes(names, seed)
    train = [name for name in names if name not in held]
    objects = sum(len(geometry) for name, geometry in zip(names, geometries) if name in held)
    series = dict(zip(names, series_of(names)))
    whole = (
        ""
        if len(set(series.values())) == len(names)
        else (
            f", the whole series {' and '.join(sorted({series[name] for name in held}))}, since volumes of "
            "one series resemble "
            "each other"
        )
    )
    reason = (
        f"{len(held)} of {len(names)} volumes are held out, with {some(objects, 'object')}{whole}. "
        "--validation DIR names "
        "others."
    )
    return Split(train, held, None, objects, reason)


def decide_sources(
    folder: Path | str,
    split: Split,
    samples: Sequence[int],
    validation: Path | str | None,
    test: Path | str | None,
    store: str,
) -> list[Decision]:
    """The sections ``train``, ``validation`` and ``test``.

    Args:
        folder: of the training data.
        split: of its volumes.
        samples: of each training volume.
        validation: folder of its own, or None.
        test: folder of held-out volumes, or None.
        store: ``memory`` or ``disk``, of all sections.
    """
    kept = {} if store == "memory" else {"store": store}
    alone = len(set(samples)) == 1 and not split.validation
    sources = []
    for count in sorted(set(samples)):
        source: dict[str, Any] = {"path": str(folder), "samples_per_volume": count}
        if not alone:
            source["names"] = [name for name, n in zip(split.train, samples) if n == count]
        if split.cut is not None:
            source["box"] = _corners(split.cut.train)
        sources.append({**source, **kept})
    few, many = min(samples), max(samples)
    drawn = f"{few}" if few == many else f"{few} to {many}, more where there are more objects"
    decisions = [Decision("data.train", sources, f"Crops that an epoch draws from a volume: {drawn}.")]
    held: list[dict[str, Any]] = []
    if validation is not None:
        held = [{"path": str(validation), **kept}]
    elif split.cut is not None:
        held = [{"path": str(folder), "box": _corners(split.cut.validation), **kept}]
    elif split.validation:
        held = [{"path": str(folder), "names": split.validation, **kept}]
    decisions.append(Decision("data.validation", held, split.reason))
    if test is not None:
        decisions.append(Decision("data.test", [{"path": str(test), **kept}], "Scored once, at the end."))
    return decisions


def _corners(box: Box) -> list[list[int]]:
    return [list(box.start), list(box.stop)]
