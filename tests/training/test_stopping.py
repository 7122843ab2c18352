"""Signals as requests."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from skoots.errors import ECHO, STOP_SIGNALS
from skoots.training.stopping import Stopped, StopSignals


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    """As SIGINT is where tests run in the background of a script."""
    before = {n: signal.getsignal(n) for n in STOP_SIGNALS}
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler == signal.SIG_IGN else handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


def test_a_second_signal_ends_the_process_unless_it_is_an_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """``timeout`` sends two at once, to the process and to its group."""
    now, left = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "_exit", left.append)
    stop = StopSignals()
    with stop.listening():
        for at, number in ((100.0, signal.SIGTERM), (100.0 + ECHO / 2, signal.SIGINT)):
            now[0] = at
            signal.raise_signal(number)
        assert stop.asked() == signal.SIGTERM and not left
        now[0] = 100.1 + ECHO
        signal.raise_signal(signal.SIGTERM)
        assert left == [143]


def test_where_nothing_counts_a_signal_is_not_waited_with() -> None:
    stop, done = StopSignals(), []
    with stop.listening(), pytest.raises(Stopped) as raised, stop.at_once():
        signal.raise_signal(signal.SIGTERM)
        done.append("more")
    assert raised.value.signum == stop.noted == signal.SIGTERM and not done


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminal hangs up here")
def test_what_is_ignored_stays_so() -> None:
    """As ``nohup`` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopSignals()
        with stop.listening():
            signal.raise_signal(signal.SIGHUP)
        assert stop.noted is None
    finally:
        signal.signal(signal.SIGHUP, before)
