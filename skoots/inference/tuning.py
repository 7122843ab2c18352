"""Which decoder, with which settings, suits the maps of a network: tried on maps whose truth is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, replace

import numpy as np

from skoots.instances import Decoder, Maps
from skoots.metrics import contingency, match

LEAST_GAIN = 0.01
"""Of panoptic quality, below which the model's own decoder stays: the best of a hundred trials is ahead by a
little on any data."""

ROUNDS = 2
SHARED = ("semantic_threshold", "min_size", "steps", "reach")
"""Settings that mean the same in all decoders."""


@dataclass(frozen=True)
class Known:
    """Maps and what they should become.

    Args:
        maps: all that the decoders read which are tried.
        truth: (*S) true ids, 0 = background.
        ignore_label: this id means "not known".
    """

    maps: Maps
    truth: np.ndarray
    ignore_label: int | None = None


@dataclass(frozen=True)
class Choice:
    """What a search has found.

    Args:
        own: the decoder that it began with.
        own_score: panoptic quality of it.
        best: of all decoders tried the best, of equal ones the first.
        best_score: panoptic quality of that one.
        trials: decoders that were tried.
        complete: whether it came to its end in its time.
    """

    own: Decoder
    own_score: float
    best: Decoder
    best_score: float
    trials: int
    complete: bool

    @property
    def gained(self) -> bool:
        """Whether the best is so much better that it takes the place of the own one."""
        return self.best_score - self.own_score >= LEAST_GAIN


def choose_decoder(
    known: Sequence[Known],
    own: Decoder,
    kinds: Sequence[type[Decoder]],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Choice:
    """Search for the decoder whose objects agree best with the truth.

    Every kind begins with its defaults and the settings that it shares with the own decoder; kinds with the
    better beginning are taken first. Then, setting by setting and twice, the best of the values in
    ``Decoder.tried`` is kept. What is measured is panoptic quality: it sees whether objects are found and
    where their borders lie. F1 alone is the same for thin and fat objects.

    Args:
        known: maps with their truth.
        own: the decoder of the model, which is tried first and always.
        kinds: classes to try; those that read other maps than there are, or need more arguments, are not.
        seconds: after which no more trial begins.
        clock: seconds now.
    """
    trials = _Trials(known, clock() + seconds, clock)
    own_score = trials.first(own)
    try:
        _search(trials, own, [kind for kind in kinds if can_begin(kind)])
        complete = True
    except _TimeIsUpError:
        complete = False
    return Choice(own, own_score, trials.best, trials.best_score, len(trials.scores), complete)


class _TimeIsUpError(Exception):
    pass


class _Trials:
    """Scores of decoders; one that comes again is remembered."""

    def __init__(self, known: Sequence[Known], end: float, clock: Callable[[], float]) -> None:
        self.known, self.end, self.clock = known, end, clock
        self.scores: dict[str, float] = {}

    def first(self, decoder: Decoder) -> float:
        """The score of the decoder that is tried whatever the time."""
        self.best, self.best_score = decoder, quality(decoder, self.known)
        self.scores[repr(decoder)] = self.best_score
        return self.best_score

    def __call__(self, decoder: Decoder) -> float:
        key = repr(decoder)  # a decoder of a plugin may have settings without a hash
        if key not in self.scores:
            if self.clock() >= self.end:
                raise _TimeIsUpError
            self.scores[key] = quality(decoder, self.known)
            if self.scores[key] > self.best_score:
                self.best, self.best_score = decoder, self.scores[key]
        return self.scores[key]


def _search(trials: _Trials, own: Decoder, kinds: Sequence[type[Decoder]]) -> None:
    beginnings = [decoder for kind in kinds if fits(decoder := _beginning(kind, own), trials.known)]
    reached = sorted(beginnings, key=trials, reverse=True)
    for _ in range(ROUNDS):
        reached = [_improved(decoder, trials) for decoder in reached]


def _improved(decoder: Decoder, trials: _Trials) -> Decoder:
    """The best that is reached by changing one setting after the other."""
    for name in decoder.tried:
        others = [other for other in neighbours(decoder, name) if fits(other, trials.known)]
        decoder = max([decoder, *others], key=trials)
    return decoder


def neighbours(decoder: Decoder, *names: str) -> list[Decoder]:
    """The same decoder with another value of one of these settings, of those that are tried."""
    return [replace(decoder, **{name: value}) for name in names for value in decoder.tried[name]]


def can_begin(kind: type[Decoder]) -> bool:
    """Whether all settings of a class have defaults."""
    return all(field.default is not MISSING or field.default_factory is not MISSING for field in fields(kind))


def _beginning(kind: type[Decoder], own: Decoder) -> Decoder:
    if kind is type(own):
        return own
    names = {field.name for field in fields(kind)} & {field.name for field in fields(own)} & {*SHARED}
    return kind(**{name: getattr(own, name) for name in names})


def fits(decoder: Decoder, known: Sequence[Known]) -> bool:
    """Whether the maps are there that a decoder reads, kept in its way."""
    return all(
        each.maps.types.get(name) == kind and not (kind.per_axis and each.maps.scale is None)
        for each in known
        for name, kind in decoder.reads.items()
    )


def quality(decoder: Decoder, known: Sequence[Known]) -> float:
    """Panoptic quality of what a decoder makes of maps, the mean over these.

    Pooled, one image of many objects that are hardly seen would choose for all others.
    """
    tables = (contingency(each.truth, decoder.decode(each.maps), each.ignore_label) for each in known)
    return float(np.mean([match(table).panoptic_quality for table in tables]))
