"""Compiled loops are kept where that is possible, and work where it is not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import caching, config

from skoots.compiled import compiled


def total(values):  # type: ignore[no-untyped-def]
    result = 0
    for value in values:
        result += value
    return result


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def test_what_is_compiled_is_kept(cache: Path) -> None:
    assert compiled()(total)(np.arange(5)) == 10
    assert list(cache.rglob("*.nbi"))
    again: Any = compiled()(total)
    assert again(np.arange(6)) == 15 and sum(again.stats.cache_hits.values()) == 1


def test_options_are_those_of_numba() -> None:
    quotient: Callable[..., float] = compiled(error_model="numpy")(lambda a, b: a / b)
    assert np.isinf(quotient(1.0, 0.0))
    with pytest.raises(ZeroDivisionError):
        compiled()(lambda a, b: a / b)(1.0, 0.0)


def test_a_full_disk_costs_nothing_but_time(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    assert compiled()(total)(np.arange(5)) == 10
    assert not list(cache.rglob("*.nbi"))


def test_without_a_place_for_a_cache_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    loop: Any = compiled()(total)
    assert loop(np.arange(5)) == 10 and loop.stats.cache_path is None
