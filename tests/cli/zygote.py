"""Starts trainings that are cheap to kill: one process imports everything, then forks for each command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CODE = """
import json, os, resource, signal, sys, time
import torch._dynamo  # optimizers do, when the first is made
import skoots.api, skoots.reports.figures, matplotlib.pyplot
from skoots.cli.main import main

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        output = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
        if job["ignored"]:
            signal.signal(job["ignored"], signal.SIG_IGN)
        if job["largest_file"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
        if job["slow_disk"]:
            fsync = os.fsync
            os.fsync = lambda handle: (time.sleep(job["slow_disk"]), fsync(handle))
        status = main(job["words"])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Zygote:
    """Runs ``skoots`` commands in processes of their own, one at a time.

    Args:
        folder: in which they run.
    """

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "TRAININGS": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )
        self.log = folder / "log.txt"
        self.number = self._process.pid

    def start(
        self, words: Sequence[str], largest_file: int = 0, slow_disk: float = 0.0, ignored: int = 0
    ) -> int:
        """Begin a command; returns the number of its process, and of its group. Its output is added to
        ``log``.

        Args:
            words: after ``skoots``.
            largest_file: bytes that no file may exceed; 0 for no limit.
            slow_disk: seconds that every flush takes.
            ignored: signal that it is started to ignore, as ``nohup`` does.
        """
        job = {
            "words": list(words),
            "log": str(self.log),
            "largest_file": largest_file,
            "slow_disk": slow_disk,
            "ignored": ignored,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def status(self) -> int:
        """Wait for the end of the command; negative for a signal that killed it."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def run(self, *words: str, largest_file: int = 0) -> int:
        """A whole command."""
        self.start(words, largest_file)
        return self.status()

    def wait_for(self, *texts: str, seconds: float = 60.0) -> None:
        """Until the output holds one of the texts."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            output = self.log.read_text() if self.log.exists() else ""
            if any(text in output for text in texts):
                return
            time.sleep(0.005)
        raise AssertionError(f"{texts} did not come: {output}")

    def close(self) -> None:
        """End it, and a command that still runs."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
