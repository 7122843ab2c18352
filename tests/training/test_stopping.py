"""Signals as requests, and what several processes agree on."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from skoots.training.stopping import SIGNALS, Stopped, StopSignals


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: signal.Signals(n).name)
def test_a_signal_is_noted_and_heeded_where_it_is_asked_for(number: int) -> None:
    before = {n: signal.getsignal(n) for n in SIGNALS}
    stop = StopSignals()
    with stop.listening():
        stop.heed()
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped) as caught:
            for _ in range(10**6):  # Python runs the handler soon, not at once
                stop.heed()
    assert caught.value.signum == number
    assert {n: signal.getsignal(n) for n in SIGNALS} == before


def test_what_processes_agree_on_counts() -> None:
    noted = []
    stop = StopSignals(agree=lambda own: noted.append(own) or 15)
    with pytest.raises(Stopped, match="SIGTERM"):
        stop.heed()
    assert noted == [None]
    StopSignals(agree=lambda own: None).heed()


def test_other_threads_leave_signals_alone() -> None:
    before, inside = signal.getsignal(signal.SIGTERM), []

    def listen() -> None:
        with StopSignals().listening():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert inside == [before]
