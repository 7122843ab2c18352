"""The search for a decoder, against every decoder there is, and what it stops at."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from skoots.inference.tuning import LEAST_GAIN, Choice, Known, choose_decoder, quality
from skoots.instances import DECODERS, PROBABILITY, VECTOR, Decoder, Maps, SkeletonDecoder
from skoots.instances.decoders.landing import LandingDecoder
from skoots.instances.decoders.watershed import WatershedDecoder
from skoots.metrics import contingency, score, stack
from skoots.ranges import Number


@dataclass(frozen=True)
class Rows(Decoder):
    """Each row of the foreground is an object, without some of its first and last columns."""

    tried: ClassVar[Mapping[str, Sequence[Any]]] = {
        "first": (0, 1, 2, 3),
        "last": (0, 1, 2),
        "min_size": (0, 3),
        **Decoder.tried,
    }

    first: Number = 3
    last: Number = 2

    def seeds(self, maps: Maps) -> np.ndarray:
        inside = self.foreground(maps)
        inside[:, : self.first] = False
        inside[:, inside.shape[1] - self.last :] = False
        return np.where(inside, np.arange(1, len(inside) + 1)[:, None], 0).astype(np.int32)


@dataclass(frozen=True)
class Whole(Decoder):
    """All of the foreground is one object."""

    def seeds(self, maps: Maps) -> np.ndarray:
        return self.foreground(maps).astype(np.int32)


@dataclass(frozen=True)
class Listed(Whole):
    """A setting that has no hash."""

    tried: ClassVar[Mapping[str, Sequence[Any]]] = {"levels": ([1], [2])}

    levels: list[int] = field(default_factory=list)


def rows(first: int = 1, last: int = 0, threshold: float = 0.4, seed: int = 0) -> Known:
    """Maps of which ``Rows(threshold, first=first, last=last)`` makes the truth."""
    semantic = np.full((6, 10), 0.9)
    semantic[3:] = np.random.default_rng(seed).choice([0.35, 0.45, 0.9], (3, 10))
    values = {"semantic": semantic[None], "vector": np.zeros((2, 6, 10)), "skeleton": semantic[None]}
    types = {"semantic": PROBABILITY, "vector": VECTOR, "skeleton": PROBABILITY}
    maps = Maps.of(values, types, (1.0, 1.0), (2.0, 2.0))
    return Known(maps, Rows(threshold, first=first, last=last).decode(maps).astype(np.int64))


def every(known: Sequence[Known], own: Decoder) -> dict[Decoder, float]:
    """Scores of all combinations of what is tried."""
    values = own.tried
    combinations = (dict(zip(values, chosen)) for chosen in itertools.product(*values.values()))
    return {(decoder := replace(own, **chosen)): quality(decoder, known) for chosen in combinations}


@pytest.mark.parametrize(("first", "last", "threshold"), [(1, 0, 0.4), (0, 2, 0.5), (2, 1, 0.3)])
def test_independent_settings_are_found_as_by_trying_everything(
    first: int, last: int, threshold: float
) -> None:
    known = [rows(first, last, threshold, seed) for seed in (1, 2)]
    choice = choose_decoder(known, Rows(), [Rows, Whole], seconds=1e9)
    scores = every(known, Rows())
    assert choice.best_score == max(scores.values()) == 1.0
    assert quality(choice.best, known) == 1.0 and (choice.best.first, choice.best.last) == (first, last)  # type: ignore[attr-defined]
    assert choice.own == Rows() and choice.own_score == scores[Rows()] < 1
    assert choice.gained and choice.complete and choice.trials < len(scores) / 2


def test_quality_is_the_mean_over_all_maps_and_unknown_voxels_do_not_count() -> None:
    known = [rows(), rows(0, 2, 0.5)]
    few = np.where(known[1].truth > 2, 0, known[1].truth)  # of equal numbers pooling is the same
    known[1] = replace(known[1], truth=few)
    decoder = Rows(first=0)
    tables = [contingency(each.truth, decoder.decode(each.maps)) for each in known]
    assert quality(decoder, known) == pytest.approx(np.mean([score(table)["PQ"] for table in tables]))
    assert quality(decoder, known) != pytest.approx(score(stack(tables))["PQ"])
    unknown = known[0].truth.copy()
    wrong = unknown != Rows(first=0, last=0).decode(known[0].maps)
    unknown[wrong] = 99
    assert quality(Rows(first=0, last=0), [replace(known[0], truth=unknown)]) < 1
    assert quality(Rows(first=0, last=0), [Known(known[0].maps, unknown, 99)]) == 1


@pytest.mark.parametrize(("gain", "stays"), [(0.0, True), (LEAST_GAIN / 2, True), (2 * LEAST_GAIN, False)])
def test_the_own_decoder_stays_unless_another_is_clearly_better(
    gain: float, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stand_in(decoder: Decoder, known: Sequence[Known]) -> float:
        return 0.5 + gain * isinstance(decoder, Whole)

    monkeypatch.setattr("skoots.inference.tuning.quality", stand_in)
    own = Rows(first=2)
    choice = choose_decoder([rows()], own, [Whole, Rows], 1e9)
    assert choice.gained is not stays
    assert choice.best == (Whole() if gain else own)  # of equal ones the first, and the own one comes first


def test_no_trial_begins_after_the_time_is_up_and_the_own_one_always_does() -> None:
    def found(seconds: int) -> Choice:
        now = iter(range(1000))  # a second passes whenever the clock is looked at
        return choose_decoder([rows()], Rows(), [Rows], seconds, lambda: next(now))

    for seconds, trials in ((0, 1), (1, 1), (2, 2), (8, 8)):
        choice = found(seconds)
        assert (choice.trials, choice.complete) == (trials, False)
        assert choice.best_score >= choice.own_score
    assert found(999).complete


def test_the_same_search_finds_the_same_and_tries_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def remember(decoder: Decoder, known: Sequence[Known]) -> float:
        tried.append(repr(decoder))
        return quality(decoder, known)

    monkeypatch.setattr("skoots.inference.tuning.quality", remember)
    names = ("LandingDecoder", "PersistenceDecoder", "SkeletonDecoder", "WatershedDecoder")
    kinds = [DECODERS.get(name) for name in names]
    first, second = (choose_decoder([rows()], SkeletonDecoder(), kinds, 1e9) for _ in range(2))
    assert first == second and first.trials == len(set(tried)) == len(tried) / 2
    assert tried[0] == repr(SkeletonDecoder())
    assert {name.split("(")[0] for name in tried[1:4]} == {kind.__name__ for kind in kinds} - {
        "SkeletonDecoder"
    }  # all kinds begin before one is improved


def test_kinds_begin_with_the_settings_that_they_share_with_the_own_one() -> None:
    own = SkeletonDecoder(semantic_threshold=0.45, min_size=9, steps=7, reach=2.0, skeleton_threshold=0.8)
    now = iter(range(1000))
    tried: list[Decoder] = []

    class Spy(LandingDecoder):
        def decode(self, *words: Any) -> np.ndarray:
            tried.append(self)
            return super().decode(*words)

    choose_decoder([rows()], own, [Spy], 2, lambda: next(now))
    assert tried == [Spy(semantic_threshold=0.45, min_size=9, steps=7, reach=2.0)]


def test_what_the_maps_do_not_give_is_not_tried() -> None:
    full = rows()
    maps = full.maps
    few = Known(
        replace(
            maps,
            arrays={"semantic": maps.arrays["semantic"]},
            types={"semantic": PROBABILITY},
            scale=None,
        ),
        full.truth,
    )
    without_scale = Known(replace(maps, scale=None), full.truth)
    kinds = [LandingDecoder, SkeletonDecoder]
    for known in (few, without_scale):
        assert choose_decoder([known], Whole(), kinds, 1e9).trials == 1
        assert choose_decoder([known], Whole(), [*kinds, Rows], 1e9).trials > 10


def test_settings_without_a_hash_and_classes_that_need_arguments() -> None:
    @dataclass(frozen=True)
    class Needy(Whole):
        name: str = field(kw_only=True)

    choice = choose_decoder([rows()], Rows(), [Needy, Listed], 1e9)
    assert choice.complete and choice.trials > 3


@pytest.mark.parametrize("name", DECODERS.names())
def test_everything_tried_is_allowed_and_the_default_is_among_it(name: str) -> None:
    decoder = DECODERS.get(name)()
    assert decoder.tried
    for setting, values in decoder.tried.items():
        assert getattr(decoder, setting) in values
        for value in values:
            replace(decoder, **{setting: value})


def test_maps_of_other_heads_are_tried_where_the_network_gives_them() -> None:
    """Objects that touch in the foreground, and that only the map of boundaries tells apart."""
    semantic = np.full((9, 12), 0.9)
    boundary = np.zeros_like(semantic)
    boundary[4] = 1.0
    values = {"semantic": semantic[None], "boundary": boundary[None]}
    types = dict.fromkeys(values, PROBABILITY)
    truth = np.repeat([1, 1, 1, 1, 1, 2, 2, 2, 2], 12).reshape(9, 12)
    without = {"semantic": values["semantic"]}
    known = Known(Maps.of(values, types, (1.0, 1.0)), truth)
    blind = Known(Maps.of(without, {"semantic": PROBABILITY}, (1.0, 1.0)), truth)
    seeing = choose_decoder([known], WatershedDecoder(), [WatershedDecoder], 1e9)
    assert seeing.best.boundary_map == "boundary" and seeing.best_score > 0.9  # type: ignore[attr-defined]
    assert choose_decoder([blind], WatershedDecoder(), [WatershedDecoder], 1e9).best_score < 0.5
