"""Processes that load batches: what they give, and that each of them ends."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.data.channel import pack, receive, send
from skoots.data.workers import WorkerError, WorkerLostError, Workers
from skoots.errors import STOP_SIGNALS, ConfigError, Fault, SkootsError, VolumeError

pytestmark = [
    # Workers are forked on Linux; Python 3.12 and later warn of it where there are threads.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="what workers do here is given to them by a fork"),
]
KEYS = [[i, i + 1] for i in range(7)]


def squares(keys: Sequence[int]) -> torch.Tensor:
    return torch.tensor(keys) ** 2


def patient(seconds: float) -> None:
    assert seconds < 60


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after tests of Zarr, whose library is not used in these workers."""
    monkeypatch.delitem(sys.modules, "tensorstore", raising=False)


@pytest.fixture
def workers() -> Iterator[Any]:
    made: list[Workers] = []

    def make(what: Any = squares, count: int = 2) -> Workers:
        made.append(Workers(what, count))
        return made[-1]

    yield make
    for each in made:
        each.close()


def assert_gone(numbers: Sequence[int]) -> None:
    end = time.monotonic() + 10
    for number in numbers:
        while is_alive(number):
            assert time.monotonic() < end, number
            time.sleep(0.01)


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):  # a zombie that an init of containers has not fetched yet
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def pids() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


@pytest.mark.parametrize(
    "thing",
    [
        {"a": torch.arange(6).reshape(2, 3), "b": torch.zeros(0, 3), "flag": torch.tensor([True, False])},
        [torch.rand(4, 5).T, torch.rand(3, 1)[:, 0], torch.tensor(3.0)],
        (np.arange(10)[::2], np.float32(2.5), None),
        torch.rand(1 << 20),
    ],
    ids=["names", "strides", "plain", "large"],
)
def test_what_is_sent_arrives(thing: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = multiprocessing.get_context("fork").Process(target=lambda: send(theirs, pack(thing)))
        sender.start()
        got = receive(ours)
        sender.join()
    torch.testing.assert_close(got, thing, rtol=0, atol=0)
    if isinstance(got, torch.Tensor):
        got += 1  # it is ours to write to


@pytest.mark.parametrize("count", [1, 3])
def test_batches_come_in_order_and_the_processes_stay_for_the_next_epoch(workers: Any, count: int) -> None:
    loading = workers(count=count)
    seen = []
    for _ in range(2):
        assert [batch.tolist() for batch in loading.batches(KEYS, patient)] == [
            [a * a, b * b] for a, b in KEYS
        ]
        seen.append(sorted(pids()))
    assert seen[0] == seen[1] and len(seen[0]) == count
    loading.close()
    assert_gone(seen[0])
    assert not pids()


def test_who_stops_early_ends_them_and_may_begin_again(workers: Any) -> None:
    loading = workers()
    for _ in range(2):
        batches = loading.batches(KEYS, patient)
        assert next(batches).tolist() == [0, 1]
        alive = pids()
        assert len(alive) == 2
        batches.close()
        assert_gone(alive)


def test_no_more_is_loaded_than_is_asked_for(workers: Any, tmp_path: Path) -> None:
    def noted(keys: Sequence[int]) -> list[int]:
        (tmp_path / str(keys[0])).touch()
        return list(keys)

    batches = workers(noted).batches([[i] for i in range(50)], patient)
    next(batches), next(batches)
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) <= 2 + 2 * 2


