"""``skoots evaluate``: two label volumes, or two folders of them, to scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skoots.data.pairs import volume_stem
from skoots.errors import VolumeError
from skoots.geometry import Box, tile_volume
from skoots.metrics import Overlap, contingency, join, score, stack
from skoots.volumes import open_volume, read_labels

VOXELS_AT_ONCE = 16_000_000


@dataclass(frozen=True)
class Evaluation:
    """How well a prediction agrees with the truth.

    Args:
        scores: every metric by name, see ``skoots.metrics.score``.
        truth: the true labels.
        prediction: the predicted ones.
        volumes: how many were compared.
    """

    scores: dict[str, float]
    truth: str
    prediction: str
    volumes: int = 1


def evaluate(
    labels: Path | str, prediction: Path | str, *, min_size: int = 0, ignore_label: int | None = None
) -> Evaluation:
    """Compare predicted labels with true ones.

    Args:
        labels: the true label volume, or a folder of ``NAME.labels.tif``.
        prediction: the predicted one, or a folder of ``NAME.segmentation.tif`` or ``NAME.tif``; scores are
            pooled.
        min_size: predicted objects of fewer voxels are dropped first.
        ignore_label: true voxels of this id do not count.

    Raises:
        VolumeError: a file cannot be read, shapes differ, or labels are no integers.
    """
    pairs = [(Path(labels), Path(prediction))]
    if _is_plain_folder(Path(labels)) and _is_plain_folder(Path(prediction)):
        pairs = list(_pair_folders(Path(labels), Path(prediction)))
    tables = [overlap_of(truth, found, ignore_label).drop_small(min_size) for truth, found in pairs]
    return Evaluation(score(stack(tables)), str(labels), str(prediction), len(tables))


def overlap_of(truth: Path, prediction: Path, ignore_label: int | None = None) -> Overlap:
    """The contingency table of two volumes, read block by block."""
    a, b = open_volume(truth), open_volume(prediction)
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


def _pair_folders(truths: Path, predictions: Path) -> Iterator[tuple[Path, Path]]:
    found = _by_name(predictions, (".segmentation", ".labels", ".label", ""))
    wanted = _by_name(truths, (".labels", ".label"))
    if not wanted:
        raise VolumeError(f"{truths} holds no labels; expected NAME.labels.tif.")
    for name, truth in wanted.items():
        if name not in found:
            raise VolumeError(
                f"{predictions} holds no prediction of {name}; expected {name}.segmentation.tif."
            )
        yield truth, found[name]


def _by_name(folder: Path, marks: tuple[str, ...]) -> dict[str, Path]:
    """Volumes whose name ends in one of the marks, by what comes before; an earlier mark wins."""
    names: dict[str, Path] = {}
    for mark in reversed(marks):
        for path in sorted(folder.iterdir()):
            stem = volume_stem(path)
            if stem is not None and stem.endswith(mark):
                names[stem.removesuffix(mark)] = path
    return names
