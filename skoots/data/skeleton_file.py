"""Skeleton files, NAME.skeletons.trch: sealed as snapshots are, and believed as far as they can be checked.

A file is what ``torch.save`` writes, with its SHA-256. Files of the original SKOOTS carry none; their archive
has sums of its own, and what they hold is compared with the labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skoots.data.label_index import LabelIndex, labels_at
from skoots.data.trace import radii_about
from skoots.errors import SnapshotError, VolumeError
from skoots.geometry import Box
from skoots.refusals import writing
from skoots.skeletons import Skeletons
from skoots.snapshots.files import checksum, load_safely, replacing, verify
from skoots.volumes import Volume

OURS = "skoots-skeletons-"
FORMAT = f"{OURS}4"
FIELDS = {"ids": torch.int64, "starts": torch.int64, "points": torch.float32, "inscribed": torch.float32}


class UnusableError(Exception):
    """A skeleton file that is to be made again.

    Args:
        reason: what is the matter, after the file's name.
        ours: whether skoots wrote it, so that it may be replaced.
        damaged: whether its bytes are not those that were written.
    """

    def __init__(self, reason: str, ours: bool = True, damaged: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.ours, self.damaged = reason, ours, damaged


def read_skeletons(
    path: Path, labels: Volume, index: LabelIndex, voxel_size: Sequence[float], mark: str
) -> Skeletons:
    """The skeletons in a file; never runs code from it.

    Args:
        path: the file.
        labels: what they must be the skeletons of.
        index: of its objects.
        voxel_size: D edge lengths of a voxel.
        mark: what the file must be marked with, if skoots wrote it.

    Raises:
        UnusableError: it is damaged, or was made for other labels.
        VolumeError: it is another kind of file.
    """
    content = read_content(path)
    if is_ours(content):
        return _from_ours(content, labels.shape, index, mark)
    return _from_original(path, content, labels, index, voxel_size)


def write_skeletons(path: Path, skeletons: Skeletons, mark: str) -> None:
    """Write a file so that its name never holds half of one.

    Args:
        path: the file.
        skeletons: to keep.
        mark: of what they depend on.

    Raises:
        VolumeError: it cannot be written.
    """
    arrays = {key: torch.from_numpy(np.ascontiguousarray(getattr(skeletons, key))) for key in FIELDS}
    with writing(path, VolumeError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, {"format": FORMAT, "fingerprint": mark, **arrays}):
            pass


def read_content(path: Path) -> dict[Any, Any]:
    """The content of a skeleton file whose bytes are as they were written; never runs code from it.

    Raises:
        UnusableError: it is empty or damaged.
        VolumeError: it cannot be read, or is another kind of file.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            beginning = file.read(4096)
    except OSError as error:
        raise VolumeError(f"The skeleton file {path} cannot be read: {error.strerror}.") from error
    if not size:
        raise UnusableError("is empty")
    ours = OURS.encode() in beginning or _is_sealed(path)
    if ours or beginning.startswith(b"PK"):
        try:
            verify(path)
            sealed = _is_sealed(path)
        except SnapshotError:
            raise UnusableError("is damaged", ours, damaged=True) from None
        if ours and not sealed:
            raise UnusableError("carries no checksum (another version wrote it?)")
    try:
        with warnings.catch_warnings():  # what torch says of pickles of other programs: they are refused
            warnings.simplefilter("ignore", UserWarning)
            content = load_safely(path, path)
    except SnapshotError as error:
        raise VolumeError(f"{path} is no skeleton file; delete it to have it made again.") from error
    if not isinstance(content, dict):
        raise VolumeError(
            f"{path} is no skeleton file: expected a dict of id to points; delete it to have it made again."
        )
    tensors = [value for value in content.values() if isinstance(value, torch.Tensor)]
    if not all(map(_is_plain, tensors)) or size < sum(t.numel() * t.element_size() for t in tensors):
        raise VolumeError(
            f"{path} claims to hold more points than fit into it; delete it to have it made again."
        )
    return content