class OddError(Exception):
    """Cannot be made again from its message alone, as pickle tries."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            VolumeError("a.tif is damaged. Copy it again."),
            VolumeError,
            r"^a\.tif is damaged\. Copy it again\.$",
        ),
        (ConfigError([Fault("data", "is odd", "Mend it")]), ConfigError, r"^data: is odd\. Mend it\.$"),
        (ValueError("a mistake"), ValueError, "^a mistake$"),
        (OddError(1, 2), RuntimeError, "^OddError: 1 and 2$"),
    ],
)
def test_an_error_in_a_worker_is_raised_here(workers: Any, error: Any, kind: Any, text: str) -> None:
    def fails(keys: Sequence[int]) -> Any:
        if keys[0] == 3:
            raise error
        return keys

    with pytest.raises(kind, match=text) as raised:
        list(workers(fails).batches(KEYS, patient))
    assert isinstance(raised.value.__cause__, WorkerError) and "in fails" in str(raised.value.__cause__)
    assert not pids()


def test_a_batch_that_cannot_be_delivered_is_an_error_here(workers: Any) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError, RuntimeError), match=r"local object|lambda"):
        next(workers(lambda keys: lambda: keys).batches(KEYS, patient))
    assert not pids()


def killed(keys: Sequence[int]) -> Any:
    if keys[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return keys


def leaves(keys: Sequence[int]) -> Any:
    os._exit(3)


@pytest.mark.parametrize(
    ("what", "how"),
    [(killed, "was killed by SIGKILL"), (leaves, "ended with status 3")],
    ids=["killed", "left"],
)
def test_a_worker_that_dies_is_told_in_a_sentence(workers: Any, what: Any, how: str) -> None:
    with pytest.raises(WorkerLostError) as raised:
        list(workers(what).batches(KEYS, patient))
    told = str(raised.value)
    assert told.startswith(f"A process that loads crops {how}. Often memory ran out: fewer train_settings.")
    assert told.endswith("skoots resume goes on from the latest snapshot.") and "\n" not in told
    assert not pids()


def test_killed_while_it_delivers(workers: Any) -> None:
    """A batch that no socket holds is half sent."""
    batches = workers(lambda keys: torch.zeros(10**7), count=1).batches(KEYS, patient)
    next(batches)
    os.kill(pids()[0], signal.SIGKILL)
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        list(batches)


def test_what_finishes_a_batch_is_done_here(workers: Any) -> None:
    loading = Workers(squares, 1, finish=lambda batch: (batch.tolist(), os.getpid()))
    try:
        assert list(loading.batches(KEYS[:2], patient)) == [([0, 1], os.getpid()), ([1, 4], os.getpid())]
    finally:
        loading.close()

    def fails(batch: Any) -> Any:
        raise ValueError("no room in page-locked memory")

    with pytest.raises(ValueError, match="no room"):
        list(Workers(squares, 1, finish=fails).batches(KEYS, patient))
    assert not pids()


def test_what_is_asked_while_a_batch_is_awaited_ends_the_wait(workers: Any) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(seconds: float) -> None:
        raise Stop

    began = time.monotonic()
    batches = workers(lambda keys: time.sleep(1000)).batches(KEYS, stop)
    with pytest.raises(Stop):
        next(batches)
    assert time.monotonic() - began < 10
    assert not pids()


def test_signals_to_the_group_are_not_theirs(workers: Any) -> None:
    loading = workers(lambda keys: [signal.getsignal(number) for number in STOP_SIGNALS])
    assert next(loading.batches(KEYS, patient)) == [signal.SIG_IGN] * len(STOP_SIGNALS)


def test_their_random_numbers_differ(workers: Any) -> None:
    def drawn(keys: Sequence[int]) -> float:
        return float(np.random.rand() + torch.rand(1))

    assert len(set(workers(drawn).batches(KEYS, patient))) == len(KEYS)


def test_too_few_descriptors_is_a_sentence(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = socket.socketpair, []

    def pair() -> Any:
        made.append(None)
        if len(made) > 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return real()

    monkeypatch.setattr(socket, "socketpair", pair)
    with pytest.raises(SkootsError, match="process 2 of 3 that loads crops could not be started: Too many"):
        next(workers(count=3).batches(KEYS, patient))
    assert not pids()


PROGRAM = """
import os, sys, time
from skoots.data.workers import Workers

def slow(keys):
    time.sleep(keys[0])
    return keys

loading = Workers(slow, 2)
batches = loading.batches([[0], [0], [1000], [1000], [1000]], lambda seconds: None)
print(next(batches), flush=True)
import multiprocessing
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
if sys.argv[1] == "cycle":
    loading.itself = loading, batches
    del batches
elif sys.argv[1] == "error":
    raise SystemExit(5)
elif sys.argv[1] == "exit":
    os._exit(7)
elif sys.argv[1] == "killed":
    time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("how", "status"), [("cycle", 0), ("error", 5), ("exit", 7), ("killed", -signal.SIGKILL)]
)
def test_they_end_with_a_program_that_forgets_them(how: str, status: int) -> None:
    """In the middle of a batch that takes for ever."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "[0]\n"
    left = [int(word) for word in process.stdout.readline().split()]
    assert len(left) == 2
    if how == "killed":
        process.kill()
    assert process.wait(timeout=30) == status
    process.stdout.close()
    assert_gone(left)


def test_a_spawned_worker_is_given_the_plugins(tmp_path: Path) -> None:
    """As on macOS and Windows."""
    (tmp_path / "mine.py").write_text(
        "class Mine:\n    def __call__(self, keys):\n        return [*keys, 'mine']\n"
    )
    code = f"""
import multiprocessing, sys
from skoots.registry import load_plugin, plugin_files
from skoots.data.workers import Workers
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    load_plugin({str(tmp_path / "mine.py")!r})
    module = next(m for n, m in sys.modules.items() if n.startswith("skoots_plugin_"))
    loading = Workers(module.Mine(), 1)
    print(list(loading.batches([[1], [2]], lambda seconds: None)))
    loading.close()
"""
    (tmp_path / "program.py").write_text(code)
    told = subprocess.run(
        [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=120
    )
    assert (told.returncode, told.stdout) == (0, "[[1, 'mine'], [2, 'mine']]\n"), told.stderr
