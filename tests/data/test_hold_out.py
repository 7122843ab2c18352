"""What is held out: whole series, and planes that cut few objects."""

from __future__ import annotations

import numpy as np
import pytest

from skoots.data.hold_out import CUTS, best_cut, hold_out_volumes, series_of


def boxes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    voxels = [np.argwhere(labels == k) for k in np.unique(labels) if k]
    return np.array([v.min(0) for v in voxels]), np.array([v.max(0) + 1 for v in voxels])


def test_series_are_names_without_their_last_part() -> None:
    names = [f"Emb{i:02d}_t{t}" for i in range(3) for t in (151, 351)]
    assert series_of(names) == ["Emb00", "Emb00", "Emb01", "Emb01", "Emb02", "Emb02"]
    assert series_of(["cell_1", "cell_2", "cell_3"]) == ["cell_1", "cell_2", "cell_3"]  # one series is none
    assert series_of(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("seed", range(5))
def test_whole_series_are_held_out(seed: int) -> None:
    names = [f"Emb{i:02d}_t{t}" for i in range(10) for t in (1, 2, 3)]
    held = hold_out_volumes(names, seed)
    assert len(held) == 6
    assert len({name[:5] for name in held}) == 2
    assert held == hold_out_volumes(names, seed)


@pytest.mark.parametrize("count", [2, 3, 5, 12, 40])
def test_about_a_fifth_is_held_out_and_something_is_left(count: int) -> None:
    names = [f"v{i}" for i in range(count)]
    held = hold_out_volumes(names, 1)
    assert len(held) == max(1, round(count / 5)) and set(held) < set(names)


def test_uneven_series_leave_something_to_train_on() -> None:
    names = [*(f"big_{i}" for i in range(8)), "b_1", "c_1"]
    for seed in range(6):
        held = hold_out_volumes(names, seed)
        assert held and len(held) < len(names)


def test_the_cut_goes_between_objects() -> None:
    labels = np.zeros((40, 100), int)
    for row, start in enumerate(range(2, 98, 12)):
        labels[row * 4 : row * 4 + 8, start : start + 9] = row + 1
    cut = best_cut(labels.shape, (1.0, 1.0), *boxes(labels))
    assert cut is not None and cut.axis == 1 and cut.divided == 0
    kept, held = labels[cut.train.slices], labels[cut.validation.slices]
    assert kept.size + held.size == labels.size
    assert set(np.unique(kept)) & set(np.unique(held)) == {0}
    assert cut.held == len(np.unique(held)) - 1 > 0
    assert CUTS[0] <= kept.size / labels.size <= CUTS[1]


def test_the_numbers_of_a_cut_are_those_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = np.zeros((30, 40), int)
        for k in range(1, int(rng.integers(2, 12))):
            start = rng.integers(0, (25, 30))
            labels[start[0] : start[0] + rng.integers(2, 9), start[1] : start[1] + rng.integers(2, 12)] = k
        cut = best_cut(labels.shape, (1.0, 1.0), *boxes(labels))
        if cut is None:
            continue
        kept, held = (set(np.unique(labels[box.slices])) - {0} for box in (cut.train, cut.validation))
        if all((labels == k).any() for k in kept | held):
            assert cut.divided >= len(kept & held)  # a box may reach where the object does not
            assert cut.held >= len(held) > 0


def test_the_physically_longest_axis_is_cut() -> None:
    starts, stops = np.zeros((1, 3), int), np.array([[20, 60, 60]])
    cut = best_cut((20, 60, 60), (50.0, 10.0, 10.0), starts, stops)
    assert cut is not None and cut.axis == 0 and cut.divided == 1


def test_most_objects_are_trained_on() -> None:
    """Nine of ten objects lie in the last fifth: it is cut elsewhere, or from the other end."""
    starts = np.array([[0, 5]] + [[0, 82 + i] for i in range(9)])
    cut = best_cut((10, 100), (1.0, 1.0), starts, starts + 2)
    assert cut is not None and cut.train.start[1] > 0 and cut.held == 1


def test_no_cut_without_objects_on_both_sides() -> None:
    assert best_cut((10, 10), (1.0, 1.0), np.array([[0, 0]]), np.array([[2, 2]])) is None
    assert best_cut((1, 1), (1.0, 1.0), np.array([[0, 0]]), np.array([[1, 1]])) is None
