"""Signals as requests."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from skoots.errors import STOP_SIGNALS
from skoots.training.stopping import StopSignals


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda n: signal.Signals(n).name)
def test_a_signal_is_noted_and_heeded_where_it_is_asked_for(number: int) -> None:
    before = {n: signal.getsignal(n) for n in STOP_SIGNALS}
    stop = StopSignals()
    with stop.listening():
        assert stop.asked() == 0
        os.kill(os.getpid(), number)
        for _ in range(10**6):  # Python runs the handler soon, not at once
            if stop.asked():
                break
    assert stop.asked() == stop.noted == number
    assert {n: signal.getsignal(n) for n in STOP_SIGNALS} == before


def test_a_signal_that_came_another_way_counts() -> None:
    sent: list[int | None] = [None, 15]
    stop = StopSignals(sent=lambda: sent.pop(0))
    assert (stop.asked(), stop.asked()) == (0, 15)


def test_one_that_does_not_listen_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(listens=False).listening():
        assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_leave_signals_alone() -> None:
    before, inside = signal.getsignal(signal.SIGTERM), []

    def listen() -> None:
        with StopSignals().listening():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [before]
