"""Which prediction belongs to which true labels, where both are folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np

from skoots.data.pairs import LABEL_MARKS, PREDICTION_MARK, find_labels, volume_stem
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import Volume, open_volume

LOOKED_AT = (32, 256, 256)


@dataclass(frozen=True)
class Paired:
    """What is compared with what.

    Args:
        pairs: true labels and their prediction.
        left_out: volumes in the folder of predictions that are compared with nothing, each with the reason.
    """

    pairs: tuple[tuple[Path, Path], ...]
    left_out: tuple[str, ...]


def pair_folders(truths: Path, predictions: Path) -> Paired:
    """Pair volumes by name.

    ``NAME.labels.tif`` belongs to ``NAME.segmentation.tif``, else to the ``NAME.labels.tif`` or ``NAME.tif``
    of another folder, if that holds labels.

    Args:
        truths: a folder of true labels.
        predictions: a folder of predictions; it may be the same one.

    Raises:
        VolumeError: there are no true labels, or one of them has no prediction or two.
    """
    wanted = find_labels(truths)
    if not wanted:
        raise VolumeError(f"{truths} holds no labels; expected NAME.labels.tif.")
    chosen: dict[str, Path] = {}
    left_out: list[str] = []
    marks = (PREDICTION_MARK, *LABEL_MARKS, "")
    by_mark = {mark: _volumes_marked(predictions, mark) for mark in marks}
    for mark, found in by_mark.items():
        for name, path in found.items():
            if name in chosen:
                why = f"{chosen[name].name} is taken"
            else:
                why = _why_not(path, mark, name, wanted)
            if why:
                left_out.append(f"{path.name}: {why}")
            else:
                chosen[name] = path
    missing = [name for name in wanted if name not in chosen]
    if missing:
        more = f" Left out: {'; '.join(left_out)}." if left_out else ""
        raise VolumeError(
            f"{predictions} holds no prediction of {', '.join(missing)}; expected "
            f"{missing[0]}{PREDICTION_MARK}.tif.{more}"
        )
    return Paired(tuple((truth, chosen[name]) for name, truth in wanted.items()), tuple(left_out))


def _volumes_marked(folder: Path, mark: str) -> dict[str, Path]:
    """Volumes whose name ends in a mark, by what comes before; without a mark, those that have none."""
    names: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = volume_stem(path)
        marked = (PREDICTION_MARK, *LABEL_MARKS)
        if stem is None or (not stem.endswith(mark) if mark else stem.endswith(marked)):
            continue
        name = stem.removesuffix(mark)
        if name in names:
            raise VolumeError(f"{names[name]} and {path} are both {name}{mark}; keep one of them.")
        names[name] = path
    return names


def _why_not(path: Path, mark: str, name: str, wanted: Mapping[str, Path]) -> str:
    """Why a volume is no prediction; nothing if it is one."""
    if name not in wanted:
        return f"there are no true labels of {name}"
    volume = open_volume(path)
    if volume.is_same_array(open_volume(wanted[name])):
        return "it is the true labels themselves"
    if mark:
        return ""
    return why_no_labels(path, volume)


def why_no_labels(path: Path, volume: Volume) -> str:
    """Why a volume whose name does not say that it holds labels holds none; nothing if it may."""
    image_of = image_of_labels(path)
    if image_of is not None:
        return f"it is the image of {image_of.name}"
    if volume.dtype.kind == "f" or (volume.channels or 1) > 1:
        return f"it holds no integer labels but {volume.channels or 1} x {volume.dtype}"
    if looks_grey(volume):
        return f"it looks like a grey image; if it holds labels, call it {volume_stem(path)}{PREDICTION_MARK}"
    return ""


def image_of_labels(path: Path) -> Path | None:
    """The labels beside an image, as training pairs them; None if a volume is no such image."""
    stem = volume_stem(path)
    if stem is None or stem.endswith((PREDICTION_MARK, *LABEL_MARKS)) or not path.parent.is_dir():
        return None
    beside = {volume_stem(other): other for other in sorted(path.parent.iterdir())}
    return next((beside[stem + mark] for mark in LABEL_MARKS if stem + mark in beside), None)


def looks_grey(volume: Volume) -> bool:
    """Whether integers look like grey values: equal neighbours are rare, or one value lies in many places.

    Labels are few values, most of them in one piece of many voxels. The middle of the volume is looked at.

    Args:
        volume: of one channel.
    """
    core = [min(n, most) for n, most in zip(volume.shape, LOOKED_AT[-volume.spatial_dims :])]
    start = [(n - c) // 2 for n, c in zip(volume.shape, core)]
    values = volume.read(Box(tuple(start), tuple(a + c for a, c in zip(start, core)))).reshape(core)
    numbers, compact = np.unique(values, return_inverse=True)
    ids = len(numbers) - int(0 in numbers)
    if ids <= 2:  # a mask
        return False
    compact = (compact.reshape(core) + 1) * (values != 0)
    _, pieces = cc3d.connected_components(
        compact.astype(np.uint32), connectivity=26 if values.ndim == 3 else 8, return_N=True
    )
    return pieces > 20 * ids or int((values != 0).sum()) < 8 * pieces
