"""``skoots evaluate``: two label volumes, or two folders of them, to scores."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from skoots.data.predictions import Paired, image_of_labels, looks_grey, pair_folders
from skoots.errors import VolumeError
from skoots.geometry import Box, tile_volume
from skoots.metrics import Overlap, contingency, join, score, stack
from skoots.volumes import open_volume, read_labels

log = logging.getLogger("skoots")
VOXELS_AT_ONCE = 16_000_000


@dataclass(frozen=True)
class Evaluation:
    """How well a prediction agrees with the truth.

    Args:
        scores: every metric by name, see ``skoots.metrics.score``.
        truth: the true labels.
        prediction: the predicted ones.
        volumes: how many were compared.
        pairs: what was compared with what.
        left_out: volumes among the predictions that were compared with nothing, and why.
    """

    scores: dict[str, float]
    truth: str
    prediction: str
    volumes: int = 1
    pairs: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()


def evaluate(
    labels: Path | str, prediction: Path | str, *, min_size: int = 0, ignore_label: int | None = None
) -> Evaluation:
    """Compare predicted labels with true ones.

    Args:
        labels: the true label volume, or a folder of ``NAME.labels.tif``.
        prediction: the predicted one, or a folder of ``NAME.segmentation.tif``, ``NAME.labels.tif`` or
            ``NAME.tif``; scores are pooled.
        min_size: predicted objects of fewer voxels are dropped first.
        ignore_label: true voxels of this id do not count.

    Raises:
        VolumeError: a file cannot be read, a prediction is missing or is the truth itself, shapes differ, or
            labels are no integers.
    """
    truths, predictions = Path(labels), Path(prediction)
    if _is_plain_folder(truths) and _is_plain_folder(predictions):
        paired = pair_folders(truths, predictions)
    else:
        for path in (truths, predictions):
            _check_labels(path)
        paired = Paired(((truths, predictions),), ())
    tables = [overlap_of(truth, found, ignore_label).drop_small(min_size) for truth, found in paired.pairs]
    pairs = tuple((str(truth), str(found)) for truth, found in paired.pairs)
    scores = score(stack(tables))
    return Evaluation(scores, str(labels), str(prediction), len(tables), pairs, paired.left_out)


def _check_labels(path: Path) -> None:
    """Refuse what is an image by its name; warn of what looks like one."""
    beside = image_of_labels(path)
    if beside is not None:
        raise VolumeError(f"{path} is the image of {beside.name} by its name; give its labels.")
    volume = open_volume(path)
    if volume.dtype.kind != "f" and volume.channels in (None, 1) and looks_grey(volume):
        log.warning("%s looks like a grey image; it is taken for labels because it was named.", path)


def overlap_of(truth: Path, prediction: Path, ignore_label: int | None = None) -> Overlap:
    """The contingency table of two volumes, read block by block."""
    a, b = open_volume(truth), open_volume(prediction)
    if a.is_same_array(b):
        raise VolumeError(
            f"{truth} and {prediction} are the same array; labels compared with themselves say nothing."
        )
    if a.shape != b.shape:
        raise VolumeError(f"{truth} has shape {a.shape} and {prediction} has {b.shape}; they must be equal.")
    rest = max(1, Box.of_shape(a.shape[1:]).size)
    core = (max(1, VOXELS_AT_ONCE // rest), *a.shape[1:])
    return join(
        contingency(
            read_labels(a, tile.write, ignore_label=ignore_label), read_labels(b, tile.write), ignore_label
        )
        for tile in tile_volume(a.shape, core)
    )


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not any(part.endswith(".zarr") for part in path.parts)
