"""Skeletons: inside their object, in one piece, thin, whatever the object is like."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import ndimage

from skoots.skeletons import Skeletons, skeletonize
from skoots.synthetic import make_volume


def cells(shape, count, seed):
    """Voronoi cells, some of them background: every object touches others, and most touch the rim."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, np.array(shape), (count, len(shape)))
    grid = np.stack(np.indices(shape), -1)[..., None, :]
    labels = 1 + ((grid - seeds) ** 2).sum(-1).argmin(-1)
    return np.where(rng.random(count + 1)[labels] < 0.25, 0, labels).astype(np.int32)


def pieces_of(points):
    """Number of pieces, neighbours over corners."""
    low = points.min(0).astype(int)
    canvas = np.zeros(points.max(0).astype(int) - low + 1, bool)
    canvas[tuple((points.astype(int) - low).T)] = True
    return ndimage.label(canvas, np.ones((3,) * canvas.ndim))[1]


def check(labels, skeletons):
    """The contract: ids, own voxels, one piece each."""
    assert skeletons.ids.tolist() == [i for i in np.unique(labels) if i > 0]
    assert skeletons.starts[0] == 0 and skeletons.starts[-1] == len(skeletons.points)
    assert skeletons.ids.dtype == skeletons.starts.dtype == np.int64
    assert skeletons.points.dtype == skeletons.inscribed.dtype == np.float32
    for object_id, points in skeletons.as_dict().items():
        assert len(points) and np.array_equal(points, np.rint(points))
        assert (labels[tuple(points.astype(int).T)] == object_id).all()
        assert len(np.unique(points, axis=0)) == len(points)
        assert pieces_of(points) == 1


