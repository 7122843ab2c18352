"""Which snapshots of a run are saved, and which removed; and the writing of them beside the training."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from skoots.errors import ConfigError, Fault, SnapshotError
from skoots.snapshots.averaging import average_weights
from skoots.snapshots.files import remove_if_there, verify, write_snapshot
from skoots.snapshots.host_copy import HostCopy
from skoots.snapshots.names import (
    POOL,
    PREFIX,
    epochs_by_name,
    names_of_epoch,
    names_to_remove,
    pool_name,
    snapshot_name,
)
from skoots.snapshots.run_folder import names_in
from skoots.unfinished import sweep_folder

UNCHANGING = ("cfg", "facts", "provenance", "history", "metrics", "best")
"""Parts of a state that are never changed in place, only replaced or appended to: they need no copy."""

LATER = ("optimizer_state_dict", "ema_net")
"""Parts that only the optimizer's next step changes: they can be copied until then."""

log = logging.getLogger("skoots")


@dataclass(frozen=True)
class Saved:
    """What became of one save.

    Args:
        epoch: epochs completed.
        step: steps completed.
        batches: used of the next epoch.
        files: what was written, latest first; empty if it failed.
        within: whether it was in the middle of an epoch, so only the latest.
        seconds: how long the writing took, beside the training.
        error: why it failed.
    """

    epoch: int
    step: int
    batches: int
    files: tuple[Path, ...]
    within: bool
    seconds: float
    error: SnapshotError | None = None


