"""Every failure that a user can cause, as one family of exceptions.

A message says what is wrong, where (config path or file), and what to do. The command line prints it and
exits with status 2; anything that is not a ``SkootsError`` is a bug and keeps its traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")
    if hasattr(signal, name)
)
"""What asks for the end: Ctrl-C; ``kill`` or a queue; a terminal that closes; a queue minutes before it
kills; Ctrl-Break on Windows."""

ECHO = 1.0
"""Seconds in which another signal is the same request: ``timeout`` signals a process and then its whole
group, and a terminal that closes does so together with its shell."""


class SkootsError(Exception):
    """A failure that the user can mend; its message says how."""


class VolumeError(SkootsError):
    """A volume on disk is missing, damaged, of the wrong kind or cannot be written; the message names the
    file."""


class SnapshotError(SkootsError):
    """A snapshot is missing, damaged or does not fit the model; the message names the file."""


class PluginError(SkootsError):
    """A plugin cannot be imported, a registry has no part of the name asked for, or a part does not give what
    it promises."""


class Terminated(KeyboardInterrupt):
    """Another signal than Ctrl-C's arrived, and is treated as that is, so that what is begun is cleaned up.

    Args:
        signum: its number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def signal_of(stop: KeyboardInterrupt) -> int:
    """Number of the signal that an interruption stands for."""
    return stop.signum if isinstance(stop, Terminated) else int(signal.SIGINT)


def heard_signals() -> list[signal.Signals]:
    """Those of ``STOP_SIGNALS`` that are not ignored: under ``nohup`` SIGHUP is, and in the background of a
    script SIGINT, and so it stays."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a config.

    Args:
        path: dotted path of the key, e.g. ``model.heads.vector.scale``.
        problem: what is wrong, without a full stop.
        remedy: what to do about it, may be empty.
    """

    path: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        path = self.path if len(self.path) <= 120 else f"{self.path[:117]}..."
        sentence = f"{path}: {self.problem}" if path else self.problem
        return f"{sentence}. {self.remedy}" if self.remedy else f"{sentence}."


class ConfigError(SkootsError):
    """A config is wrong; carries every fault found, not only the first.

    Args:
        faults: the faults, or one sentence.
        source: the file (or override) they were found in.
    """

    def __init__(self, faults: Sequence[Fault] | str, source: str = "") -> None:
        self.faults = [Fault("", faults.rstrip("."))] if isinstance(faults, str) else list(faults)
        self.source = source
        where = f" in {source}" if source else ""
        if len(self.faults) == 1:
            text = f"The config{where} has a fault: {self.faults[0]}" if source else str(self.faults[0])
        else:
            lines = "".join(f"\n  - {fault}" for fault in self.faults)
            text = f"The config{where} has {len(self.faults)} faults:{lines}"
        super().__init__(text)
