"""What a plan decides, as pure functions of measurements."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from skoots.api.planning.decision import Decision, as_tree
from skoots.api.planning.decoding import decide_decoding
from skoots.api.planning.network import (
    BATCH,
    LARGEST_BATCH,
    Levels,
    choose_levels,
    choose_network,
    decide_network,
    needed_reach,
    shape_levels,
)
from skoots.api.planning.schedule import (
    choose_epochs,
    choose_steps,
    decide_object_rate,
    decide_schedule,
    share_of_crops_with_objects,
    share_samples,
)
from skoots.api.planning.split import choose_split, decide_sources
from skoots.api.planning.targets import decide_targets
from skoots.data.object_geometry import ObjectGeometry
from skoots.data.sources import Reading, Synthetic
from skoots.errors import SkootsError
from skoots.geometry import Box
from skoots.models.backbones.unet import UNet, plan_levels
from skoots.models.footprint import Footprint

GEOMETRY = ObjectGeometry(
    sizes=np.full(10, 500),
    starts=np.zeros((10, 3), int),
    stops=np.full((10, 3), 10),
    inscribed=np.linspace(5.0, 7.0, 10),
    lengths=np.full(10, 20.0),
    touching=3,
    close=1,
    touching_skeletons=0,
    foreground=5000,
    known=10_000,
)


def value_of(decisions: list[Decision], key: str) -> object:
    return next(decision.value for decision in decisions if decision.key == key)


def reason_of(decisions: list[Decision], key: str) -> str:
    return next(decision.reason for decision in decisions if decision.key == key)


def test_decisions_make_a_tree() -> None:
    tree = as_tree([Decision("a.b.c", 1), Decision("a.d", [2]), Decision("a.b.e", {"type": "x"})])
    assert tree == {"a": {"b": {"c": 1, "e": {"type": "x"}}, "d": [2]}}


# Network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 1, 1), (50, 9.2, 9.2), (2.24, 1, 1), (1, 1, 3)])
@pytest.mark.parametrize("count", [3, 4, 5])
def test_levels_of_large_volumes_are_those_of_the_backbone(size: tuple[float, ...], count: int) -> None:
    levels = shape_levels(count, size, [1000] * len(size))
    strides, kernels = plan_levels(count, size)
    assert levels == Levels([list(s) for s in strides], [list(k) for k in kernels])
    net = UNet(1, len(size), levels.channels(2), strides=levels.strides, kernels=levels.kernels)
    assert levels.receptive_field == net.receptive_field and tuple(levels.stride) == net.stride


def test_short_axes_are_not_halved_away() -> None:
    assert shape_levels(4, (1, 1, 1), (5, 100, 100)).stride == [1, 8, 8]
    assert shape_levels(4, (1, 1, 1), (9, 100, 100)).stride == [2, 8, 8]
    one = shape_levels(3, (1, 1, 1), (1, 100, 100))
    assert all(kernel == [1, 3, 3] for kernel in one.kernels)


def test_what_must_be_seen_follows_vectors_and_walls() -> None:
    assert needed_reach([10.0, 10.0], 3.0, (1.0, 1.0)) == [20, 20]
    assert needed_reach([4.0, 10.0, 10.0], 12.0, (4.0, 1.0, 1.0)) == [12, 48, 48]


def test_larger_objects_get_deeper_networks() -> None:
    depths = [len(choose_levels([n] * 3, (1, 1, 1), [500] * 3).kernels) for n in (10, 40, 80, 200)]
    assert depths == sorted(depths) == [3, 4, 5, 6]
    for n in (10, 40, 80, 200):
        assert min(choose_levels([n] * 3, (1, 1, 1), [500] * 3).receptive_field) >= n
    assert len(choose_levels([200] * 3, (1, 1, 1), [20] * 3).kernels) == 3  # no volume goes that far


def by_width(channels: list[int], levels: Levels) -> Footprint:
    return Footprint(1_000_000, 100.0 * channels[0])


@pytest.mark.parametrize("gigabytes", [0.1, 0.5, 2, 8, 40])
@pytest.mark.parametrize("size", [(1.0, 1.0), (1.0, 1.0, 1.0), (5.4, 1.0, 1.0)])
def test_a_step_stays_within_its_budget_and_uses_it(gigabytes: float, size: tuple[float, ...]) -> None:
    budget = int(gigabytes * 1e9)
    shapes = [(20, 2000, 1500)[-len(size) :], (30, 800, 900)[-len(size) :]]
    network = choose_network([30] * len(size), shapes, size, budget, (32, 16), by_width)
    assert network.bytes <= budget
    longest = [max(axis) for axis in zip(*shapes)]
    assert all(c == n or c % s == 0 or c < n for c, n, s in zip(network.crop, longest, network.levels.stride))
    if network.batch == BATCH:
        assert network.bytes > 0.3 * budget
    assert 1 <= network.batch <= LARGEST_BATCH


def test_memory_goes_to_the_width_once_the_crop_holds_what_is_needed() -> None:
    shapes, size = [(200, 200, 200)], (1.0, 1.0, 1.0)
    widths = [
        choose_network([60] * 3, shapes, size, budget, (32, 16, 8), by_width).channels[0]
        for budget in (10**8, 12 * 10**8, 2 * 10**9)
    ]
    assert widths == [8, 16, 32]


def test_axes_of_the_plane_stay_equal() -> None:
    """Else they could not be exchanged in augmentation."""
    for gigabytes in np.linspace(0.1, 3, 12):
        budget = int(gigabytes * 1e9)
        crop = choose_network([60] * 3, [(300, 400, 300)], (1.0,) * 3, budget, (16,), by_width).crop
        assert crop[1] == crop[2]
        flat = choose_network([60] * 2, [(900, 800)], (1.0,) * 2, budget, (16,), by_width).crop
        assert flat[0] == flat[1]


def test_more_memory_makes_crops_and_then_batches_larger() -> None:
    networks = [
        choose_network([30] * 2, [(300, 300)], (1.0, 1.0), int(g * 1e9), (16,), by_width)
        for g in (0.1, 0.3, 2)
    ]
    voxels = [math.prod(n.crop) for n in networks]
    assert voxels == sorted(voxels) and voxels[0] < voxels[1]
    assert networks[-1].batch == LARGEST_BATCH > networks[0].batch


def test_a_budget_that_holds_nothing_is_refused() -> None:
    with pytest.raises(
        SkootsError, match=r"0\.002 GB hold no training step: a crop of 16 x 16 x 16 .* --memory"
    ):
        choose_network([30] * 3, [(99, 99, 99)], (1, 1, 1), 2_000_000, (16,), by_width)


def test_reasons_of_the_network_name_its_numbers() -> None:
    network = choose_network([60] * 3, [(200, 200, 200)], (1.0, 1.0, 1.0), 10**8, (16,), by_width)
    decisions = decide_network(network, [60] * 3, [(200, 200, 200)], "0.1 GB were asked for")
    assert value_of(decisions, "data.crop_size") == network.crop
    crop = reason_of(decisions, "data.crop_size")
    assert "0.1 GB were asked for" in crop and "60 x 60 x 60" in crop and "1600 bytes a voxel" in crop
    depth = reason_of(decisions, "model.backbone.channels")
    assert " x ".join(map(str, network.levels.receptive_field)) in depth
    assert value_of(decisions, "model.backbone.strides") == network.levels.strides


# Targets ----------------------------------------------------------------------------------------------------


def test_the_core_and_the_boundary_are_learnt() -> None:
    decisions = decide_targets(GEOMETRY, [10.0, 12.0, 12.0], 20)
    assert value_of(decisions, "model.heads.skeleton") == {"type": "SkeletonHead"}
    assert value_of(decisions, "model.heads.boundary") == {"type": "BoundaryHead", "weight": 0.5}


def test_specks_are_much_smaller_than_small_objects() -> None:
    sizes = np.concatenate([np.full(10, 400), np.full(90, 2000)])
    decision = decide_decoding(replace(GEOMETRY, sizes=sizes))
    assert decision.value == {"min_size": 100} and "400 voxels" in decision.reason


def test_sigma_begins_at_the_inscribed_radius_and_falls_within_the_epochs() -> None:
    decisions = decide_targets(GEOMETRY, [10.0, 12.0, 12.0], 20)
    assert value_of(decisions, "model.heads.vector.sigma") == 6.0
    assert value_of(decisions, "model.heads.vector.sigma_decay") == [[0.66, 5], [0.66, 10], [0.66, 15]]
    assert "6.0 finest voxels" in reason_of(decisions, "model.heads.vector.sigma")
    assert "1.7" in reason_of(decisions, "model.heads.vector.sigma")
    for factor, expected in ((0.1, 4.0), (10, 10.0)):
        scaled = replace(GEOMETRY, inscribed=GEOMETRY.inscribed * factor)
        assert value_of(decide_targets(scaled, [10.0] * 3, 20), "model.heads.vector.sigma") == expected
    short = value_of(decide_targets(GEOMETRY, [10.0] * 3, 1), "model.heads.vector.sigma_decay")
    assert short == [[0.66, 1]]


# Schedule ---------------------------------------------------------------------------------------------------


def test_steps_cover_the_volumes_within_bounds() -> None:
    assert choose_steps(100_000 * 30, 50_000, 2, "cpu") == 30
    assert choose_steps(10, 50_000, 2, "cpu") == 20
    assert choose_steps(10**12, 50_000, 2, "accelerator") == 250
    assert choose_epochs(20, "cpu") == 30 and choose_epochs(45, "cpu") == 20
    assert choose_epochs(250, "accelerator") == 100


def test_volumes_with_more_objects_are_drawn_more_often() -> None:
    assert share_samples(40, [7]) == [40]
    assert share_samples(64, [8, 8, 16, 32]) == [8, 8, 16, 32]
    assert share_samples(10, [0, 1, 1000]) == [1, 1, 8]
    many = share_samples(100, list(range(1, 40)))
    assert 60 < sum(many) < 150 and len(set(many)) <= 4


def test_crops_with_objects_are_counted() -> None:
    volume = Synthetic([40, 40], objects="blobs", radius=(3.0, 4.0)).open(Reading())[0]
    assert share_of_crops_with_objects([volume], [40, 40]) == 1.0
    points = volume.skeletons.points
    corners = [(y, x) for y in range(31) for x in range(31)]
    exact = np.mean([((points >= c) & (points < np.add(c, 10))).all(1).any() for c in corners])
    assert share_of_crops_with_objects([volume], [10, 10]) == pytest.approx(exact, abs=0.12)
    corner = np.rint(points[0]).astype(int).clip(0, 30)
    known = Box.at(tuple(corner), (10, 10))  # there is one place only where a crop keeps to it
    found = ((points >= known.start) & (points < known.stop)).all(1).any()
    assert share_of_crops_with_objects([volume], [10, 10], known=[known]) == float(found)


def test_sparse_objects_are_sought() -> None:
    assert decide_object_rate(1.0, 0.9).value == 0.33
    assert decide_object_rate(0.5, 0.05).value == 0.9
    middle = decide_object_rate(0.9, 0.05)
    assert middle.value == 0.5 and "90 % of crops" in middle.reason and "95 % do" in middle.reason


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 30, 200])
def test_the_schedule_ends_with_the_epochs(epochs: int) -> None:
    decisions = decide_schedule(20, epochs, 2.0, "cpu", 100)
    node = value_of(decisions, "runner.scheduler")
    assert isinstance(node, dict)
    parts = node["params"].get("schedulers", [node])
    warm_up = node["params"].get("milestones", [0])[0]
    assert parts[-1]["params"]["T_max"] + warm_up == epochs
    assert 1 <= value_of(decisions, "runner.eval_interval") <= epochs  # type: ignore[operator]


def test_few_objects_are_scored_by_a_finer_metric() -> None:
    assert value_of(decide_schedule(20, 30, 2.0, "cpu", 300), "runner.key_metric") == "test.F1"
    few = decide_schedule(20, 30, 2.0, "cpu", 10)
    assert value_of(few, "runner.key_metric") == "test.mAP" and "0.1" in reason_of(few, "runner.key_metric")
    assert value_of(decide_schedule(20, 30, 2.0, "cpu", 0), "runner.key_metric") == "test.loss"
    pinned = {
        kind: [d.value for d in decide_schedule(20, 30, 2.0, kind, 10) if d.key.endswith("pin_memory")]
        for kind in ("cpu", "accelerator")
    }
    assert pinned == {"cpu": [], "accelerator": [True]}


# Split ------------------------------------------------------------------------------------------------------


def test_several_volumes_are_shared_out() -> None:
    names = [f"v{i}" for i in range(5)]
    split = choose_split(names, [(9, 9, 9)] * 5, (1, 1, 1), [GEOMETRY] * 5, seed=3)
    assert len(split.validation) == 1 and not split.cuts and split.held_out == 10
    assert sorted([*split.train, *split.validation]) == names
    sources = as_tree(decide_sources("folder", split, [4, 4, 8, 4], None, "test_folder", "disk"))["data"]
    assert [source["samples_per_volume"] for source in sources["train"]] == [4, 8]
    assert [name for source in sources["train"] for name in source["names"]] == [
        *split.train[:2], split.train[3], split.train[2]
    ]  # fmt: skip
    assert all(source["store"] == "disk" for source in sources["train"])
    assert sources["validation"] == [{"path": "folder", "names": split.validation, "store": "disk"}]
    assert sources["test"] == [{"path": "test_folder", "store": "disk"}]


def test_the_only_volume_is_divided() -> None:
    starts = np.array([[0, 0, 5 * i] for i in range(10)])
    geometry = replace(GEOMETRY, starts=starts, stops=starts + np.array([10, 10, 4]))
    split = choose_split(["only"], [(10, 10, 50)], (1, 1, 1), [geometry])
    cut = split.cuts["only"]
    assert split.held_out == cut.held and "across x" in split.reason
    sources = as_tree(decide_sources("folder", split, [40], None, None, "memory"))["data"]
    (train,), (held,) = sources["train"], sources["validation"]
    assert train == {
        "path": "folder",
        "samples_per_volume": 40,
        "box": [*map(list, (cut.train.start, cut.train.stop))],
    }
    assert held["box"] == [list(cut.validation.start), list(cut.validation.stop)]
    lone = replace(GEOMETRY, starts=np.zeros((1, 3), int), stops=np.full((1, 3), 2))
    undivided = choose_split(["only"], [(10, 10, 50)], (1, 1, 1), [lone])
    assert undivided.held_out == 0 and "--validation" in undivided.reason


def test_of_few_volumes_each_is_divided_that_can_be() -> None:
    starts = np.array([[0, 0, 5 * i] for i in range(10)])
    many = replace(GEOMETRY, starts=starts, stops=starts + np.array([10, 10, 4]))
    lone = replace(GEOMETRY, starts=np.zeros((1, 3), int), stops=np.full((1, 3), 2))
    names, shapes = ["a", "b", "c"], [(10, 10, 50)] * 3
    split = choose_split(names, shapes, (1, 1, 1), [many, lone, many])
    assert split.train == names and not split.validation and list(split.cuts) == ["a", "c"]
    assert split.held_out == 2 * split.cuts["a"].held and "2 of 3 volumes are divided" in split.reason
    sources = as_tree(decide_sources("folder", split, [8, 4, 8], None, None, "memory"))["data"]
    assert [source["names"] for source in sources["train"]] == [["b"], ["a"], ["c"]]
    assert ["box" in source for source in sources["train"]] == [False, True, True]
    assert [source["names"] for source in sources["validation"]] == [["a"], ["c"]]
    whole = choose_split(names, shapes, (1, 1, 1), [lone] * 3)
    assert len(whole.validation) == 1 and not whole.cuts
