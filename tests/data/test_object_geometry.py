"""Measurements of objects, against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from skoots.data import object_geometry
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.normalize import Intensity
from skoots.data.object_geometry import close_pairs, measure_objects, pool, touching_pairs
from skoots.skeletons import Skeletons, skeletonize
from skoots.synthetic import make_volume
from skoots.volumes.array import ArrayVolume

VOLUMES = [((40, 37), (1.0, 1.0)), ((14, 24, 21), (1.0, 1.0, 1.0)), ((9, 24, 21), (30.0, 10.0, 10.0))]


def volume_of(labels: np.ndarray, size: Sequence[float], ignore_label: int | None = None) -> LabelledVolume:
    size = tuple(size)
    known = labels if ignore_label is None else np.where(labels == ignore_label, 0, labels)
    image = ArrayVolume("image", (labels > 0).astype(np.float32), size)
    plain = Intensity(np.zeros(1, np.float32), np.ones(1, np.float32))
    return LabelledVolume(
        "one", image, ArrayVolume("labels", labels, size), skeletonize(known, size), plain, size, ignore_label
    )


def random_labels(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    return make_volume(shape, seed, radius=(2.0, 4.0))[1].astype(np.int32)


def pairs_at(labels: np.ndarray, steps: set[tuple[int, ...]]) -> set[tuple[int, int]]:
    """Voxel by voxel."""
    found = set()
    for place in np.argwhere(labels):
        for step in steps:
            other = place + step
            if (other < 0).any() or (other >= labels.shape).any():
                continue
            a, b = int(labels[tuple(place)]), int(labels[tuple(other)])
            if b and a != b:
                found.add((min(a, b), max(a, b)))
    return found


@pytest.mark.parametrize(("shape", "size"), VOLUMES)
def test_geometry_is_that_of_brute_force(
    shape: tuple[int, ...], size: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_geometry, "BLOCK", {2: (16, 13), 3: (5, 11, 8)})
    labels = random_labels(shape)
    volume = volume_of(labels, size)
    found = measure_objects(volume)
    ids = [k for k in np.unique(labels) if k]
    assert len(found) == len(ids) > 2
    assert found.sizes.tolist() == [int((labels == k).sum()) for k in ids]
    voxels = [np.argwhere(labels == k) for k in ids]
    assert found.starts.tolist() == [v.min(0).tolist() for v in voxels]
    assert found.stops.tolist() == [(v.max(0) + 1).tolist() for v in voxels]
    assert found.inscribed == pytest.approx(volume.skeletons.inscribed)
    assert (found.foreground, found.known) == (int((labels > 0).sum()), labels.size)
    assert found.foreground_share == pytest.approx((labels > 0).mean())


@pytest.mark.parametrize(("shape", "size"), VOLUMES)
def test_neighbours_are_those_of_brute_force(
    shape: tuple[int, ...], size: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_geometry, "BLOCK", {2: (9, 8), 3: (5, 7, 6)})
    labels = np.kron(random_labels(shape), np.ones((1,) * len(shape), int)).astype(np.int32)
    labels[(np.random.default_rng(1).random(shape) < 0.4)] = 0  # gaps of one voxel
    steps = set(itertools.product((-1, 0, 1), repeat=labels.ndim))
    faces = {s for s in steps if np.abs(s).sum() == 1}
    twice = {tuple(2 * k for k in s) for s in faces}
    touching = pairs_at(labels, faces)
    close = pairs_at(labels, {s for s in steps if np.abs(s).sum() > 1} | twice)
    assert touching_pairs(labels) == touching and close_pairs(labels) == close
    found = measure_objects(volume_of(labels, size))
    assert (found.touching, found.close) == (len(touching), len(close - touching))


def test_lengths_of_skeletons() -> None:
    """A straight line, a column of thick sections, a diagonal that touches the line, and a single point."""
    curves = {
        5: np.array([(2, 2, x) for x in range(1, 11)]),
        7: np.array([(z, 9, 9) for z in range(1, 5)]),
        9: np.array([(2, 3 + i, 1 + i) for i in range(4)]),
        11: np.array([(5, 0, 0)]),
    }
    labels = np.zeros((6, 12, 12), np.int32)
    for number, points in curves.items():
        labels[tuple(points.T)] = number
    volume = replace(volume_of(labels, (20.0, 10.0, 10.0)), skeletons=Skeletons.pack(curves, 3))
    found = measure_objects(volume)
    assert found.lengths == pytest.approx([9, 6, 3 * np.sqrt(2), 0])
    assert found.touching_skeletons == 1


def test_a_loop_is_as_long_as_its_tree() -> None:
    ring = np.array([(0, 0), (0, 1), (0, 2), (1, 3), (2, 2), (2, 1), (2, 0), (1, -1)]) + np.array([1, 2])
    labels = np.zeros((6, 8), np.int32)
    labels[tuple(ring.T)] = 1
    volume = replace(volume_of(labels, (1.0, 1.0)), skeletons=Skeletons.pack({1: ring}, 2))
    assert measure_objects(volume).lengths == pytest.approx([4 + 3 * np.sqrt(2)])


def test_what_is_not_known_has_no_say() -> None:
    labels = random_labels((30, 30))
    hidden = labels.copy()
    hidden[:, 20:] = 99
    found, expected = (
        measure_objects(volume_of(hidden, (1.0, 1.0), 99)),
        measure_objects(volume_of(hidden[:, :20].copy(), (1.0, 1.0))),
    )
    assert found.known == expected.known == 600
    assert found.foreground == expected.foreground
    assert found.sizes.tolist() == expected.sizes.tolist()


def test_volumes_are_pooled() -> None:
    a, b = (measure_objects(volume_of(random_labels((30, 30), seed), (1.0, 1.0))) for seed in (1, 2))
    both = pool([a, b])
    assert len(both) == len(a) + len(b)
    assert both.foreground == a.foreground + b.foreground and both.known == 1800
    assert both.touching == a.touching + b.touching
    assert both.inscribed.tolist() == [*a.inscribed, *b.inscribed]
