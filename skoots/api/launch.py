"""A training in several processes of this machine, started by torch's elastic launcher.

The process that starts them waits, hands signals on, and tells the error of the one that failed first. Over
several machines ``torchrun`` starts the processes instead, see docs/training.md."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from skoots.api.prepare import device_of
from skoots.api.start import Origin
from skoots.config import Config, load_config
from skoots.data.workers import WorkerLostError
from skoots.errors import ECHO, STOP_SIGNALS, SkootsError, Terminated, heard_signals
from skoots.refusals import explained
from skoots.runtime import choose_device, cpu_count
from skoots.terminal import guard, log_to_terminal
from skoots.training.distributed import (
    is_one_of_several,
    joined,
    local_rank,
    local_world,
    lost_touch,
    was_restarted,
)
from skoots.training.stopping import StopSignals

if TYPE_CHECKING:
    from skoots.api.train import TrainingOutcome

log = logging.getLogger("skoots")
RUN, STOP, FAILURE = "run", "stop", "failure"
"""Files in the scratch folder: the run's folder; the signal that ends it; what a process failed with."""
SHARED_MEMORY = "Give a container more, e.g. docker run --shm-size=1g, or train in one process."
NOW = -1  # instead of a signal: at once
INTERRUPT = getattr(signal, "SIGUSR2", signal.SIGTERM)
STOPPED_WITHIN = 30  # seconds that the others of a process that died are given


@dataclass(frozen=True)
class Job:
    """What every process is told; plain values, since it goes through a pipe.

    Args:
        config: of the training: a file, or plain values.
        overrides: of the config.
        plugins: that register parts.
        trusted: whether plugins that the config names are loaded.
        origin: where the training begins.
        device: wins over the config's.
        progress: whether bars are drawn.
        level: of what is logged on the terminal; None is silent.
        scratch: folder for messages between the processes.
    """

    config: Path | str | Mapping[str, Any]
    overrides: Sequence[str]
    plugins: Sequence[str]
    trusted: bool
    origin: Origin
    device: str | None
    progress: bool
    level: int | None = None
    scratch: Path = Path()


def processes_wanted(settings: Config, device: str | None) -> int:
    """How many processes this one has to start: 1 trains by itself, as does one that was started so.

    Args:
        settings: the config.
        device: wins over the config's; a GPU is one, and so trains one process.
    """
    gpus, processes = len(settings.runner.gpus or ()), settings.runner.processes
    if is_one_of_several():
        return 1
    if device == "cpu":
        return max(processes, gpus)
    if device is not None and max(gpus, processes) > 1:
        log.warning(
            "One process trains on %s; runner.gpus and runner.processes wait for another time.", device
        )
    return max(gpus, processes) if device is None else 1