class SnapshotManager:
    """Saves the snapshots of one run and removes those that are no longer wanted.

    ``snapshot-latest.pt`` always; ``snapshot-previous.pt``, a second name of the latest before it, so that
    one damaged file never loses a run; ``snapshot-NNN.pt`` when due; ``snapshot-best-NNN.pt`` when best. The
    names and options are those of DeepLabCut's ``TorchSnapshotManager``, ``save_epoch_list`` and
    ``average_best_models`` of SuperGradients.

    Args:
        folder: the run folder, which exists.
        max_snapshots: regular snapshots to keep; latest, previous and best do not count.
        save_epochs: a regular snapshot every so many epochs, and at the last one.
        save_optimizer_state: whether snapshots other than latest hold the optimizer's state.
        save_epoch_list: epochs that get a regular snapshot which rotation spares.
        save_steps: save latest every so many steps; None only after epochs.
        save_minutes: save latest when the last save is so long ago; None only after epochs.
        keep_best: best snapshots to keep.
        average_best_models: how many of the best epochs ``snapshot-average.pt`` averages; 0 makes none.
        prefix: how the names begin; a detector's snapshots are named apart.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        folder: Path | str,
        max_snapshots: int = 5,
        save_epochs: int = 25,
        save_optimizer_state: bool = True,
        save_epoch_list: Sequence[int] = (),
        save_steps: int | None = None,
        save_minutes: float | None = 30.0,
        keep_best: int = 1,
        average_best_models: int = 0,
        prefix: str = PREFIX,
    ) -> None:
        faults = [
            Fault(f"runner.snapshots.{key}", f"{value!r} is below 1", "Give a whole number of 1 or more")
            for key, value in [
                ("max_snapshots", max_snapshots),
                ("save_epochs", save_epochs),
                ("save_steps", save_steps),
                ("keep_best", keep_best),
            ]
            if value is not None and value < 1
        ]
        if faults:
            raise ConfigError(faults)
        self.folder = Path(folder)
        self.max_snapshots = max_snapshots
        self.save_epochs = save_epochs
        self.save_optimizer_state = save_optimizer_state
        self.save_epoch_list = frozenset(save_epoch_list)
        self.save_steps, self.save_minutes = save_steps, save_minutes
        self.keep_best = keep_best
        self.average_best_models = average_best_models
        self.prefix = prefix
        self._copy = HostCopy()
        self._writer: ThreadPoolExecutor | None = None
        self._running: Future[Saved] | None = None
        self._reserving: Future[None] = Future()
        self._reserving.set_result(None)
        self._last_save = time.monotonic()
        self._latest_is_whole: bool | None = None  # not looked at yet
        self._sweep()

    # When ------------------------------------------------------------------------------------------------

    def is_due(self, epoch: int, last: bool = False) -> bool:
        """Whether an epoch (counted from 1) gets a regular snapshot."""
        return last or epoch % self.save_epochs == 0 or epoch in self.save_epoch_list

    def is_due_after(self, step: int) -> bool:
        """Whether latest is to be saved after a step in the middle of an epoch."""
        return self.save_steps is not None and step % self.save_steps == 0

    def is_due_by_now(self) -> bool:
        """Whether the last save is so long ago that latest is to be saved again."""
        return self.save_minutes is not None and time.monotonic() - self._last_save > 60 * self.save_minutes

    # Saving ----------------------------------------------------------------------------------------------

    def save(
        self,
        state: Mapping[str, Any],
        epoch: int,
        is_best: bool = False,
        last: bool = False,
        within: bool = False,
    ) -> list[Path]:
        """Save the state after ``epoch`` completed epochs under every name that it deserves, and wait for it.

        Args:
            state: the keys of a snapshot, see this package's page.
            epoch: epochs completed.
            is_best: whether it is the best so far.
            last: whether training ends here.
            within: in the middle of an epoch; then it is only the latest.

        Returns:
            The files written, latest first.

        Raises:
            SnapshotError: it could not be written; all earlier snapshots are untouched.
        """
        self.begin(state, epoch, is_best, last, within)
        saved = self.settle()
        assert saved is not None
        if saved.error is not None:
            raise saved.error
        return list(saved.files)

    def begin(
        self,
        state: Mapping[str, Any],
        epoch: int,
        is_best: bool = False,
        last: bool = False,
        within: bool = False,
    ) -> None:
        """As ``save``, but return soon; the writing happens beside the training.

        The outcome of the save before must have been taken with ``settle``. Call ``wait_for_copy`` before the
        optimizer's next step: until then its state may still be copied.
        """
        assert self._running is None, "settle the save before"
        self._reserving.result()
        self._last_save = time.monotonic()
        changing = {key: value for key, value in state.items() if key not in UNCHANGING}
        copied = self._copy.take(changing, LATER)
        copied |= {
            key: list(value) if isinstance(value, list) else value
            for key, value in state.items()
            if key in UNCHANGING
        }
        self._running = self._thread().submit(self._write, copied, epoch, is_best, last, within)

    def wait_for_copy(self) -> None:
        """Until the state of the save that was begun may change."""
        self._copy.wait()

    def settle(self, wait: bool = True) -> Saved | None:
        """What became of the save that was begun; each outcome is given once.

        Args:
            wait: for its end; otherwise None if it is still being written.
        """
        if self._running is None or not (wait or self._running.done()):
            return None
        running, self._running = self._running, None
        return running.result()

    def reserve(self, state: Mapping[str, Any]) -> None:
        """Have the memory at hand, beside the training, that copies of such a state need: the first save is
        as quick as the others then."""
        changing = {key: value for key, value in state.items() if key not in UNCHANGING}
        self._reserving = self._thread().submit(self._copy.reserve, changing)

    def close(self) -> None:
        """End the writing thread, until something is saved again; what it is writing is completed first."""
        if self._writer is not None:
            self._writer.shutdown(wait=True)
            self._writer = None

    def _thread(self) -> ThreadPoolExecutor:
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="skoots-snapshots")
        return self._writer

    # The average -----------------------------------------------------------------------------------------

    def average(self, pool: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], list[Mapping[str, Any]]]:
        """The mean of the weights of a pool, and those of its members that could be read: a damaged one is
        left out loudly.

        Raises:
            SnapshotError: none could be read.
        """
        members = []
        for member in pool:
            try:
                verify(self.folder / pool_name(member["epoch"], self.prefix))
                members.append(member)
            except SnapshotError as error:
                log.warning("%s It is left out of the average.", error)
        paths = [self.folder / pool_name(member["epoch"], self.prefix) for member in members]
        return average_weights(paths), members

    def save_average(self, state: Mapping[str, Any], tag: str = "average") -> Saved:
        """Write ``snapshot-TAG.pt`` and wait for it; a failure is part of what is returned."""
        path = self.folder / f"{self.prefix}-{tag}.pt"
        began, failure = time.monotonic(), None
        try:
            write_snapshot(state, path)
        except SnapshotError as error:
            failure = error
        files = () if failure else (path,)
        return Saved(state["epoch"], state["step"], 0, files, True, time.monotonic() - began, failure)

    # In the writing thread -------------------------------------------------------------------------------

    def _write(self, state: dict[str, Any], epoch: int, is_best: bool, last: bool, within: bool) -> Saved:
        began = time.monotonic()
        files: list[Path] = []
        failure = None
        try:
            self._copy.complete()
            files = self._write_files(state, [] if within else self._names(state, epoch, is_best, last))
            self._rotate(state, epoch)
        except SnapshotError as error:
            failure = error
        step, batches = state.get("step", 0), state.get("sampler", {}).get("batches", 0)
        return Saved(epoch, step, batches, tuple(files), within, time.monotonic() - began, failure)

    def _names(self, state: Mapping[str, Any], epoch: int, is_best: bool, last: bool) -> list[str]:
        """Beside latest, and relative to the run folder."""
        names = names_of_epoch(epoch, is_best, self.is_due(epoch, last), self.prefix)
        return names + ([pool_name(epoch, self.prefix)] if epoch in _pool_epochs(state) else [])

    def _write_files(self, state: dict[str, Any], names: Sequence[str]) -> list[Path]:
        """Latest comes last: a run killed in between goes on from the latest before, and saves this epoch
        again."""
        latest, previous = (self.folder / f"{self.prefix}-{tag}.pt" for tag in ("latest", "previous"))
        others = [self.folder / name for name in names]
        keep_as = previous if self._is_whole(latest) else None
        new = [path for path in others if not path.exists()]
        try:
            if others and not self.save_optimizer_state:
                lean = {key: value for key, value in state.items() if key != "optimizer_state_dict"}
                write_snapshot(lean, others[0], links=others[1:])
                write_snapshot(state, latest, keep_as=keep_as)
            else:
                write_snapshot(state, latest, links=others, keep_as=keep_as)
        except SnapshotError:
            for path in new:  # a best that no latest knows of would push out the one that it does
                remove_if_there(path)
            raise
        self._latest_is_whole = True
        return [latest, *others]

    def _is_whole(self, latest: Path) -> bool:
        """Whether the latest so far deserves to become the previous one: a damaged one must not push out a
        whole one. Those that this manager has written are."""
        if self._latest_is_whole is None:
            try:
                verify(latest)
                self._latest_is_whole = True
            except SnapshotError:
                self._latest_is_whole = False
        return self._latest_is_whole

    def _rotate(self, state: Mapping[str, Any], epoch: int) -> None:
        names = names_in(self.folder)
        best = state.get("best") or {"epoch": None}
        for name in names_to_remove(
            names, epoch, self.max_snapshots, self.keep_best, self.save_epoch_list, self.prefix
        ):
            if best["epoch"] is None or name != snapshot_name(best["epoch"], best=True, prefix=self.prefix):
                remove_if_there(self.folder / name)
        for name, number in epochs_by_name(names, best=True, prefix=self.prefix).items():
            if best["epoch"] is not None and number > best["epoch"]:  # of a save that was killed half way
                remove_if_there(self.folder / name)
        for name, member in epochs_by_name(names_in(self.folder / POOL), prefix=self.prefix).items():
            if member not in _pool_epochs(state):
                remove_if_there(self.folder / POOL / name)

    def _sweep(self) -> None:
        """Remove what a killed save has left behind."""
        for folder in (self.folder, self.folder / POOL):
            sweep_folder(folder)  # of other files of the run, too


def _pool_epochs(state: Mapping[str, Any]) -> set[int]:
    """Epochs that the state counts among the best, whose weights are kept for the average."""
    return {member["epoch"] for member in (state.get("averaging") or {}).get("pool", ())}
