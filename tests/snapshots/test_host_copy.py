"""The copy of a state: true, apart from its source, in memory that is used again."""

from __future__ import annotations

from collections import Counter

import torch

from skoots.snapshots import HostCopy


def test_everything_is_copied_and_nothing_else_changes() -> None:
    state = {
        "net": {"w": torch.arange(6.0).reshape(2, 3), "v": torch.arange(12.0).view(3, 4).T},
        "list": [torch.ones(1), {"deep": (torch.zeros(2), "text")}],
        "count": Counter({3: 1}),
        "number": 5,
    }
    copied = HostCopy().take(state)
    assert torch.equal(copied["net"]["w"], state["net"]["w"])
    assert torch.equal(copied["net"]["v"], state["net"]["v"])
    assert copied["net"]["v"].stride() == state["net"]["v"].stride()
    assert copied["number"] == 5 and copied["count"] == Counter({3: 1})
    for tensor in (state["net"]["w"], state["list"][0], state["list"][1]["deep"][0]):
        tensor.fill_(9)
    assert copied["net"]["w"][0, 1] == 1 and copied["list"][0] == 1
    assert copied["list"][1]["deep"][0].tolist() == [0, 0] and copied["list"][1]["deep"][1] == "text"


def test_the_same_memory_is_used_again_also_after_a_reservation() -> None:
    copy, state = HostCopy(), {"net": {"w": torch.ones(4)}, "new": torch.ones(2)}
    copy.reserve(state)
    first = copy.take(state)
    place = first["net"]["w"].data_ptr()
    assert copy.take({"net": {"w": torch.zeros(4)}})["net"]["w"].data_ptr() == place
    other = copy.take({"net": {"w": torch.zeros(5)}})["net"]["w"]  # of another shape
    assert other.data_ptr() != place and other.tolist() == [0] * 5


def test_what_is_left_for_later_is_copied_by_complete() -> None:
    copy, state = HostCopy(), {"net": torch.ones(2), "optimizer": [torch.full((2,), 3.0)]}
    copied = copy.take(state, later=["optimizer"])
    state["net"].fill_(0)  # copied already
    copied["optimizer"][0].fill_(-1)  # not yet
    copy.complete()
    copy.wait()
    assert copied["net"].tolist() == [1, 1] and copied["optimizer"][0].tolist() == [3, 3]
