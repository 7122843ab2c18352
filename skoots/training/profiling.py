"""Where the time of a training goes: the profiling switches of the SKOOTS training protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from skoots.errors import ConfigError, Fault, SkootsError
from skoots.refusals import writing
from skoots.training.observers import Observer
from skoots.unfinished import Unfinished

if TYPE_CHECKING:
    from skoots.training.runner import TrainingRunner

log = logging.getLogger("skoots")
ROWS = 40  # operators in the table


class ProfileObserver(Observer):
    """Profiles a range of steps, and sets what torch watches over all of them.

    Args:
        folder: of the files, made when there is something to write.
        autograd_profile: a table of operators, ``autograd.txt``.
        emit_nvtx: mark every operator for NVIDIA's profilers; needs CUDA.
        detect_anomaly: raise where a gradient becomes NaN, and name the operator.
        trace: ``trace-FIRST-LAST.json``, for https://ui.perfetto.dev or TensorBoard.
        trace_steps: first and last step of the range, counted in this process from 1.

    Raises:
        ConfigError: ``emit_nvtx`` without CUDA.
    """

    def __init__(
        self,
        folder: Path,
        autograd_profile: bool = False,
        emit_nvtx: bool = False,
        detect_anomaly: bool = False,
        trace: bool = False,
        trace_steps: Sequence[int] = (10, 12),
    ) -> None:
        if emit_nvtx and not torch.cuda.is_available():
            problem = "needs CUDA, and this machine has none"
            raise ConfigError([Fault("runner.profile.emit_nvtx", problem, "Take autograd_profile")])
        self.folder = folder
        self.autograd_profile, self.trace = autograd_profile, trace
        self.emit_nvtx, self.detect_anomaly = emit_nvtx, detect_anomaly
        self.first, self.last = trace_steps
        self.steps = 0
        self._watches = ExitStack()
        self._table: torch.autograd.profiler.profile | None = None
        self._trace: torch.profiler.profile | None = None

    def fit_start(self, runner: TrainingRunner) -> None:
        self.steps = 0
        if self.detect_anomaly:
            self._watches.enter_context(torch.autograd.detect_anomaly())
        if self.emit_nvtx:
            self._watches.enter_context(torch.autograd.profiler.emit_nvtx())
        self._begin_if_due()

    def step_end(self, runner: TrainingRunner, losses: Mapping[str, Any]) -> None:
        self.steps += 1
        if self.steps == self.last:
            self._end()
        self._begin_if_due()

    def fit_end(self, runner: TrainingRunner) -> None:
        self._end()
        self._watches.close()

    def _begin_if_due(self) -> None:
        if self.steps + 1 != self.first:
            return
        if self.trace:
            self._trace = torch.profiler.profile(record_shapes=True)
            self._trace.start()
        elif self.autograd_profile:
            self._table = torch.autograd.profiler.profile(use_device=_device())
            self._table.__enter__()

    def _end(self) -> None:
        """Write what was measured; both come from one measurement where both are asked for."""
        if self._table is not None:
            self._table.__exit__(None, None, None)
            self._write("autograd.txt", self._table.key_averages())
            self._table = None
        if self._trace is not None:
            self._trace.stop()
            if self.autograd_profile:
                self._write("autograd.txt", self._trace.key_averages())
            trace, self._trace = self._trace, None
            name = f"trace-{self.first:06d}-{self.last:06d}.json"
            self._keep(name, "Trace", lambda path: trace.export_chrome_trace(str(path)))

    def _write(self, name: str, averages: Any) -> None:
        order = "self_cuda_time_total" if _device() == "cuda" else "self_cpu_time_total"
        text = averages.table(sort_by=order, row_limit=ROWS)
        self._keep(name, "Operators", lambda path: path.write_text(text, encoding="utf-8"))

    def _keep(self, name: str, what: str, write: Callable[[Path], Any]) -> None:
        """A full disk costs the file, not the training."""
        path = self.folder / name
        try:
            with writing(path):
                self.folder.mkdir(exist_ok=True)
                with Unfinished(path) as file:
                    write(file.temporary)
            log.info("%s of steps %d to %d: %s", what, self.first, self.last, path)
        except SkootsError as error:
            log.error("%s Training goes on.", error)


def _device() -> str | None:
    return "cuda" if torch.cuda.is_available() else None
