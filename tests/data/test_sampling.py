"""What windows are drawn around: shares held against counts, places against brute force."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from skoots.data import survey as survey_module
from skoots.data.dataset import CropDataset
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.loaders import EpochSampler, train_loader
from skoots.data.mixture import Mixture
from skoots.data.normalize import Intensity
from skoots.data.sampling import Places, Sampling
from skoots.data.survey import boundary_mask, survey_labels
from skoots.geometry import Box
from skoots.skeletons import Skeletons, skeletonize
from skoots.synthetic import make_volume
from skoots.volumes.array import ArrayVolume

RAW = Intensity(np.zeros(1, np.float32), np.ones(1, np.float32))
NO_PLACES = np.zeros((0, 3), np.int32)
LABELS = arrays(
    np.int32,
    array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7),
    elements=st.sampled_from([0, 0, 0, 1, 2, 7, -1]),
)


def volume_of(labels, ignore_label=None):
    known = np.where(labels == ignore_label, 0, labels) if ignore_label is not None else labels
    size = (1.0,) * labels.ndim
    image = ArrayVolume("image", np.random.default_rng(0).random(labels.shape).astype(np.float32))
    labels = ArrayVolume("labels", labels)
    return LabelledVolume("a", image, labels, skeletonize(known, size), RAW, size, ignore_label)


def line(start, length, at=2):
    """(length, 3) points along x."""
    return np.stack([np.full(length, at), np.full(length, at), np.arange(start, start + length)], 1)


class TestKinds:
    def test_shares_are_kept(self):
        sampling = Sampling(objects=0.3, foreground=0.1, rare=0.2, boundaries=0.15)
        rng = np.random.default_rng(0)
        counts = Counter(sampling.kind(rng) for _ in range(20_000))
        wanted = {"objects": 0.3, "foreground": 0.1, "rare": 0.2, "boundaries": 0.15, None: 0.25}
        for kind, share in wanted.items():
            assert counts[kind] / 20_000 == pytest.approx(share, abs=4 * np.sqrt(share / 20_000))

    def test_shares_may_leave_nothing_and_not_more(self):
        rng = np.random.default_rng(0)
        assert {Sampling(0.5, 0.5).kind(rng) for _ in range(500)} == {"objects", "foreground"}
        assert Sampling(0.1, 0.2, 0.3, 0.4).boundaries == 0.4  # 1 but for rounding
        with pytest.raises(ValueError, match=r"more than 1 \(objects 0.5 \+ boundaries 0.6\); lower one"):
            Sampling(boundaries=0.6)


class TestPlaces:
    def test_objects_are_alike_and_foreground_goes_by_length(self):
        places = Places(Skeletons.pack({1: line(0, 90), 2: line(0, 10, at=7)}, 3), NO_PLACES)
        rng = np.random.default_rng(1)

        def share_of_long(kind):
            return np.mean([places.draw(kind, rng)[0] == 2 for _ in range(4000)])

        assert share_of_long("objects") == pytest.approx(0.5, abs=0.04)
        assert share_of_long("foreground") == pytest.approx(0.9, abs=0.03)
        drawn = {tuple(places.draw("objects", rng)) for _ in range(3000)}
        assert drawn == {tuple(p) for p in np.concatenate([line(0, 90), line(0, 10, at=7)])}

    def test_rare_is_the_smallest_quarter_by_length_and_width(self):
        points = {i: line(0, 40, at=i) for i in range(1, 9)}
        points[3], points[6] = line(0, 4, at=3), line(0, 5, at=6)
        radii = {
            **dict.fromkeys(points, 3.0),
            7: 0.5,
        }  # as long as the others, and thin: smaller than 3 and 6
        rng = np.random.default_rng(0)
        places = Places(Skeletons.pack(points, 3, radii), NO_PLACES)
        drawn = Counter(int(places.draw("rare", rng)[0]) for _ in range(1000))
        assert set(drawn) == {3, 7} and 420 < drawn[3] < 580

    def test_where_a_kind_has_no_place(self):
        rng = np.random.default_rng(0)
        nothing = Places(Skeletons.pack({}, 3), NO_PLACES)
        hollow = Places(Skeletons.pack({4: np.zeros((0, 3))}, 3), NO_PLACES)
        for kind, places in itertools.product(
            ("objects", "foreground", "rare", "boundaries"), (nothing, hollow)
        ):
            assert places.draw(kind, rng) is None
        one = Places(Skeletons.pack({4: line(0, 3), 9: np.zeros((0, 3))}, 3), NO_PLACES)
        assert one.draw(None, rng) is None
        assert {tuple(one.draw("boundaries", rng)) for _ in range(60)} == {tuple(p) for p in line(0, 3)}


def brute_force_boundary(labels):
    mask = np.zeros(labels.shape, bool)
    for voxel in np.ndindex(labels.shape):
        around = tuple(slice(max(0, v - 1), v + 2) for v in voxel)
        ids = set(labels[around].ravel().tolist()) - {0}
        mask[voxel] = len(ids) > 1
    return mask


class TestSurvey:
    @given(LABELS)
    @settings(max_examples=60, deadline=None)
    def test_boundaries_are_those_of_brute_force(self, labels):
        labels = np.maximum(labels, 0)
        assert np.array_equal(boundary_mask(labels), brute_force_boundary(labels))

    @given(LABELS)
    @settings(max_examples=60, deadline=None)
    def test_block_by_block_is_all_at_once(self, labels):
        blocks = survey_module.BLOCK
        survey_module.BLOCK = (2, 3, 4)
        try:
            survey = survey_labels(ArrayVolume("labels", labels), ignore_label=-1)
        finally:
            survey_module.BLOCK = blocks
        known = labels != -1
        mask = brute_force_boundary(np.where(known, labels, 0)) & known
        assert np.array_equal(survey.boundaries, np.argwhere(mask))
        assert survey.labelled.is_empty == (not known.any())
        if known.any():
            voxels = np.argwhere(known)
            assert survey.labelled == Box(tuple(voxels.min(0)), tuple(voxels.max(0) + 1))

    def test_of_many_boundary_voxels_some_are_kept_all_alike(self, monkeypatch):
        monkeypatch.setattr(survey_module, "BLOCK", (4, 8, 8))
        labels = np.ones((8, 16, 64), np.int32)
        labels[:, 8:] = 2
        every = survey_labels(ArrayVolume("labels", labels)).boundaries
        assert len(every) == 8 * 2 * 64
        counts = Counter()
        for seed in range(200):
            some = survey_labels(ArrayVolume("labels", labels), most=100, seed=seed).boundaries
            assert len(some) == 100 == len(np.unique(some, axis=0))
            counts.update(map(tuple, some // (4, 8, 8)))
        assert set(counts) == {(z, y, x) for z in range(2) for y in range(2) for x in range(8)}
        assert all(500 < n < 760 for n in counts.values())  # 625 expected in each block
        again = survey_labels(ArrayVolume("labels", labels), most=100, seed=199).boundaries
        assert np.array_equal(some, again)

    def test_memory_is_that_of_a_block(self, monkeypatch):
        monkeypatch.setattr(survey_module, "BLOCK", (4, 8, 8))
        labels = ArrayVolume("labels", np.random.default_rng(0).integers(0, 3, (20, 30, 30)))
        read, largest = labels.read, []
        monkeypatch.setattr(labels, "read", lambda box: largest.append(box.size) or read(box))
        survey_labels(labels)
        assert max(largest) == 6 * 10 * 10


class TestMixture:
    def test_without_a_length_each_volume_gives_its_own(self):
        mixture = Mixture([3, 1, 2])
        assert [mixture.volume_of(7, i) for i in range(len(mixture))] == [0, 0, 0, 1, 2, 2]

    @given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 60), st.integers(0, 99))
    @settings(max_examples=100, deadline=None)
    def test_shares_are_rounded_up_or_down(self, weights, length, seed):
        mixture = Mixture(weights, length, seed)
        drawn = Counter(mixture.volume_of(3, i) for i in range(length))
        assert len(mixture) == length == drawn.total()
        for row, weight in enumerate(weights):
            share = length * weight / sum(weights)
            assert np.floor(share - 1e-9) <= drawn[row] <= np.ceil(share + 1e-9)

    def test_over_epochs_shares_are_exact_also_of_many_volumes(self):
        mixture = Mixture([1] * 60 + [60], 10, seed=1)
        drawn = Counter(mixture.volume_of(epoch, i) for epoch in range(600) for i in range(10))
        assert drawn[60] / 6000 == pytest.approx(0.5, abs=0.01)
        assert all(25 < drawn[row] < 80 for row in range(60))  # 50 expected


def two_touching():
    """Two long bars that touch along a plane at x = 40, and a speck far away."""
    labels = np.zeros((8, 60, 80), np.int32)
    labels[2:6, 10:20, 5:40] = 5
    labels[2:6, 10:20, 40:75] = 9
    labels[3:5, 50:52, 70:72] = 12
    return labels


class TestCrops:
    CROP = (4, 8, 8)

    def boxes(self, labels, sampling, n=300, ignore_label=None):
        dataset = CropDataset([(volume_of(labels, ignore_label), n)], self.CROP, sampling=sampling)
        return [dataset.draw(0, np.random.default_rng(i)) for i in range(n)], dataset

    def test_windows_hold_what_they_are_drawn_around(self):
        labels = two_touching()
        edge, rare = boundary_mask(labels), labels == 12
        for sampling, mask in ((Sampling(0, boundaries=1), edge), (Sampling(0, rare=1), rare)):
            boxes, _ = self.boxes(labels, sampling)
            assert all(mask[box.slices].any() for box in boxes)
        uniform, _ = self.boxes(labels, Sampling(0))
        assert np.mean([edge[box.slices].any() for box in uniform]) < 0.3

    def test_uniform_windows_begin_anywhere_alike(self):
        boxes, _ = self.boxes(two_touching(), Sampling(0), 4000)
        for axis, (n, c) in enumerate(zip((8, 60, 80), self.CROP)):
            counts = np.bincount([box.start[axis] for box in boxes], minlength=n - c + 1)
            expected = 4000 / len(counts)
            assert len(counts) == n - c + 1
            assert ((counts - expected) ** 2 / expected).sum() < len(counts) + 5 * np.sqrt(2 * len(counts))

    def test_rates_add_up(self):
        labels = two_touching()
        boxes, _ = self.boxes(labels, Sampling(0.25, rare=0.25), 2000)
        # a third of the objects' windows and all of the rare ones
        share = np.mean([(labels[box.slices] == 12).any() for box in boxes])
        chance = np.mean(
            [(labels[box.slices] == 12).any() for box in self.boxes(labels, Sampling(0), 2000)[0]]
        )
        assert share == pytest.approx(0.25 + 0.25 / 3 + 0.5 * chance, abs=0.04)

    def test_windows_keep_to_the_sections_that_are_labelled(self):
        labels = np.full((40, 30, 30), -1, np.int32)
        labels[10:16] = make_volume((6, 30, 30), 1, radius=(2, 3))[1]
        boxes, dataset = self.boxes(labels, Sampling(0.5), ignore_label=-1)
        assert {box.start[0] for box in boxes} == {10, 11, 12}
        assert all(dataset[1, i].valid.all() for i in range(10))

    def test_a_draw_reads_nothing_and_a_sample_its_window(self, monkeypatch):
        _, dataset = self.boxes(two_touching(), Sampling(0.2, 0.2, 0.2, 0.2))
        sizes = []
        for array in (dataset.volumes[0].image, dataset.volumes[0].labels):
            read = array.read
            monkeypatch.setattr(array, "read", lambda box, read=read: sizes.append(box.size) or read(box))
        for i in range(20):
            dataset.draw(0, np.random.default_rng(i))
        assert sizes == []
        dataset[1, 3]
        assert sizes == [4 * 8 * 8] * 2


# Workers are forked on Linux; Python 3.12 and later warn of it where there are threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_mixed_epoch_is_the_same_whatever_the_workers_and_goes_on_in_its_middle():
    labels = two_touching()
    volumes = [(volume_of(labels), 30), (volume_of(np.flip(labels, 2).copy()), 10)]
    dataset = CropDataset(
        volumes, (4, 8, 8), (), 5, Sampling(0.3, 0.1, 0.1, 0.2), [(volume_of(labels * 0 + 3), 20)], (), 12
    )

    def origins(workers, done=0):
        loader = train_loader(dataset, 2, seed=5, workers=workers)
        loader.sampler.set_epoch(3, done)
        return [origin for batch in loader for origin in batch.origins]

    alone = origins(0)
    assert len(alone) == 12 and len(dataset) == 12 == len(EpochSampler(len(dataset), 5))
    assert origins(2) == alone and origins(1, done=6) == alone[6:]
