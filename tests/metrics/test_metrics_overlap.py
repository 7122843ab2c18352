"""Contingency tables: against counting by hand, block by block, and stacked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skoots.errors import VolumeError
from skoots.metrics import Overlap, contingency, join, score, stack


def by_hand(truth, prediction):
    return dict(Counter(zip(truth.ravel().tolist(), prediction.ravel().tolist())))


def as_dict(overlap):
    return dict(zip(zip(overlap.truth.tolist(), overlap.prediction.tolist()), overlap.counts.tolist()))


def same(one, other):
    names = ("volume", "truth", "prediction", "counts")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def random_pair(seed, shape, ids=6):
    rng = np.random.default_rng(seed)
    return rng.integers(0, ids, shape), rng.integers(0, ids, shape)


@pytest.mark.parametrize("shape", [(7, 9), (4, 5, 6), (0, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64, np.uint64])
def test_counts_every_pair(shape, dtype):
    truth, prediction = random_pair(0, shape)
    counted = contingency(truth.astype(dtype), prediction.astype(np.int32))
    assert as_dict(counted) == by_hand(truth, prediction)


def test_large_sparse_and_negative_ids_take_the_other_path():
    truth, prediction = random_pair(1, (5, 6, 7))
    ids = np.array([0, 3, 2**40, -1, 2**62, 65535])
    truth, prediction = ids[truth], ids[::-1][prediction]
    assert as_dict(contingency(truth, prediction)) == by_hand(truth, prediction)


def test_table_too_large_to_be_dense():
    rng = np.random.default_rng(2)
    truth, prediction = rng.integers(0, 5000, 6000), rng.integers(0, 5000, 6000)
    assert as_dict(contingency(truth, prediction)) == by_hand(truth, prediction)


def test_arrays_that_are_not_contiguous():
    truth, prediction = random_pair(3, (6, 8, 5))
    assert as_dict(contingency(truth.T[::2], prediction.T[::2])) == by_hand(truth.T[::2], prediction.T[::2])


def test_sizes_belong_to_their_segments():
    truth, prediction = random_pair(4, (6, 7))
    overlap = contingency(truth, prediction)
    assert np.array_equal(overlap.truth_sizes[overlap.row], [(truth == k).sum() for k in overlap.truth])
    expected = [(prediction == k).sum() for k in overlap.prediction]
    assert np.array_equal(overlap.prediction_sizes[overlap.column], expected)
    assert (overlap.n_truth, overlap.n_prediction) == (5, 5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 5))
def test_blocks_give_the_table_of_the_whole(seed, ndim, blocks):
    truth, prediction = random_pair(seed, (6,) * ndim)
    cuts = zip(np.array_split(truth, blocks), np.array_split(prediction, blocks))
    parts = [contingency(*cut) for cut in cuts]
    whole = contingency(truth, prediction)
    assert same(sum(parts, Overlap.empty()), whole)
    assert same(join(reversed(parts)), whole)
    assert score(join(parts)) == score(whole)


def test_ignored_voxels_are_as_if_they_were_not_there():
    truth, prediction = random_pair(5, (8, 9))
    kept = truth != 3
    assert same(contingency(truth, prediction, ignore=3), contingency(truth[kept], prediction[kept]))


def test_small_predictions_become_background():
    truth, prediction = np.array([1, 1, 1, 2, 2, 0]), np.array([1, 1, 1, 2, 3, 3])
    dropped = contingency(truth, prediction).drop_small(2)
    assert as_dict(dropped) == {(1, 1): 3, (2, 0): 1, (2, 3): 1, (0, 3): 1}
    assert as_dict(contingency(truth, prediction).drop_small(3)) == {(1, 1): 3, (2, 0): 2, (0, 0): 1}


def test_stacked_volumes_do_not_share_ids():
    one, other = np.array([1, 1, 0, 2]), np.array([0, 1, 1, 1])
    tables = [contingency(one, one), contingency(one, other)]
    stacked = stack(tables)
    assert (stacked.n_truth, stacked.n_prediction) == (4, 3)
    assert stack([stacked, stacked]).n_truth == 8
    # The same as renumbering the second volume and laying it beside the first, background apart.
    beside = contingency(np.r_[one, one + 10 * (one > 0)], np.r_[one, other + 10 * (other > 0)])
    for name in ("F1", "mAP", "foreground_IoU", "over_segmentation"):
        assert score(stacked)[name] == pytest.approx(score(beside)[name])


def test_stacked_voi_is_the_mean_over_counted_voxels():
    pairs = [random_pair(seed, (6, 5 + seed)) for seed in range(3)]
    tables = [contingency(*pair) for pair in pairs]
    weights = [np.count_nonzero(truth) for truth, _ in pairs]
    for name in ("VOI_split", "VOI_merge"):
        mean = np.average([score(table)[name] for table in tables], weights=weights)
        assert score(stack(tables))[name] == pytest.approx(mean)


def test_shapes_that_differ_are_named():
    with pytest.raises(VolumeError, match=r"shape \(2, 3\) and the predicted ones \(3, 2\); compare"):
        contingency(np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_float_labels_are_refused():
    with pytest.raises(VolumeError, match="predicted labels are float64; ids are integers"):
        contingency(np.zeros((2, 3), int), np.zeros((2, 3)))
