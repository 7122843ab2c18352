"""Loops compiled by numba, kept for the next process where a place for that can be written."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])
log = logging.getLogger("skoots")


def compiled(**options: Any) -> Callable[[F], F]:
    """``numba.njit`` without the lock of the interpreter, with a cache on disk.

    numba refuses to compile at all where neither the package's folder nor the user's cache can be written (a
    container, a batch job without a home), and fails where the disk is full; both only cost time here.

    Args:
        options: of ``numba.njit``.
    """

    def decorate(function: F) -> F:
        plain = numba.njit(nogil=True, **options)(function)
        try:
            plain.enable_caching()
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            return plain
        cache = plain._cache
        cache.save_overload = functools.partial(_saved_if_possible, cache.save_overload)
        return plain

    return decorate


def _saved_if_possible(save: Callable[..., None], *words: Any) -> None:
    try:
        save(*words)
    except OSError as error:
        log.debug("Compiled code is not kept: %s.", error)
