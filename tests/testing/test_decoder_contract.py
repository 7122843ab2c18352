"""Every built-in decoder keeps the contract that plugins are held to, and the contract catches those that do
not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from skoots.geometry import Box
from skoots.instances import Decoder, Maps, SkeletonDecoder, label_components
from skoots.instances.decoders.landing import LandingDecoder
from skoots.instances.decoders.persistence import PersistenceDecoder
from skoots.instances.decoders.watershed import WatershedDecoder
from skoots.testing import DecoderContract


class TestSkeletonDecoder(DecoderContract):
    def make(self) -> Decoder:
        return SkeletonDecoder(min_size=5)


class TestLandingDecoder(DecoderContract):
    def make(self) -> Decoder:
        return LandingDecoder(smoothing=0.5, votes=0.5)


class TestPersistenceDecoder(DecoderContract):
    def make(self) -> Decoder:
        return PersistenceDecoder(votes=0.25, neck=0.3)


class TestWatershedDecoder(DecoderContract):
    def make(self) -> Decoder:
        return WatershedDecoder(min_size=3)


@dataclass(frozen=True)
class Liar(Decoder):
    """Breaks one promise."""

    how: str = ""

    def seeds(self, maps: Maps) -> np.ndarray:
        if self.how == "writes":
            maps.arrays["semantic"][:, 0] = 255
        seeds = label_components(self.foreground(maps))
        return seeds.astype(np.int64) if self.how == "type" else seeds + (self.how == "no background")

    def assign(self, maps: Maps, seeds: np.ndarray, box: Box | None = None) -> np.ndarray:
        if self.how == "box" and box is not None:
            return label_components(maps.above("semantic", 0.5)[box.slices])
        if self.how == "far" and box is not None:
            return seeds[box.slices] + np.int32(maps.arrays["semantic"].max() == 1)
        return super().assign(maps, seeds, box)


@pytest.mark.parametrize(
    ("how", "test"),
    [
        ("writes", "test_maps_are_left_as_they_are_and_decide_everything"),
        ("type", "test_boxes_are_parts_of_the_whole"),
        ("no background", "test_without_foreground_there_is_nothing"),
        ("no background", "test_objects_are_numbered_from_1_and_lie_in_the_foreground"),
        ("box", "test_boxes_are_parts_of_the_whole"),
        ("far", "test_a_box_reads_no_further_than_the_longest_walk"),
    ],
)
def test_what_breaks_a_promise_is_caught(how: str, test: str) -> None:
    def suite(promise: str) -> DecoderContract:
        class Suite(DecoderContract):
            def make(self) -> Decoder:
                return Liar(how=promise)

        return Suite()

    getattr(suite(""), test)(2)
    with pytest.raises(AssertionError):
        getattr(suite(how), test)(2)


@pytest.mark.parametrize("tried", [{"hw": ("a",)}, {"how": ()}, {"semantic_threshold": (0.5, 1.5)}])
def test_settings_that_cannot_be_tried_are_caught(tried: dict[str, tuple[Any, ...]]) -> None:
    class Suite(DecoderContract):
        def make(self) -> Decoder:
            return type("Trying", (Liar,), {"tried": tried})()

    with pytest.raises((AssertionError, TypeError, ValueError)):
        Suite().test_settings_that_are_tried_are_allowed(2)