def tube(shape=(40, 21, 21), radius=6, axis=0):
    grid = np.indices(shape)
    across = [a for a in range(len(shape)) if a != axis]
    distance2 = sum((grid[a] - shape[a] // 2) ** 2 for a in across)
    return ((distance2 <= radius**2) & (grid[axis] > 3) & (grid[axis] < shape[axis] - 4)).astype(np.int32)


@pytest.mark.parametrize(
    "shape, voxel_size",
    [
        ((24, 25, 26), (1, 1, 1)),
        ((10, 30, 28), (4, 1, 1)),
        ((14, 14, 30), (2.6, 2.6, 1)),
        ((50, 60), (1, 1)),
        ((40, 50), (1, 3)),
    ],
)
def test_points_lie_inside_and_hang_together(shape, voxel_size):
    labels = cells(shape, 25, seed=len(shape))
    check(labels, skeletonize(labels, voxel_size))


@pytest.mark.parametrize("shape", [(24, 32, 32), (64, 64)])
def test_tubes(shape):
    labels = make_volume(shape, seed=1)[1]
    skeletons = skeletonize(labels)
    check(labels, skeletons)
    assert len(skeletons.points) < 0.1 * (labels > 0).sum()


def test_a_straight_tube_has_its_axis():
    skeletons = skeletonize(tube())
    points = skeletons.of(1)
    assert np.array_equal(np.unique(points[:, 1:], axis=0), [[10, 10]])
    assert len(points) > 20
    # Nearest voxel outside a disc of radius 6: (1, 6), as far as sqrt(37).
    assert skeletons.inscribed[0] == pytest.approx(np.sqrt(37))


def test_inscribed_radius_is_physical():
    labels = np.zeros((9, 41, 41), np.int32)
    labels[2:7, 5:36, 5:36] = 1  # five sections of 4, so 12 from the middle to the next section outside
    assert skeletonize(labels, (4, 1, 1)).inscribed[0] == pytest.approx(12)
    assert skeletonize(labels, (20, 5, 5)).inscribed[0] == pytest.approx(12)


def test_thick_sections_are_as_thick_as_they_are():
    """A plate that is physically a tube along z is not peeled away in z first."""
    labels = np.zeros((12, 17, 17), np.int32)
    labels[1:11, 6:11, 6:11] = 1
    points = skeletonize(labels, (5, 1, 1)).of(1)
    assert np.ptp(points[:, 0]) >= 7 and np.ptp(points[:, 1:], axis=0).max() <= 2


def test_objects_of_one_voxel_and_of_two():
    labels = np.zeros((4, 5, 6), np.int32)
    labels[0, 0, 0], labels[3, 4, 5], labels[1, 2, 2], labels[2, 3, 3] = 3, 700, 9, 9
    skeletons = skeletonize(labels)
    assert skeletons.of(3).tolist() == [[0, 0, 0]] and skeletons.of(700).tolist() == [[3, 4, 5]]
    assert skeletons.of(9).tolist() in ([[1, 2, 2]], [[2, 3, 3]])
    assert skeletons.inscribed.tolist() == [1, 1, 1]


def test_one_voxel_thin_objects():
    labels = np.zeros((8, 8, 8), np.int32)
    labels[4, 4, :] = 1
    labels[np.arange(4), np.arange(4), np.arange(4)] = 2  # hangs together over corners only
    skeletons = skeletonize(labels)
    check(labels, skeletons)
    assert len(skeletons.of(1)) == 8 and len(skeletons.of(2)) == 4


def test_objects_at_the_rim_keep_their_curve():
    labels = np.zeros((5, 5, 40), np.int32)
    labels[:2, :2] = 1
    labels[3:] = 2
    skeletons = skeletonize(labels)
    check(labels, skeletons)
    assert np.ptp(skeletons.of(1)[:, 2]) >= 36


@pytest.mark.parametrize("width", [2, 4, 6])
def test_rods_of_even_width_do_not_vanish(width):
    """scikit-image thins them to nothing."""
    labels = np.zeros((10, 10, 50), np.int32)
    labels[2 : 2 + width, 2 : 2 + width, 5:45] = 1
    skeletons = skeletonize(labels)
    check(labels, skeletons)
    assert np.ptp(skeletons.of(1)[:, 2]) >= 38 - width


def test_ids_may_be_large_and_no_objects_are_fine():
    labels = np.zeros((6, 6, 6), np.int64)
    labels[1:5, 1:5, 1:5] = 2**40
    assert skeletonize(labels).ids.tolist() == [2**40]
    nothing = skeletonize(np.zeros((4, 4), np.uint16))
    assert len(nothing) == 0 and nothing.points.shape == (0, 2) and nothing.starts.tolist() == [0]


def test_of_two_pieces_the_larger_is_thinned():
    labels = np.zeros((9, 9, 30), np.int32)
    labels[2:7, 2:7, :4] = 1
    labels[2:7, 2:7, 8:29] = 1
    skeletons = skeletonize(labels)
    assert (skeletons.of(1)[:, 2] >= 8).all() and pieces_of(skeletons.of(1)) == 1


@pytest.mark.parametrize(
    "hole",
    [
        (20, 10, 10),  # right on the curve
        (20, 12, 10),
        (slice(19, 22), slice(9, 12), slice(9, 12)),
        ([8, 16, 24], [10, 10, 10], [10, 10, 10]),
    ],
)
def test_a_pinhole_does_not_make_a_shell(hole):
    whole = tube()
    pierced = whole.copy()
    pierced[hole] = 0
    skeletons = skeletonize(pierced)
    check(pierced, skeletons)
    assert len(skeletons.points) <= len(skeletonize(whole).points) + 6


@pytest.mark.parametrize(
    "make",
    [
        lambda r: (r <= 9) & (r >= 6),  # a hollow ball (a ring in 2D): nothing but shell
        lambda r: (r <= 9) & (r >= 1.5),
    ],
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_hollow_objects_still_have_a_skeleton_inside(make, ndim):
    r = np.sqrt(((np.indices((23,) * ndim) - 11) ** 2).sum(0))
    labels = make(r).astype(np.int32)
    check(labels, skeletonize(labels))


@pytest.mark.parametrize("algorithm", ["thinning", "kimimaro"])
def test_threads_do_not_change_the_result(algorithm):
    if algorithm == "kimimaro":
        pytest.importorskip("kimimaro")
    labels = cells((16, 20, 20), 12, seed=5)
    one, two = skeletonize(labels, algorithm=algorithm), skeletonize(labels, algorithm=algorithm, threads=2)
    for field in ("ids", "starts", "points", "inscribed"):
        assert np.array_equal(getattr(one, field), getattr(two, field))


@pytest.mark.parametrize(
    "shape, voxel_size", [((24, 25, 26), (1, 1, 1)), ((10, 30, 28), (4, 1, 1)), ((50, 60), (1, 1))]
)
def test_kimimaro_keeps_the_same_contract(shape, voxel_size):
    pytest.importorskip("kimimaro")
    labels = cells(shape, 14, seed=3)
    check(labels, skeletonize(labels, voxel_size, "kimimaro"))


def test_sixty_thousand_objects():
    """No object may cost more than its own box: 60,000 whole-volume comparisons would take hours."""
    labels = np.zeros((120, 130, 130), np.int32)
    grid = np.stack(np.meshgrid(*[np.arange(0, n, 3) for n in labels.shape], indexing="ij"), -1).reshape(
        -1, 3
    )
    where = np.random.default_rng(0).permutation(grid)[:60_000]
    labels[tuple(where.T)] = np.arange(1, 60_001)
    labels[:, :, 1:] = np.maximum(labels[:, :, 1:], labels[:, :, :-1])
    begun = time.process_time()
    skeletons = skeletonize(labels)
    assert time.process_time() - begun < 20  # about 2 on one core
    assert len(skeletons) == 60_000 and len(skeletons.points) == 60_000
    assert (labels[tuple(skeletons.points.astype(int).T)] == skeletons.ids).all()


def test_packing_and_selecting():
    points = {7: np.array([[1, 2], [3, 4]]), 2: np.array([[5, 6]]), 9: np.zeros((0, 2))}
    packed = Skeletons.pack(points, 2, {7: 1.5, 2: 2.5, 9: 0.5})
    assert packed.ids.tolist() == [2, 7, 9] and packed.starts.tolist() == [0, 1, 3, 3]
    assert packed.inscribed.tolist() == [2.5, 1.5, 0.5]
    assert {k: v.tolist() for k, v in packed.as_dict().items()} == {2: [[5, 6]], 7: [[1, 2], [3, 4]], 9: []}
    assert packed.of(3).shape == (0, 2) and packed.of(100).shape == (0, 2)
    chosen = packed.select(np.array([1, 7, 9]))
    assert chosen.ids.tolist() == [7, 9] and chosen.points.tolist() == [[1, 2], [3, 4]]
    assert chosen.starts.tolist() == [0, 2, 2] and chosen.inscribed.tolist() == [1.5, 0.5]
    assert len(packed.select(np.array([], int))) == 0
