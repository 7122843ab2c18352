"""Skeletons beside their labels: computed once, read afterwards, noticed when the labels have changed."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

from skoots.data.label_index import LabelIndex
from skoots.data.skeleton_file import UnusableError, read_skeletons, write_skeletons
from skoots.data.trace import trace_volume
from skoots.errors import VolumeError
from skoots.runtime import user_cache
from skoots.skeletons import Skeletons
from skoots.skeletons.skeletonize import Algorithm
from skoots.volumes import Volume

log = logging.getLogger("skoots")


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

    A damaged file is made again. One that skoots did not write is kept: where it does not fit its labels,
    ours goes into the user's cache folder; where it is damaged, it becomes ``NAME.skeletons.trch.damaged``.

    Args:
        path: ``NAME.skeletons.trch``; if its folder is read-only or full, the user's cache folder is taken.
        labels: the label volume; it is never in memory as a whole.
        index: of its objects.
        voxel_size: D edge lengths of a voxel.
        algorithm: as in ``skeletonize``.
        threads: as in ``skeletonize``.
        overwrite: trace anew, and replace also a file that skoots did not write.
        must_keep: whether it is an error if the skeletons cannot be kept; else a warning.

    Returns:
        The skeletons, and whether they were traced now.

    Raises:
        VolumeError: a skeleton file is another kind of file, or cannot be written and must be.
    """
    mark = fingerprint(index, labels.shape, voxel_size, algorithm)
    targets = [path, _cached(path)] if _is_writable(path.parent) else [_cached(path)]
    for place in (path, _cached(path)):
        if overwrite or not place.is_file():
            continue
        try:
            return read_skeletons(place, labels, index, voxel_size, mark), False
        except UnusableError as error:
            log.warning("%s %s; skeletons are traced again.", place, error.reason)
            if not error.ours and place == path == targets[0]:
                targets = _make_way(path, error)
    skeletons = trace_volume(labels, index, voxel_size, algorithm, threads)
    _keep(skeletons, mark, targets, must_keep)
    return skeletons, True


def _make_way(path: Path, error: UnusableError) -> list[Path]:
    """Where to keep skeletons beside a file that skoots did not write."""
    if not error.damaged:
        return [_cached(path)]
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    log.warning("It was not written by skoots, and is kept as %s.", aside)
    return [path, _cached(path)]


def _keep(skeletons: Skeletons, mark: str, targets: Sequence[Path], must: bool) -> None:
    """Write them to the first place that takes them."""
    refused = []
    for target in targets:
        try:
            write_skeletons(target, skeletons, mark)
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


def _is_writable(folder: Path) -> bool:
    """Whether files may be added; a folder without any write permission is meant to stay as it is, even for
    root."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)


def kept_at(path: Path) -> Path:
    """Where the skeletons that belong at a path are: there, or in the user's cache."""
    return path if path.is_file() else _cached(path)


def _cached(path: Path) -> Path:
    """A place for skeletons whose own folder is read-only."""
    folder = zlib.crc32(str(path.parent.resolve()).encode())
    return user_cache() / f"{folder:08x}" / path.name
