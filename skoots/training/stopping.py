"""Signals that end a training in good order."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from skoots.errors import ECHO, heard_signals


class Stopped(Exception):  # noqa: N818 - no error
    """A signal asked for the end; raised only where the training can be gone on with.

    Args:
        signum: its number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignals:
    """Takes note of signals; the loops ask for them after every step.

    A second signal, other than an echo of the first, ends the process at once: what was saved before is
    whole, whatever is being written.

    Args:
        sent: asked each time for a signal that came another way, e.g. from the process that started this
            one; None if there is none.
        listens: whether signals to this process count.
    """

    def __init__(self, sent: Callable[[], int | None] = lambda: None, listens: bool = True) -> None:
        self.noted: int | None = None
        self.in_loop = False
        self._at = 0.0
        self._at_once = False
        self._sent, self._listens = sent, listens

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of signals, instead of what they do otherwise. Only a main thread can; ``in_loop`` tells
        other threads that the loop asks."""
        self.noted, self.in_loop = None, True
        try:
            with self._instead_of_others():
                yield
        finally:
            self.in_loop = False

    @contextmanager
    def _instead_of_others(self) -> Iterator[None]:
        if not self._listens or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in heard_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Signals raise ``Stopped`` wherever the block is: nothing in it counts until it is done."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def asked(self) -> int:
        """The number of the signal that has arrived, 0 if none has."""
        return self.noted or self._sent() or 0

    def _note(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.noted is None:
            self.noted, self._at = signum, now
            if self._at_once:
                raise Stopped(signum)
        elif now - self._at > ECHO:
            os._exit(128 + signum)
