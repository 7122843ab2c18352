"""Weights by name into a model: which tensor of a file goes where, and the copying.

Three modes, those of SuperGradients' ``StrictLoad``: everything must agree (``True``), what agrees is loaded
(``False``), or names may differ where the order of the tensors tells what is meant (``"no_key_matching"``).
None of them guesses, and none ends with nothing loaded. A name may be asked for in parts: ``backbone``,
``heads.vector``. Files are read elsewhere; here they are mappings from name to tensor.
"""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from skoots.errors import SnapshotError
from skoots.registry import did_you_mean

Strict = bool | Literal["no_key_matching"]
Shape = tuple[int, ...]
Shapes = dict[str, Shape]
T = TypeVar("T")

COMPILED = "_orig_mod"
"""What ``torch.compile`` puts before the names of the module that it wraps, at any depth."""

PARALLEL = "module."
"""What ``DistributedDataParallel`` and ``AveragedModel`` put before all names."""


@dataclass(frozen=True)
class Matching:
    """What of a file goes where in a model.

    All names are those of the bare model: without the prefixes of wrappers, and where the file holds one part
    alone, with the prefix of that part.

    Args:
        pairs: name in the model to name in the file, of what is loaded.
        missing: names of the model that the file lacks.
        unexpected: names of the file that the model lacks.
        mismatched: names in both whose shapes differ: the shape in the model and the one in the file.
        share: of all numbers in the tensors asked for, those that are loaded; 0 to 1.
        parts: the parts asked for; empty for the whole model. Nothing outside them is counted.
    """

    pairs: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: dict[str, tuple[Shape, Shape]]
    share: float
    parts: tuple[str, ...] = ()

    @property
    def renamed(self) -> dict[str, str]:
        """Those pairs whose names differ."""
        return {name: source for name, source in self.pairs.items() if name != source}

    def summary(self) -> str:
        """One sentence for the log, with some names of each kind."""
        asked = len(self.pairs) + len(self.missing) + len(self.mismatched)
        of_parts = f" of {', '.join(self.parts)}" if self.parts else ""
        kinds = {
            "renamed": [f"{source} -> {name}" for name, source in self.renamed.items()],
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self._shapes_that_differ(),
        }
        return (
            f"loaded {len(self.pairs)} of {asked} tensors{of_parts} "
            f"({100 * self.share:.1f} % of the parameters)"
            + "".join(f"; {len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names)
        )

    def faults(self) -> list[str]:
        """Every name that did not find its place, a line each."""
        return (
            [f"missing in the file: {name}" for name in self.missing]
            + [f"unexpected in the file: {name}" for name in self.unexpected]
            + [f"of another shape: {line}" for line in self._shapes_that_differ()]
        )

    def _shapes_that_differ(self) -> list[str]:
        return [f"{name} (model {ours}, file {theirs})" for name, (ours, theirs) in self.mismatched.items()]


def load_weights(
    module: nn.Module, offered: Mapping[str, Tensor], strict: Strict = True, parts: Sequence[str] = ()
) -> Matching:
    """Copy a file's tensors into a module, all that ``match_weights`` finds or nothing.

    The module keeps its dtypes and its device; it may be compiled or wrapped for parallel training.

    Args:
        module: what is loaded into.
        offered: the file's tensors by name.
        strict: see ``match_weights``.
        parts: see ``match_weights``.

    Raises:
        SnapshotError: as ``match_weights``; the module is as it was.
    """
    targets = {
        name: value for name, value in bare_names(module.state_dict()).items() if isinstance(value, Tensor)
    }
    matching = match_weights(targets, offered, strict, parts)
    sources = _named_as_in_model(offered, matching.parts)
    with torch.no_grad():
        for name, source in matching.pairs.items():
            targets[name].copy_(torch.as_tensor(sources[source]))
    return matching


def unwrapped(module: nn.Module) -> nn.Module:
    """The bare model in what ``torch.compile`` and parallel training have wrapped around it."""
    while True:
        inner = getattr(module, COMPILED, None)
        if inner is None and isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = module.module
        if inner is None:
            return module
        module = inner


def misfit(module: nn.Module, offered: Mapping[str, Tensor]) -> str:
    """One sentence about what of a file fits a module, for a refusal."""
    try:
        return match_weights(module.state_dict(), offered, strict=False).summary().rstrip(".")
    except SnapshotError:
        return "not one of its tensors does"


def match_weights(
    wanted: Mapping[str, Tensor | torch.Size],
    offered: Mapping[str, Tensor],
    strict: Strict = True,
    parts: Sequence[str] = (),
) -> Matching:
    """Decide which tensor of a file goes where in a model.

    Args:
        wanted: the model's tensors, or their shapes, by name and in their order.
        offered: the file's tensors by name and in their order. A number is a tensor without axes; what is
            neither (text, settings) is passed over.
        strict: ``True``: the names and shapes of both must be the same. ``False``: what agrees in name and
            shape is paired. ``"no_key_matching"``: so it is, and the rest is paired in order, if nothing
            speaks against that (see ``_pair_in_order``).
        parts: submodules, such as ``backbone`` or ``heads.vector``, that alone are loaded. If it is one and
            the file has no name in it, the file is taken to hold this part alone.

    Raises:
        SnapshotError: the model lacks a part; nothing fits, or nothing in one of the parts; under ``True``
            anything differs; under ``"no_key_matching"`` the order is ambiguous.
    """
    model = _shapes(bare_names(wanted))
    for part in parts:
        _check_part(part, model)
    outermost = _outermost(parts)
    want = _within(model, outermost)
    offer = _within(_shapes(_named_as_in_model(offered, outermost)), outermost)
    pairs = _pairs(want, offer, strict, outermost)
    for part in parts or ("",):
        if not _within(pairs, [part]):
            raise _nothing_fits(part, want, _shapes(bare_names(offered)))
    matching = _matching(pairs, want, offer, outermost)
    if strict is True and (faults := matching.faults()):
        raise SnapshotError(
            "The weights do not fit the model:"
            + _lines(faults)
            + "\nSet weights.strict: false to load what fits, weights.strict: no_key_matching if tensors "
            "were only renamed, or name in weights.parts the parts of the model to load."
        )
    return matching


def _pairs(want: Shapes, offer: Shapes, strict: Strict, parts: Sequence[str]) -> dict[str, str]:
    if strict != "no_key_matching":
        return _same(want, offer)
    pairs: dict[str, str] = {}
    for part in parts or ("",):
        pairs |= _pair_in_order(_within(want, [part]), _within(offer, [part]), part)
    return pairs


def _same(want: Shapes, offer: Shapes) -> dict[str, str]:
    return {name: name for name, shape in want.items() if offer.get(name) == shape}


def _matching(pairs: dict[str, str], want: Shapes, offer: Shapes, parts: tuple[str, ...]) -> Matching:
    loaded = set(pairs.values())
    numbers = {name: math.prod(shape) for name, shape in want.items()}
    return Matching(
        pairs=pairs,
        missing=tuple(name for name in want if name not in pairs and name not in offer),
        unexpected=tuple(name for name in offer if name not in loaded and name not in want),
        mismatched={
            name: (shape, offer[name]) for name, shape in want.items() if name not in pairs and name in offer
        },
        share=sum(numbers[name] for name in pairs) / max(sum(numbers.values()), 1),
        parts=parts,
    )


# Names ------------------------------------------------------------------------------------------------------


def bare_names(named: Mapping[str, T]) -> dict[str, T]:
    """The same values under the names that the module has without its wrappers."""
    bare = {".".join(p for p in name.split(".") if p != COMPILED): value for name, value in named.items()}
    # Names without a dot are the wrapper's own, such as the counter of an AveragedModel. A model's own child
    # of the name "module" has siblings, which keep it.
    while (inner := [name for name in bare if "." in name]) and all(n.startswith(PARALLEL) for n in inner):
        stripped = {name.removeprefix(PARALLEL): value for name, value in bare.items()}
        if len(stripped) < len(bare):
            break
        bare = stripped
    return bare


def _named_as_in_model(offered: Mapping[str, T], parts: Sequence[str]) -> dict[str, T]:
    """The file's values under the bare model's names, also if the file holds the one part alone."""
    bare = bare_names(offered)
    if len(parts) != 1 or _within(bare, parts):
        return bare
    return {f"{parts[0]}.{name}": value for name, value in bare.items()}


def _shapes(named: Mapping[str, Tensor | torch.Size]) -> Shapes:
    return {
        name: tuple(value if isinstance(value, torch.Size) else torch.as_tensor(value).shape)
        for name, value in named.items()
        if isinstance(value, (Tensor, torch.Size, int, float))
    }


def _within(named: Mapping[str, T], parts: Sequence[str]) -> dict[str, T]:
    """What lies in one of the parts; no part, or one without a name, is everything."""
    prefixes = tuple(f"{part}." if part else "" for part in parts) or ("",)
    return {name: value for name, value in named.items() if name.startswith(prefixes)}


def _outermost(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(p for p in dict.fromkeys(parts) if not any(p.startswith(f"{q}.") for q in parts))


# What is refused --------------------------------------------------------------------------------------------


def _check_part(part: str, model: Shapes) -> None:
    if part and _within(model, [part]):
        return
    depth = part.count(".") + 1
    known = {".".join(name.split(".")[:depth]) for name in model if name.count(".") >= depth}
    raise SnapshotError(
        f"weights.parts: the model has no weights in {part!r}. {did_you_mean(part, sorted(known))}"
    )


def _nothing_fits(part: str, want: Shapes, offer: Shapes) -> SnapshotError:
    where = f"the part {part!r} of the model" if part else "the model"
    ours = [f"{name} {shape}" for name, shape in _within(want, [part]).items()]
    theirs = [f"{name} {shape}" for name, shape in offer.items()]
    return SnapshotError(
        f"No tensor in the file fits {where} in name and shape. The file has {_some(theirs)}; "
        f"the model has {_some(ours)}. Give the weights of a model built alike, name in weights.parts a part "
        "that the file has, or set weights.strict: no_key_matching if tensors were only renamed."
    )


def _refused(part: str, why: str, lines: list[str], most: int = 20) -> SnapshotError:
    where = f" in {part}" if part else ""
    if len(lines) > most:
        lines = [*lines[:most], f"and {len(lines) - most} more"]
    return SnapshotError(
        f"weights.strict: no_key_matching pairs in order what has no namesake{where}, but {why}:"
        + _lines(lines)
        + "\nRename the tensors in the file, or set weights.strict: false to load only what agrees in name."
    )


def _some(names: Collection[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(islice(names, most)) or "no tensors") + more


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"\n  - {line}" for line in lines)


# Pairing in order -------------------------------------------------------------------------------------------


def _pair_in_order(want: Shapes, offer: Shapes, part: str = "") -> dict[str, str]:
    """Pair namesakes of one shape, then the rest in order, as ``adapt_checkpoint`` of SuperGradients does.

    Unlike there nothing is dropped and nothing guessed: the rest must be as many tensors on both sides, of
    the same shapes and last names (``weight``, ``bias``) one by one, and no name may speak against the order
    (see ``_doubts``).

    Raises:
        SnapshotError: the order is ambiguous; the message has the tensors.
    """
    same = _same(want, offer)
    ours, theirs = [n for n in want if n not in same], [n for n in offer if n not in same]
    if len(ours) != len(theirs):
        sides = {"model": ours, "file": theirs}
        lines = [f"{len(names)} in the {side}: {_some(names, 20)}" for side, names in sides.items()]
        raise _refused(part, "these differ in number", lines)
    rest = dict(zip(ours, theirs))
    unlike = [
        f"{source} {offer[source]} -> {name} {want[name]}"
        for name, source in rest.items()
        if (want[name], _last(name)) != (offer[source], _last(source))
    ]
    if unlike:
        raise _refused(part, "some pairs differ in shape or last name, so the networks differ", unlike)
    both = same | rest
    pairs = {name: both[name] for name in want}
    if doubts := _doubts(pairs, rest, want, list(offer)):
        raise _refused(part, "the names speak against the order", doubts)
    return pairs


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _doubts(pairs: dict[str, str], rest: Collection[str], want: Shapes, file_order: list[str]) -> list[str]:
    """What the names say against the pairs of ``rest``, a line each; only tensors of one shape and last name
    can be confused."""
    place = {name: index for index, name in enumerate(file_order)}
    kinds: dict[tuple[Shape, str], list[str]] = defaultdict(list)
    for name in pairs:
        kinds[want[name], _last(name)].append(name)
    return [
        f"{pairs[name]} -> {name}, but {rival} fits its name no worse"
        for names in kinds.values()
        if len(names) > 1 and any(name in rest for name in names)
        for name, rival in _rivals(names, pairs, rest, place).items()
    ]


def _rivals(
    names: list[str], pairs: dict[str, str], rest: Collection[str], place: dict[str, int]
) -> dict[str, str]:
    """Which of these names, in the model's order, have a partner that may belong to another of them, and to
    which.

    How much two names resemble each other is how many words they share in order; see ``_common_words``.
    Against a pair (file's f, model's m) speaks another pair (g, n) with

    - f and n more alike than f and m, and also more than g and n: both would be better off together; or
    - g and n namesakes that lie on different sides of f and of m, so that the order has failed already,
      unless f resembles m more than n.

    Where one prefix is renamed throughout, P.s to Q.s, the first never happens, whatever the words: words
    that P.s and Q.t share cannot cross, so they are of s and Q, or of P and t, but never both. Hence there
    are at most common(P, Q) + len(s), which f and m share too, or + len(t), as g and n do.
    """
    in_rest = torch.tensor([name in rest for name in names])
    places = torch.tensor([place[pairs[name]] for name in names])
    common = _common_words([_words(pairs[name]) for name in names], [_words(name) for name in names])
    own = common.diagonal()
    better = (common > own[:, None]) & (common > own)
    swapped = (places[:, None] > places).triu() | (places[:, None] < places).tril()
    against = (better | swapped & (common >= own[:, None])) & in_rest[:, None]
    best = common.int().masked_fill(~against, -1).argmax(1).tolist()
    return {names[i]: names[best[i]] for i in against.any(1).nonzero().flatten().tolist()}


def _words(name: str) -> list[str]:
    """Words and numbers of a tensor's name but for its last, in lower case: net, conv, 2, 0 of
    ``net.CONV2.0.bias``."""
    return re.findall(r"\d+|[^\W\d_]+", name.rpartition(".")[0].lower())


def _common_words(theirs: Sequence[list[str]], ours: Sequence[list[str]]) -> Tensor:
    """Length of the longest common subsequence of words for each of F x M names; (F, M).

    All names at once, word by word: with difflib, name by name, a network of a thousand tensors would take a
    minute.
    """
    vocabulary = sorted({word for words in (*theirs, *ours) for word in words})
    alike = _alike(vocabulary)
    rows, columns = _word_ids(theirs, vocabulary), _word_ids(ours, vocabulary)
    before = [torch.zeros(len(theirs), len(ours), dtype=torch.uint8)] * (len(columns) + 1)
    for word in rows:
        likes, now = alike[word], before[:1]
        for j, other in enumerate(columns):
            longest = torch.maximum(before[j + 1], now[j])
            now.append(torch.maximum(longest, before[j] + likes[:, other]))
        before = now
    return before[-1]


def _alike(vocabulary: list[str]) -> Tensor:
    """Which words mean the same: a number only itself, a word also what it begins, ``enc`` and ``encoder``.

    Args:
        vocabulary: V words, sorted.

    Returns:
        (V + 1, V + 1), with an end that is like nothing.
    """
    alike = torch.eye(len(vocabulary) + 1, dtype=torch.bool)
    alike[-1, -1] = False
    for i, word in enumerate(vocabulary):
        if not word.isdigit():
            end = bisect(vocabulary, word + chr(sys.maxunicode))
            alike[i, i:end] = alike[i:end, i] = True
    return alike


def _word_ids(names: Sequence[list[str]], vocabulary: list[str]) -> Tensor:
    """(L, N): the first words of all names, the second, and so on; past a name's end, the end."""
    ids = {word: index for index, word in enumerate(vocabulary)}
    length = max(len(words) for words in names)
    padded = [[ids[word] for word in words] + [len(vocabulary)] * (length - len(words)) for words in names]
    return torch.tensor(padded, dtype=torch.long).T
