"""``skoots skeletonize``: the skeletons of a folder of labels, made before training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fastremap
import numpy as np
import torch

from skoots.data.pairs import find_pairs
from skoots.data.skeleton_cache import kept_at
from skoots.data.sources import Reading, open_pair, reading_threads, volume_skeletons
from skoots.skeletons import nearest_offsets, touching_skeletons
from skoots.skeletons.skeletonize import Algorithm
from skoots.terminal import progress_bar
from skoots.volumes import read_labels


@dataclass(frozen=True)
class SkeletonizedVolume:
    """The skeletons of one volume.

    Args:
        name: of the volume.
        path: the skeleton file.
        objects: how many have a skeleton.
        traced: False if the file was there and still fits its labels.
        touching: pairs of objects whose bare skeletons touch; decoding cannot tell these apart.
        seconds: how long it took.
    """

    name: str
    path: Path
    objects: int
    traced: bool
    touching: int
    seconds: float


@dataclass(frozen=True)
class SkeletonReport:
    """What ``skeletonize`` did, volume by volume."""

    volumes: list[SkeletonizedVolume]


def skeletonize(
    folder: Path | str,
    *,
    voxel_size: Sequence[float] | None = None,
    ignore_label: int | None = None,
    algorithm: Algorithm = "thinning",
    overwrite: bool = False,
    threads: int | None = None,
    progress: bool = True,
) -> SkeletonReport:
    """Trace and keep the skeletons of every labelled volume in a folder; training finds them there.

    Args:
        folder: with ``NAME.tif`` and ``NAME.labels.tif``.
        voxel_size: D edge lengths of a voxel, if the files say none or wrong ones.
        ignore_label: label that means "not known", if the labels hold one.
        algorithm: ``thinning`` or ``kimimaro``.
        overwrite: trace anew also where a file fits.
        threads: None takes all cores.
        progress: show a progress bar.

    Raises:
        VolumeError: the folder holds no pairs, a file cannot be read, or skeletons cannot be written.
    """
    reading = Reading(
        voxel_size, ignore_label=ignore_label, algorithm=algorithm, threads=threads or reading_threads()
    )
    done = []
    for pair in progress_bar(find_pairs(folder), desc="skeletonize", unit="volume", disable=not progress):
        began = time.monotonic()
        image, labels = open_pair(pair, voxel_size)
        size = image.voxel_size or labels.voxel_size or (1.0,) * image.spatial_dims
        skeletons, traced = volume_skeletons(pair, labels, size, reading, overwrite=overwrite, must_keep=True)
        ids = read_labels(labels, ignore_label=ignore_label)
        ids = np.where(ids == ignore_label, 0, ids) if ignore_label is not None else ids
        offset = nearest_offsets(ids, skeletons, size)
        few, _ = fastremap.renumber(ids)
        touching = touching_skeletons(torch.from_numpy(few.astype(np.int64)), torch.from_numpy(offset))
        seconds = time.monotonic() - began
        done.append(
            SkeletonizedVolume(pair.name, kept_at(pair.skeletons), len(skeletons), traced, touching, seconds)
        )
    return SkeletonReport(done)
