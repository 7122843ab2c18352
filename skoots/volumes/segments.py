"""A small memory of decoded pieces of files, of its own in every process."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any

import numpy as np

CACHE_BYTES = 256 * 2**20


class SegmentCache:
    """Least recently used arrays, up to a number of bytes.

    One memory for many volumes, not one each: hundreds of training volumes times the workers would add up.
    Threads may share it; a forked or unpickled copy begins empty, with the same limit.

    Args:
        limit: bytes kept at most; a larger array is handed out and not kept.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self._owners = count()
        self._begin()

    def _begin(self) -> None:
        self.size, self.hits, self.misses = 0, 0, 0
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def owner(self) -> int:
        """A number that no other volume of this process has; begin keys with it."""
        return next(self._owners)

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a key, made where it is not kept. It is shared: do not change it."""
        if self._process != os.getpid():  # a thread of the parent may have held the lock when this was forked
            self._begin()
        with self._lock:
            if key in self._arrays:
                self.hits += 1
                self._arrays.move_to_end(key)
                return self._arrays[key]
            self.misses += 1
        array = make()  # outside the lock: threads decode side by side
        with self._lock:
            if key not in self._arrays and array.nbytes <= self.limit:
                self._arrays[key] = array
                self.size += array.nbytes
                while self.size > self.limit:
                    self.size -= self._arrays.popitem(last=False)[1].nbytes
        return array

    def __reduce__(self) -> str | tuple[Any, ...]:
        return "SEGMENTS" if self is SEGMENTS else (type(self), (self.limit,))


SEGMENTS = SegmentCache()
