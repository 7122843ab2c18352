"""Signals that end a training in good order."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]  # Ctrl-C; the end of a job; what a queue sends some minutes before it


class Stopped(Exception):  # noqa: N818 - no error
    """A signal asked for the end; raised only where the state of the training is whole.

    Args:
        signum: its number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopSignals:
    """Takes note of signals; the loops ask for them with ``heed`` after every step.

    The second signal ends the process at once: what was saved before is whole, whatever is being written.

    Args:
        agree: given the signal that this process has noted, or None, returns the one that all processes of
            the training heed; several processes must stop at the same step."""

    def __init__(self, agree: Callable[[int | None], int | None] = lambda noted: noted) -> None:
        self.noted: int | None = None
        self.agree = agree

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of signals, instead of what they do otherwise. Only a main thread can."""
        self.noted = None
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def heed(self) -> None:
        """To be called where the state is whole.

        Raises:
            Stopped: a signal has arrived.
        """
        noted = self.agree(self.noted)
        if noted is not None:
            raise Stopped(noted)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.noted is not None:
            os._exit(128 + signum)
        self.noted = signum
