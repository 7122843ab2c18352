"""What is trained on, and what is held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skoots.api.planning.decision import Decision, some
from skoots.data.hold_out import Cut, best_cut, hold_out_volumes, series_of
from skoots.data.object_geometry import ObjectGeometry
from skoots.geometry import Box

AXES = "zyx"
MANY = 5  # volumes, of which one can be held out as a whole


@dataclass(frozen=True)
class Split:
    """The volumes of a folder, shared out.

    Args:
        train: names of the volumes to train on, or on a part of.
        validation: names of those held out as a whole.
        cuts: where volumes are divided, by name.
        held_out: objects to validate on.
        reason: in a sentence.
    """

    train: list[str]
    validation: list[str]
    cuts: Mapping[str, Cut]
    held_out: int
    reason: str


def choose_split(
    names: Sequence[str],
    shapes: Sequence[Sequence[int]],
    voxel_size: Sequence[float],
    geometries: Sequence[ObjectGeometry],
    seed: int = 0,
) -> Split:
    """Whole volumes are held out where there are many, else a part of each.

    Of few volumes each may show something that no other does: to hold one out would take that from the
    training, and decoders would be chosen by what only that one shows.

    Args:
        names: of the volumes.
        shapes: of the volumes.
        voxel_size: D edge lengths of a voxel.
        geometries: of the volumes' objects.
        seed: of the draw.
    """
    if len(names) >= MANY:
        return _whole_volumes(list(names), geometries, seed)
    found = [best_cut(shape, voxel_size, g.starts, g.stops) for shape, g in zip(shapes, geometries)]
    cuts = {name: cut for name, cut in zip(names, found) if cut is not None}
    if cuts:
        return _parts(list(names), cuts, AXES[-len(shapes[0]) :])
    if len(names) > 1:
        return _whole_volumes(list(names), geometries, seed)
    reason = (
        "The only volume cannot be divided so that both parts hold objects: without --validation DIR nothing "
        "says which snapshot is best."
    )
    return Split(list(names), [], {}, 0, reason)


def _parts(names: list[str], cuts: Mapping[str, Cut], axes: str) -> Split:
    held, divided = sum(cut.held for cut in cuts.values()), sum(cut.divided for cut in cuts.values())
    voxels = sum(cut.validation.size for cut in cuts.values())
    share = 100 * voxels / (voxels + sum(cut.train.size for cut in cuts.values()))
    if len(names) == 1:
        (cut,) = cuts.values()
        what = f"The only volume is divided across {axes[cut.axis]}: {share:.0f} % are held out"
    else:
        what = f"{len(cuts)} of {len(names)} volumes are divided: {share:.0f} % of their voxels are held out"
    divide = "the cut divides" if len(cuts) == 1 else "cuts divide"
    reason = (
        f"{what}, with {some(held, 'object')}, of which {divide} {divided}. --validation DIR names other "
        "volumes."
    )
    return Split(names, [], cuts, held, reason)


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
    return Split(train, held, {}, objects, reason)


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
        here = [name for name, n in zip(split.train, samples) if n == count]
        whole = [name for name in here if name not in split.cuts]
        source = {"path": str(folder), "samples_per_volume": count}
        if whole:
            sources.append({**source, **({} if alone and not split.cuts else {"names": whole}), **kept})
        for name in here:
            if name in split.cuts:
                sources.append({**source, **_box(name, split.cuts[name].train, len(split.train)), **kept})
    few, many = min(samples), max(samples)
    drawn = f"{few}" if few == many else f"{few} to {many}, more where there are more objects"
    decisions = [Decision("data.train", sources, f"Crops that an epoch draws from a volume: {drawn}.")]
    held: list[dict[str, Any]] = []
    if validation is not None:
        held = [{"path": str(validation), **kept}]
    elif split.cuts:
        held = [
            {"path": str(folder), **_box(name, cut.validation, len(split.train)), **kept}
            for name, cut in split.cuts.items()
        ]
    elif split.validation:
        held = [{"path": str(folder), "names": split.validation, **kept}]
    decisions.append(Decision("data.validation", held, split.reason))
    if test is not None:
        decisions.append(Decision("data.test", [{"path": str(test), **kept}], "Scored once, at the end."))
    return decisions


def _box(name: str, box: Box, volumes: int) -> dict[str, Any]:
    """A part of one volume, whose name says itself where it is the only one."""
    return {**({} if volumes == 1 else {"names": [name]}), "box": [list(box.start), list(box.stop)]}