def train_in_processes(count: int, job: Job, max_restarts: int = 0) -> TrainingOutcome:
    """Start processes that train together, and wait for them.

    Args:
        count: how many.
        job: what they do.
        max_restarts: how often all begin again, from the latest snapshot, after one has died.

    Raises:
        SkootsError: as a process raised, or one died.
    """
    scratch = Path(tempfile.mkdtemp(prefix="skoots-"))
    try:
        job = replace(job, scratch=scratch, level=_terminal_level())
        return _Launch(count, job, max_restarts).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Launch:
    """Runs the elastic launcher in a thread: the main one is for signals, which a training heeds after its
    step; the launcher would end it in the middle."""

    def __init__(self, count: int, job: Job, max_restarts: int) -> None:
        self.count, self.job, self.max_restarts = count, job, max_restarts
        self.results: dict[int, Any] = {}
        self.failure: BaseException | None = None

    def run(self) -> TrainingOutcome:
        thread = threading.Thread(target=self._launch, name="skoots-launch", daemon=True)
        with _handing_on_signals(self.job.scratch / STOP):
            thread.start()
            while thread.is_alive():
                thread.join(0.1)
        if self.failure is not None:
            raise self._explained(self.failure) from self.failure
        return self.results[0]

    def _launch(self) -> None:
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=self.count,
            run_id=f"skoots-{os.getpid()}-{time.monotonic_ns()}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=self.max_restarts,
            monitor_interval=0.2,
            shutdown_timeout=STOPPED_WITHIN,
        )
        try:
            with _quiet_launcher(), _threads_for(self.count):
                self.results = elastic_launch(config, train_as_one)(self.job)
        except BaseException as error:
            self.failure = error

    def _explained(self, error: BaseException) -> BaseException:
        """The error of the process that failed first; that the others lost touch with it follows from
        that."""
        number = _number_in(self.job.scratch / STOP)
        if number is not None:
            return Terminated(number)
        if isinstance(error, OSError):  # its queues have semaphores there
            return SkootsError(
                f"The processes could not be started: {error.strerror or error}. They need some shared "
                f"memory (/dev/shm). {SHARED_MEMORY}"
            )
        told = _failures(self.job.scratch)
        last = [failure for failure in told if failure["restart"] == max(f["restart"] for f in told)]
        causes = sorted((f for f in last if not f["lost_touch"]), key=lambda f: f["time"])
        causes = [f for f in told if f["sentence"] is not None] or causes
        if causes and causes[0]["sentence"] is not None:
            return SkootsError(causes[0]["sentence"])
        if causes:
            return RuntimeError(f"Process {causes[0]['rank']} failed:\n{causes[0]['traceback']}")
        silent = sorted(set(range(self.count)) - {failure["rank"] for failure in last})
        if not silent and last and any("/dev/shm" in f["traceback"] for f in last):
            return SkootsError(f"The GPUs exchange gradients through shared memory. {SHARED_MEMORY}")
        if not silent and last:
            return SkootsError("The processes lost touch with each other:\n" + last[0]["traceback"])
        if not silent or not hasattr(error, "failures"):
            return error
        return SkootsError(
            f"Process {silent[0]} of {self.count} died without a word, and the others ended with it. Often "
            "memory ran out: fewer processes, fewer loader workers or a smaller crop need less. Go on with "
            "skoots resume; runner.max_restarts does it by itself."
        )


# In the processes -------------------------------------------------------------------------------------------