def is_ours(content: dict[Any, Any]) -> bool:
    """Whether skoots wrote a skeleton file, be it another version."""
    return str(content.get("format", "")).startswith(OURS)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds numbers one by one, as NumPy knows them."""
    simple = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return simple and not tensor.is_complex()


def _is_sealed(path: Path) -> bool:
    try:
        checksum(path)
    except SnapshotError:
        return False
    return True


def _from_ours(content: dict[Any, Any], shape: Sequence[int], index: LabelIndex, mark: str) -> Skeletons:
    if content["format"] != FORMAT:
        raise UnusableError("was written by another version")
    if content.get("fingerprint") != mark:
        raise UnusableError("does not fit its labels (they were edited?)")
    arrays = {}
    for key, dtype in FIELDS.items():
        tensor = content.get(key)
        dims = 2 if key == "points" else 1
        if not isinstance(tensor, torch.Tensor) or tensor.dtype != dtype or tensor.ndim != dims:
            raise UnusableError(f"lacks its {key}")
        arrays[key] = tensor.detach().numpy()
    skeletons = Skeletons(**arrays)
    wrong = _fault(skeletons, shape, index)
    if wrong:
        raise UnusableError(wrong)
    return skeletons


def _fault(skeletons: Skeletons, shape: Sequence[int], index: LabelIndex) -> str:
    """What cannot be true of the skeletons of these labels; nothing if all can."""
    ids, starts, points, inscribed = (getattr(skeletons, key) for key in FIELDS)
    if ids.tolist() != list(index.boxes):
        return "holds other objects than its labels"
    if (
        len(starts) != len(ids) + 1
        or starts[0] != 0
        or starts[-1] != len(points)
        or (np.diff(starts) < 1).any()
    ):
        return "shares its points out wrongly"
    if points.shape[1] != len(shape) or not np.isfinite(points).all():
        return "holds points that are none"
    corners = np.array([(box.start, box.stop) for box in index.boxes.values()])
    first, behind = np.repeat(corners, np.diff(starts), axis=0).swapaxes(0, 1)
    if (points < first).any() or (points >= behind).any():
        return "holds points outside of their objects"
    if len(inscribed) != len(ids) or not np.isfinite(inscribed).all() or (inscribed <= 0).any():
        return "holds radii that are none"
    return ""


def from_original_order(points: np.ndarray) -> np.ndarray:
    """(n, 3) points in the original's order (row, column, section) as (section, row, column), our z, y, x."""
    return points[:, [2, 0, 1]]


def _from_original(
    path: Path, content: dict[Any, Any], labels: Volume, index: LabelIndex, voxel_size: Sequence[float]
) -> Skeletons:
    """A file of the original SKOOTS, a dict of id to (n, 3) points."""
    ndim = labels.spatial_dims
    points = {}
    for key, value in content.items():
        fits = isinstance(value, torch.Tensor) and value.ndim == 2 and value.shape[1] == ndim
        if not fits or not isinstance(key, int) or isinstance(key, bool):
            raise VolumeError(f"{path} is no skeleton file: expected ids with (n, {ndim}) points each.")
        array = value.detach().double().numpy()
        points[key] = from_original_order(array) if ndim == 3 else array
    whole = Box.of_shape(labels.shape)
    if set(points) != set(index.boxes) or not all(_inside(p, whole) for p in points.values()):
        raise UnusableError("does not fit its labels (they were edited?)", ours=False)
    rounded = {key: np.rint(p).astype(int) for key, p in points.items()}
    owners = np.repeat(list(rounded), [len(p) for p in rounded.values()])
    found = labels_at(labels, np.concatenate(list(rounded.values())), index.ignore_label)
    if np.mean(found == owners) < 0.5:
        raise UnusableError("does not fit its labels (they were edited?)", ours=False)
    return Skeletons.pack(points, ndim, radii_about(labels, index, rounded, voxel_size))


def _inside(points: np.ndarray, box: Box) -> bool:
    """Whether there are points, and all are numbers whose nearest voxel lies in a box."""
    if not len(points) or not np.isfinite(points).all():
        return False
    nearest = np.rint(points)
    return bool((nearest >= box.start).all() and (nearest < box.stop).all())
