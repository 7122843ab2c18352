"""Scores against first principles, scikit-image and StarDist."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import adapted_rand_error as skimage_rand
from skimage.metrics import variation_of_information as skimage_voi

from skoots.metrics import (
    METRIC_NAMES,
    adapted_rand_error,
    contingency,
    match,
    mean_average_precision,
    score,
    variation_of_information,
)


def blocky(seed, shape, ids=6, shift=1):
    """Blocks of random ids, and a copy that is moved, merged and split a little."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, ids, tuple(-(-n // 3) for n in shape))
    truth = np.kron(coarse, np.ones((3,) * len(shape), int))[tuple(slice(n) for n in shape)]
    prediction = rng.permutation(ids)[np.roll(truth, shift, -1)] * (rng.random(shape) > 0.1)
    return truth, prediction


def objects(labels):
    return {k: frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels).tolist() if k != 0}


def iou(a, b):
    return len(a & b) / len(a | b)


def best_matching(truth, prediction, threshold):
    """Every way to pair objects, tried out: (number, sum of IoU) of the best."""
    t, p = list(objects(truth).values()), list(objects(prediction).values())
    if len(t) > len(p):
        t, p = p, t
    best = (0, 0.0)
    for chosen in itertools.permutations(p, len(t)):
        hits = [iou(a, b) for a, b in zip(t, chosen) if iou(a, b) >= threshold]
        best = max(best, (len(hits), sum(hits)))
    return best


def entropy(counts):
    share = np.array([c for c in counts if c]) / sum(counts)
    return -(share * np.log2(share)).sum()


def oracle(truth, prediction):
    """Every score by loops over objects, pairs of objects and pairs of voxels."""
    t, p = objects(truth), objects(prediction)
    n, m = len(t), len(p)
    expected = {"n_truth": n, "n_prediction": m}
    aps = []
    for step in range(10):
        threshold = round(0.5 + step * 0.05, 2)
        hits, total = best_matching(truth, prediction, threshold)
        aps.append(hits / (n + m - hits))
        if threshold == 0.5:
            f1 = 2 * hits / (n + m)
            mean = total / hits if hits else 0
            expected |= {"F1": f1, "precision": hits / m, "recall": hits / n, "AP50": aps[-1]}
            expected |= {"PQ": f1 * mean, "mean_matched_IoU": mean, "mean_true_IoU": total / n}
        if threshold == 0.75:
            expected |= {"AP75": aps[-1], "F1@0.75": 2 * hits / (n + m)}
    expected["mAP"] = sum(aps) / 10
    expected["over_segmentation"] = sum(sum(iou(a, b) > 0.2 for b in p.values()) > 1 for a in t.values()) / n
    expected["under_segmentation"] = sum(sum(iou(a, b) > 0.2 for a in t.values()) > 1 for b in p.values()) / m
    inside = np.flatnonzero(truth)
    tv, pv = truth.ravel()[inside], prediction.ravel()[inside]
    expected["VOI_split"] = sum(
        (tv == k).mean() * entropy([((tv == k) & (pv == j)).sum() for j in set(pv)]) for k in t
    )
    expected["VOI_merge"] = sum(
        (pv == j).mean() * entropy([((tv == k) & (pv == j)).sum() for k in t]) for j in set(pv)
    )
    expected["VOI"] = expected["VOI_split"] + expected["VOI_merge"]
    off = ~np.eye(inside.size, dtype=bool)
    together_t, together_p = (tv[:, None] == tv) & off, (pv[:, None] == pv) & off
    expected["ARAND"] = 1 - 2 * (together_t & together_p).sum() / (together_t.sum() + together_p.sum())
    a, b = truth > 0, prediction > 0
    expected["foreground_IoU"] = (a & b).sum() / (a | b).sum()
    expected["foreground_Dice"] = 2 * (a & b).sum() / (a.sum() + b.sum())
    return expected


@pytest.mark.parametrize("shape", [(9, 11), (5, 6, 7)])
@pytest.mark.parametrize("seed", range(4))
def test_every_score_by_hand(shape, seed):
    truth, prediction = blocky(seed, shape)
    assert score(contingency(truth, prediction)) == pytest.approx(oracle(truth, prediction))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.6]))
def test_matching_is_the_best_of_all(seed, threshold):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, 5, (2, 12))
    overlap = contingency(truth, prediction)
    found = match(overlap, threshold)
    expected = best_matching(truth, prediction, threshold)
    assert (found.true_positives, found.iou.sum()) == pytest.approx(expected)
    t, p = objects(truth), objects(prediction)
    pairs = list(zip(overlap.truth[found.pairs].tolist(), overlap.prediction[found.pairs].tolist()))
    assert [iou(t[a], p[b]) for a, b in pairs] == pytest.approx(found.iou.tolist())
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)