def train_as_one(job: Job) -> TrainingOutcome:
    """What each of the processes does."""
    from skoots.api.train import train_here

    if was_restarted() and _is_hopeless(job.scratch):
        raise SystemExit(1)
    parent = os.getppid()
    for number in STOP_SIGNALS:  # the terminal sends Ctrl-C to all; the starting process hands it on
        signal.signal(number, signal.SIG_IGN)
    with _telling_failures(job.scratch), _terminal(job.level):
        stop = StopSignals(sent=_sent(job.scratch / STOP, parent), listens=False)
        _watch(job.scratch / STOP, parent, stop)
        settings = load_config(job.config, job.overrides, job.plugins, trusted=job.trusted)
        torch.set_num_threads(max(1, cpu_count() // local_world()))
        device = choose_device(device_of(settings, local_rank()) if job.device is None else job.device)
        with joined(device) as processes:
            origin = origin_after(job.origin, job.scratch / RUN)
            outcome = train_here(
                settings, origin, job.device, job.progress, processes, stop, job.scratch / RUN
            )
    # The first process may still choose a decoder or score; the others wait for it in torch's locks, and one
    # that is interrupted there leaves them taken.
    signal.signal(INTERRUPT, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # what the system sends when the starting process dies
    if os.getppid() != parent:  # which nobody waits for any more
        os._exit(0)
    return outcome


def _is_hopeless(scratch: Path) -> bool:
    """Whether a process failed with what trying again would not mend."""
    return any(failure["lasting"] for failure in _failures(scratch))


def _watch(message: Path, parent: int, stop: StopSignals) -> None:
    """Where no loop asks for signals (while data are prepared, or the result is scored), a thread does, and
    interrupts; NOW, or the death of the starting process there, ends this one."""

    def interrupt(number: int, frame: object) -> None:
        raise Terminated(_number_in(message) or int(signal.SIGTERM))

    signal.signal(INTERRUPT, interrupt)

    def look() -> None:
        told = False
        while True:
            time.sleep(0.2)
            number = _number_in(message)
            if number == NOW or (os.getppid() != parent and not stop.in_loop):
                os._exit(1)
            if number and not stop.in_loop and not told:
                told = True
                os.kill(os.getpid(), INTERRUPT)

    threading.Thread(target=look, name="skoots-watch", daemon=True).start()


def _number_in(message: Path) -> int | None:
    try:
        return int(message.read_text())
    except (OSError, ValueError):
        return None


def origin_after(origin: Origin, begun: Path) -> Origin:
    """Where to begin: the first time as asked for, after a restart in the run that was begun.

    Args:
        origin: as asked for.
        begun: file that holds the folder of that run, if there is one.
    """
    if was_restarted() and begun.exists():
        folder = Path(begun.read_text(encoding="utf-8"))
        if any(folder.glob("snapshot-latest.pt")):
            return replace(origin, resume=None, folder=folder)
    return origin


def _sent(message: Path, parent: int) -> Callable[[], int | None]:
    """Looks for the signal that the starting process hands on; its death is one, too."""

    def look() -> int | None:
        return int(signal.SIGTERM) if os.getppid() != parent else _number_in(message)

    return look


@contextmanager
def _telling_failures(scratch: Path) -> Iterator[None]:
    rank = int(os.environ["RANK"])
    try:
        yield
    except BaseException as error:
        told = explained(error)
        sentence = None if told is None else str(told)
        lasting = sentence is not None and not isinstance(error, WorkerLostError)
        about = {
            "rank": rank,
            "restart": int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
            "lost_touch": lost_touch(error),
            "time": time.time(),
            "sentence": sentence,
            "lasting": lasting,
            "traceback": traceback.format_exc(),
        }
        (scratch / f"{FAILURE}-{about['restart']}-{rank}").write_bytes(pickle.dumps(about))
        log.debug("Process %d failed.", rank, exc_info=True)
        raise SystemExit(1) from error


@contextmanager
def _terminal(level: int | None) -> Iterator[None]:
    """Log to the terminal as the starting process does; the first process alone."""
    guard()
    if level is None or int(os.environ["RANK"]):
        log.addHandler(logging.NullHandler())
        log.propagate = False
        yield
        return
    with log_to_terminal(level):
        yield


def _failures(scratch: Path) -> list[dict[str, Any]]:
    return [pickle.loads(path.read_bytes()) for path in scratch.glob(f"{FAILURE}-*")]


# In the starting process ------------------------------------------------------------------------------------


@contextmanager
def _handing_on_signals(message: Path) -> Iterator[None]:
    """Write signals down for the processes; a second one, other than an echo of the first, ends everything.
    Only a main thread hears any."""
    first: float | None = None

    def hand_on(number: int, frame: object) -> None:
        nonlocal first
        now, again = time.monotonic(), first is not None
        first = first or now
        if again and now - first < ECHO:
            return
        temporary = message.with_suffix(".new")
        temporary.write_text(str(NOW if again else int(number)))
        temporary.replace(message)
        if again:
            time.sleep(0.5)  # in which the processes read it
            os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, hand_on) for number in heard_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _threads_for(count: int) -> Iterator[None]:
    """The processes inherit their share of the cores, from the first moment on: threads of OpenMP that wait
    for work keep a core busy, and would take it from another process."""
    chosen = os.environ.get("OMP_NUM_THREADS")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // count)))
    try:
        yield
    finally:
        if chosen is None:
            del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _quiet_launcher() -> Iterator[None]:
    """The launcher logs every failure in a frame of asterisks; ours is one sentence."""
    loggers = [
        logging.getLogger(name) for name in ("torch.distributed.elastic", "torch.distributed.launcher")
    ]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)


def _terminal_level() -> int | None:
    """The level of what this process shows of the log."""
    shown = [handler.level for handler in log.handlers if not isinstance(handler, logging.FileHandler)]
    return min(shown, default=None)
