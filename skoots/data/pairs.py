"""What lies in a folder of training data: images, their labels and their skeletons."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes.hdf5 import dataset_names, split_name

LABEL_MARKS = (".labels", ".label")
PREDICTION_MARK = ".segmentation"
HDF5_EXTENSIONS = (".h5", ".hdf5", ".hdf")
EXTENSIONS = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".zarr", ".ome.zarr", ".npy", *HDF5_EXTENSIONS)
# data sets of an HDF5 file that holds both: ours, PlantSeg's and ilastik's, CREMI's
IMAGE_SETS = ("image", "raw", "volumes/raw")
LABEL_SETS = ("labels", "label", "volumes/labels/neuron_ids")
SKELETON_SUFFIX = ".skeletons.trch"


@dataclass(frozen=True)
class Pair:
    """An image and its labels.

    Args:
        name: what both file names begin with.
        image: path of the image.
        labels: path of the labels.
    """

    name: str
    image: Path
    labels: Path

    @property
    def skeletons(self) -> Path:
        """Where the skeletons lie or will lie."""
        return self.skeletons_of(None)

    def skeletons_of(self, box: Box | None) -> Path:
        """Where those of a part of the volume lie or will lie; None is the whole."""
        corners = () if box is None else (box.start, box.stop)
        part = "_".join("-".join(map(str, corner)) for corner in corners)
        name = f"{self.name}.{part}" if part else self.name
        return _file_of(self.labels).parent / f"{name}{SKELETON_SUFFIX}"


def find_pairs(folder: Path | str) -> list[Pair]:
    """Images with labels: ``NAME.tif`` with ``NAME.labels.tif`` or ``NAME.label.tif``; so Zarr, HDF5, NumPy.

    An HDF5 file may hold both, as the data sets ``/image`` and ``/labels`` (or ``/raw`` and ``/label``).

    Args:
        folder: where to look; its subfolders are not searched.

    Raises:
        VolumeError: no such folder, no image with labels, or labels without their image.
    """
    folder = _existing(folder)
    images, labels = _sort_files(folder)
    orphans = sorted(set(labels) - set(images))
    if orphans:
        raise VolumeError(f"{labels[orphans[0]]} has no image beside it; expected {folder / orphans[0]}.tif.")
    pairs = [Pair(name, images[name], labels[name]) for name in sorted(labels)]
    if not pairs and images:
        first = sorted(images)[0]
        raise VolumeError(
            f"{folder} holds {len(images)} images and no labels; training needs for instance "
            f"{first}.labels.tif beside {_file_of(images[first]).name}."
        )
    if not pairs:
        raise VolumeError(
            f"{folder} holds no images; expected NAME.tif with NAME.labels.tif (or .zarr, .h5, .npy)."
        )
    return pairs


def find_images(folder: Path | str) -> dict[str, Path]:
    """Images without labels by name: what a folder of background holds.

    Args:
        folder: where to look; its subfolders are not searched.

    Raises:
        VolumeError: no such folder, no image, or labels among them.
    """
    folder = _existing(folder)
    images, labels = _sort_files(folder)
    if labels:
        raise VolumeError(
            f"{next(iter(labels.values()))} are labels, but {folder} is to hold images without objects; "
            "list a folder with labels under data.train."
        )
    if not images:
        raise VolumeError(f"{folder} holds no images; expected NAME.tif (or .zarr, .h5, .npy).")
    return dict(sorted(images.items()))


def find_labels(folder: Path | str) -> dict[str, Path]:
    """Labels by name, also those without an image.

    Args:
        folder: where to look; its subfolders are not searched.

    Raises:
        VolumeError: no such folder, or two of one name.
    """
    return dict(sorted(_sort_files(_existing(folder))[1].items()))


def _existing(folder: Path | str) -> Path:
    folder = Path(os.path.expanduser(folder))
    if not os.path.isdir(folder):
        raise VolumeError(f"Folder {folder} does not exist.{_similar(folder)}")
    return folder


def _sort_files(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = volume_stem(path)
        if stem is None:
            continue
        mark = next((m for m in LABEL_MARKS if stem.endswith(m)), None)
        if mark is None and f"{PREDICTION_MARK}." in f"{stem}.":  # what `segment` wrote is no image
            continue
        kind, name = (labels, stem.removesuffix(mark)) if mark else (images, stem)
        if name in kind:
            raise VolumeError(
                f"{kind[name]} and {path} are both {'labels' if mark else 'images'} of {name!r}; keep one."
            )
        kind[name] = path
    _look_into_hdf5(images, labels)
    return images, labels


def _look_into_hdf5(images: dict[str, Path], labels: dict[str, Path]) -> None:
    """Name the data sets that are meant, where an HDF5 file holds several."""
    for name, path in images.items():
        inside = _data_set(path, LABEL_SETS)
        if inside is not None and name not in labels:
            labels[name] = inside
        images[name] = _data_set(path, IMAGE_SETS) or path
    for name, path in labels.items():
        labels[name] = _data_set(path, LABEL_SETS) or path


def _data_set(path: Path, names: Sequence[str]) -> Path | None:
    """The first of some data sets that an HDF5 file has; None for other files."""
    if path.suffix.lower() not in HDF5_EXTENSIONS:
        return None
    found = dataset_names(str(path))
    return next((Path(f"{path}:/{name}") for name in names if name in found), None)


def _file_of(path: Path) -> Path:
    """The file of ``file.h5:/dataset``; any other path as it is."""
    split = split_name(str(path))
    return path if split is None else Path(split[0])


def volume_stem(path: Path) -> str | None:
    """File name without its extension, None for files that are no volumes."""
    for extension in sorted(EXTENSIONS, key=len, reverse=True):
        if path.name.lower().endswith(extension) and not path.name.startswith("."):
            return path.name[: -len(extension)]
    return None


def _similar(folder: Path) -> str:
    if not os.path.isdir(folder.parent):
        return ""
    names = [p.name for p in folder.parent.iterdir() if p.is_dir()]
    close = difflib.get_close_matches(folder.name, names, 1)
    return f" Did you mean {folder.parent / close[0]}?" if close else ""