def test_two_halves_do_not_both_match_one_object():
    overlap = contingency(np.array([1, 1]), np.array([1, 2]))
    assert overlap.iou.tolist() == [0.5, 0.5]
    assert match(overlap, 0.5).true_positives == 1
    assert score(overlap)["over_segmentation"] == 1.0


@pytest.mark.parametrize("ignore", [True, False])
def test_partitions_as_in_scikit_image(ignore):
    truth, prediction = blocky(7, (8, 9, 10))
    overlap, skip = contingency(truth, prediction), (0,) if ignore else ()
    assert variation_of_information(overlap, ignore) == pytest.approx(
        tuple(skimage_voi(truth, prediction, ignore_labels=skip))
    )
    expected = skimage_rand(truth, prediction, ignore_labels=skip)[0]
    assert adapted_rand_error(overlap, ignore) == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_matching_as_in_stardist(threshold):
    stardist = pytest.importorskip("stardist.matching")
    truth, prediction = blocky(8, (24, 30), ids=40)
    theirs = stardist.matching(truth, prediction, thresh=threshold)
    ours = match(contingency(truth, prediction), threshold)
    assert (ours.true_positives, ours.n_truth, ours.n_prediction) == (theirs.tp, theirs.n_true, theirs.n_pred)
    assert (ours.precision, ours.recall) == pytest.approx((theirs.precision, theirs.recall))
    assert ours.f1 == pytest.approx(theirs.f1)
    assert ours.average_precision == pytest.approx(theirs.accuracy)
    assert ours.mean_true_iou == pytest.approx(theirs.mean_true_score)
    assert ours.mean_matched_iou == pytest.approx(theirs.mean_matched_score)
    assert ours.panoptic_quality == pytest.approx(theirs.panoptic_quality)


def test_perfect_up_to_renaming():
    truth, _ = blocky(9, (9, 9))
    scores = score(contingency(truth, truth * 7))
    for name, larger_is_better in METRIC_NAMES.items():
        assert scores[name] == pytest.approx(float(larger_is_better)), name


def test_voi_says_which_side_is_wrong():
    whole, halves = np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])
    assert variation_of_information(contingency(whole, halves)) == (1.0, 0.0)
    assert variation_of_information(contingency(halves, whole)) == (0.0, 1.0)


def test_a_threshold_is_met_by_equality():
    overlap = contingency(np.ones(20, int), np.r_[np.ones(11, int), np.zeros(9, int)])
    assert match(overlap, 0.55).true_positives == 1
    assert mean_average_precision(overlap) == pytest.approx(0.2)


def test_nothing_in_both_is_perfect():
    nothing = np.zeros((3, 4), int)
    scores = score(contingency(nothing, nothing))
    for name, larger_is_better in METRIC_NAMES.items():
        assert scores[name] == float(larger_is_better), name
    assert scores["n_truth"] == scores["n_prediction"] == 0


def test_nothing_true_but_something_predicted():
    scores = score(contingency(np.zeros(4, int), np.array([0, 1, 2, 2])))
    for name in ("F1", "precision", "recall", "AP50", "mAP", "PQ", "mean_matched_IoU", "foreground_IoU"):
        assert scores[name] == 0.0
    assert math.isnan(scores["VOI"]) and math.isnan(scores["ARAND"])


def test_nothing_predicted():
    scores = score(contingency(np.array([0, 1, 2, 2]), np.zeros(4, int)))
    for name in ("F1", "precision", "recall", "AP50", "mAP", "PQ", "foreground_Dice", "VOI_split"):
        assert scores[name] == 0.0
    assert scores["VOI_merge"] == pytest.approx(entropy([1, 2]))


def test_names_and_types():
    scores = score(contingency(*blocky(10, (6, 6))))
    assert set(scores) == {*METRIC_NAMES, "n_truth", "n_prediction"}
    assert all(type(value) is float for value in scores.values())


def test_many_objects_are_fast():
    """60,000 objects: a dense matrix of pairs would hold 3.6e9 numbers."""
    labels = np.arange(240_000) // 4 + 1
    scores = score(contingency(labels, np.roll(labels, 1)))
    assert (scores["n_truth"], scores["F1"], scores["mean_matched_IoU"]) == (60_000, 1.0, pytest.approx(0.6))


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_thresholds_out_of_range(threshold):
    with pytest.raises(ValueError, match="IoU threshold lies above 0 and at most at 1"):
        match(contingency(np.ones(2, int), np.ones(2, int)), threshold)
