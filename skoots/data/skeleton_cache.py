"""Skeletons beside their labels: computed once, read afterwards, noticed when the labels have changed."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from skoots.data.label_index import LabelIndex, labels_at
from skoots.data.trace import radii_about, trace_volume
from skoots.errors import VolumeError
from skoots.refusals import writing
from skoots.runtime import user_cache
from skoots.skeletons import Skeletons
from skoots.skeletons.skeletonize import Algorithm
from skoots.unfinished import Unfinished
from skoots.volumes import Volume

log = logging.getLogger("skoots")
OURS = "skoots-skeletons-"
FORMAT = f"{OURS}3"


def load_or_trace(
    path: Path,
    labels: Volume,
    index: LabelIndex,
    voxel_size: Sequence[float],
    algorithm: Algorithm = "thinning",
    threads: int = 1,
    overwrite: bool = False,
    must_keep: bool = False,
) -> tuple[Skeletons, bool]:
    """Skeletons of a label volume, from the file beside it if this fits, else traced and kept there.

    Args:
        path: ``NAME.skeletons.trch``; if its folder is read-only or full, the user's cache folder is taken.
        labels: the label volume; it is never in memory as a whole.
        index: of its objects.
        voxel_size: D edge lengths of a voxel.
        algorithm: as in ``skeletonize``.
        threads: as in ``skeletonize``.
        overwrite: trace anew, and replace also a file that skoots did not write.
        must_keep: whether it is a fault that they can be kept nowhere; else it is said, and they are traced
            again the next time.

    Returns:
        The skeletons, and whether they were traced now.

    Raises:
        VolumeError: a skeleton file cannot be read, or not be written where it must.
    """
    mark = fingerprint(index, labels.shape, voxel_size, algorithm)
    targets = [path, _cached(path)] if _is_writable(path.parent) else [_cached(path)]
    for place in (path, _cached(path)):
        if overwrite or not place.is_file():
            continue
        content = read_skeleton_file(place)
        stored = _skeletons_of(place, content, labels, index, voxel_size, mark)
        if stored is not None:
            return stored, False
        log.warning("%s does not fit its labels (they were edited?); skeletons are traced anew.", place)
        if not _is_ours(content):
            targets = [_cached(path)]  # a file that skoots did not write stays as it is
    skeletons = trace_volume(labels, index, voxel_size, algorithm, threads)
    _keep(skeletons, mark, targets, must_keep)
    return skeletons, True


def _keep(skeletons: Skeletons, mark: str, targets: Sequence[Path], must: bool) -> None:
    """Write them to the first place that takes them."""
    refused = []
    for target in targets:
        try:
            with writing(target, VolumeError):
                _write(target, skeletons, mark)
            return
        except VolumeError as error:
            refused.append(error)
    if must:
        raise refused[0]
    _warn_once(user_cache(), " ".join(map(str, refused)))


_said: set[Path] = set()


def _warn_once(cache: Path, refused: str) -> None:
    """For the first of many volumes only: what follows would be the same."""
    if cache not in _said:
        _said.add(cache)
        log.warning("Skeletons are not kept, and traced again by the next training. %s", refused)


def fingerprint(index: LabelIndex, shape: Sequence[int], voxel_size: Sequence[float], algorithm: str) -> str:
    """A mark that changes with any voxel of the labels, the voxel size and the algorithm."""
    size = "x".join(map(str, shape))
    spacing = [round(float(v), 6) for v in voxel_size]
    return f"{index.checksum:08x}-{size}-{spacing}-{algorithm}"


def read_skeleton_file(path: Path) -> dict:
    """The content of a ``.skeletons.trch`` file; never runs code from it.

    Raises:
        VolumeError: it cannot be read.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError for a damaged file
        raise VolumeError(
            f"{path} is no skeleton file ({type(error).__name__}); delete it to have it made anew."
        ) from error
    if not isinstance(content, dict):
        raise VolumeError(
            f"{path} is no skeleton file: expected a dict of id to points; delete it to have it made anew."
        )
    return content


def _skeletons_of(
    path: Path, content: dict, labels: Volume, index: LabelIndex, voxel_size: Sequence[float], mark: str
) -> Skeletons | None:
    """What a skeleton file holds, None if it was made for other labels."""
    if _is_ours(content):
        if content["format"] != FORMAT or content["fingerprint"] != mark:
            return None
        return Skeletons(*(content[key].numpy() for key in ("ids", "starts", "points", "inscribed")))
    return _from_original(path, content, labels, index, voxel_size)


def _is_ours(content: dict) -> bool:
    """Whether skoots wrote a skeleton file, be it another version."""
    return str(content.get("format", "")).startswith(OURS)


def from_original_order(points: np.ndarray) -> np.ndarray:
    """(n, 3) points in the original's order (row, column, section) as (section, row, column), our z, y, x."""
    return points[:, [2, 0, 1]]


def _from_original(
    path: Path, content: dict, labels: Volume, index: LabelIndex, voxel_size: Sequence[float]
) -> Skeletons | None:
    """A file of the original SKOOTS, a dict of id to (n, 3) points; None if it was made for other labels."""
    ndim = labels.spatial_dims
    points = {}
    for key, value in content.items():
        array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        if not isinstance(key, (int, np.integer)) or array.ndim != 2 or array.shape[1] != ndim:
            raise VolumeError(f"{path} is no skeleton file: expected ids with (n, {ndim}) points each.")
        points[int(key)] = from_original_order(array) if ndim == 3 else array
    if set(points) != set(index.boxes):
        return None
    rounded = {k: np.rint(p).astype(int) for k, p in points.items()}
    if any(len(p) == 0 or (p < 0).any() or (p >= labels.shape).any() for p in rounded.values()):
        return None
    owners = np.repeat(list(rounded), [len(p) for p in rounded.values()])
    if np.mean(labels_at(labels, np.concatenate(list(rounded.values())), index.ignore_label) == owners) < 0.5:
        return None
    return Skeletons.pack(points, ndim, radii_about(labels, index, rounded, voxel_size))


def _write(place: Path, skeletons: Skeletons, mark: str) -> None:
    content = {"format": FORMAT, "fingerprint": mark} | {
        key: torch.from_numpy(np.ascontiguousarray(getattr(skeletons, key)))
        for key in ("ids", "starts", "points", "inscribed")
    }
    place.parent.mkdir(parents=True, exist_ok=True)
    with Unfinished(place) as unfinished, open(unfinished.temporary, "wb") as file:
        torch.save(content, file)


def _is_writable(folder: Path) -> bool:
    """Whether files may be added; a folder without any write permission is meant to stay as it is, even for
    root."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def _cached(path: Path) -> Path:
    """A place for skeletons whose own folder is read-only."""
    folder = zlib.crc32(str(path.parent.resolve()).encode())
    return user_cache() / f"{folder:08x}" / path.name
