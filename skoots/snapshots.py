"""Snapshots: files from which training or inference can go on, and the run folders they lie in.

A snapshot is one dict of tensors and plain Python values. Its keys are those of SuperGradients under their
names (``net``, ``acc``, ``epoch``, ``optimizer_state_dict``, ``scaler_state_dict``, ``ema_net``,
``torch_scheduler_state_dict``) and beside them ``format``, ``step``, ``cfg``, ``rng``, ``sampler``,
``averaging``, ``best``, ``metrics``, ``history``, ``provenance``.

On disk it is what ``torch.save`` writes, with the SHA-256 of these bytes as the comment of the zip archive:
one file, which ``torch.load(path, weights_only=True)`` reads too, and in which every flipped bit shows.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import pickle
import re
import secrets
import shutil
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from skoots.errors import ConfigError, Fault, SkootsError, SnapshotError

FORMAT = 1
"""Number of the layout that this version writes; it reads this one and all before."""

PREFIX = "snapshot"
log = logging.getLogger("skoots")

_SEAL = b"skoots sha256 "
_SEAL_LENGTH = len(_SEAL) + 64
# The record that closes a zip archive: its beginning, and its length. Its last two bytes count the comment's.
_ZIP_END = b"PK\x05\x06"
_ZIP_END_LENGTH = 22


# What may be stored -----------------------------------------------------------------------------------------


def plain(value: Any, where: str = "state") -> Any:
    """The same state as tensors in host memory and plain Python values, all that a snapshot may hold.

    Mappings become dicts, NumPy scalars numbers, NumPy arrays tensors, paths and devices strings.

    Args:
        value: a state, nested in any way.
        where: its name, for the message.

    Raises:
        SnapshotError: something else is in it.
    """
    if value is None or type(value) in (bool, int, float, complex, str, bytes, torch.dtype):
        return value
    if isinstance(value, Tensor):
        return _host_tensor(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, (os.PathLike, torch.device)):
        return str(value)
    if isinstance(value, Counter):  # stays one: MultiStepLR asks its milestones for their elements
        return Counter({plain(key, where): count for key, count in value.items()})
    if isinstance(value, Mapping):
        return {plain(key, where): plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    for kind in (list, tuple, set):
        if isinstance(value, kind):
            return kind(plain(item, f"{where}[{index}]") for index, item in enumerate(value))
    for scalar in (str, int, float):  # subclasses, such as enumerations, would not load again
        if isinstance(value, scalar):
            return scalar(value)
    raise SnapshotError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which a snapshot cannot hold: "
        "store tensors and plain Python values only."
    )


def _host_tensor(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    if tensor.layout == torch.strided and tensor.untyped_storage().nbytes() != tensor.nbytes:
        return tensor.clone()  # of a view, torch.save would store all that lies behind it
    return tensor


# Writing ----------------------------------------------------------------------------------------------------


class _HashingFile(io.RawIOBase):
    """Passes bytes on to a file and keeps their digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self._file.write(data)


def write_snapshot(
    state: Mapping[str, Any],
    path: Path | str,
    links: Sequence[Path | str] = (),
    keep_as: Path | str | None = None,
) -> Path:
    """Write a snapshot so that at every instant each name holds a whole snapshot or what it held before.

    The bytes go to a temporary name in the same folder, are flushed to disk, read back and compared with
    their digest, and only then renamed.

    Args:
        state: the keys of this module's page; ``format`` is added.
        path: the file.
        links: more names in the same folder for the same bytes, put in place before ``path``.
        keep_as: a name in the same folder for what ``path`` holds until now.

    Returns:
        ``path``.

    Raises:
        SnapshotError: the disk is full, the folder cannot be written, or ``state`` holds what a snapshot may
            not.
    """
    path = Path(path)
    content = plain({"format": FORMAT, **state})
    temporary = _temporary_name(path)
    try:
        _write_sealed(content, temporary)
        _verify(temporary)
        if keep_as is not None and path.exists():
            _link(path, Path(keep_as))
        for name in links:
            _link(temporary, Path(name))
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise SnapshotError(
            f"Snapshot {path} could not be written: {_reason(error)}{_free_space(path.parent)}. "
            "The snapshots already there are untouched; make room or give a folder that can be written."
        ) from error
    finally:
        _remove_if_there(temporary)
    return path


def _write_sealed(content: dict[str, Any], path: Path) -> None:
    with open(path, "wb") as file:
        hashing = _HashingFile(file)
        torch.save(content, cast(IO[bytes], hashing))
        file.seek(-2, os.SEEK_END)
        file.write(_SEAL_LENGTH.to_bytes(2, "little") + _SEAL + hashing.digest.hexdigest().encode())
        file.flush()
        os.fsync(file.fileno())


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _link(source: Path, target: Path) -> None:
    """A second name for the same bytes; a copy where the file system has no hard links."""
    temporary = _temporary_name(target)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        _remove_if_there(temporary)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_if_there(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s could not be removed: %s.", path, error)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n")[0].rstrip(".")


def _free_space(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / 2**20:.0f} MiB are free)"
    except OSError:
        return ""


# Reading ----------------------------------------------------------------------------------------------------


def read_snapshot(path: Path | str, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a snapshot after comparing it with its digest; never runs code from the file.

    Args:
        path: the file.
        map_location: where the tensors go.

    Raises:
        SnapshotError: the file is missing, empty, truncated, damaged, no snapshot, holds more than tensors
            and plain values, or comes from a newer skoots.
    """
    path = Path(path)
    try:
        _verify(path)
        state = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise SnapshotError(
            f"{path} holds more than tensors and plain Python values and was refused, because loading it "
            "could run code. Ask for the file that skoots wrote."
        ) from error
    except OSError as error:
        raise SnapshotError(f"Snapshot {path} cannot be read: {_reason(error)}.") from error
    except (RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise _no_snapshot(path) from error
    if (
        not isinstance(state, dict)
        or type(state.get("format")) is not int
        or not isinstance(state.get("net"), dict)
    ):
        raise _no_snapshot(path)
    if state["format"] > FORMAT:
        raise SnapshotError(
            f"Snapshot {path} was written by a newer skoots (format {state['format']}; this one reads up "
            f"to {FORMAT}). Upgrade skoots."
        )
    return state


def _no_snapshot(path: Path) -> SnapshotError:
    return SnapshotError(f"{path} is no skoots snapshot. Give a snapshot-*.pt file or a run folder.")


def _damaged(path: Path, how: str) -> SnapshotError:
    return SnapshotError(f"Snapshot {path} is damaged: {how}. Use an earlier snapshot of the run.")


def _verify(path: Path) -> None:
    """Compare the bytes with their digest; of a file without one (saved again by hand), check the archive's
    own sums."""
    if path.is_dir():
        raise SnapshotError(f"{path} is a folder, no snapshot file.")
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise SnapshotError(f"Snapshot {path} does not exist.{_what_lies_in(path.parent)}") from None
    if size == 0:
        raise _damaged(path, "the file is empty")
    with open(path, "rb") as file:
        beginning = file.read(2)
        archive_length = size - _SEAL_LENGTH
        if archive_length >= _ZIP_END_LENGTH:
            file.seek(archive_length - _ZIP_END_LENGTH)
            ending = file.read()
            if ending.startswith(_ZIP_END) or _SEAL in ending:
                _verify_digest(file, path, archive_length, ending[_ZIP_END_LENGTH:])
                return
    if beginning != b"PK":
        raise _no_snapshot(path)
    _verify_records(path)


def _verify_digest(file: BinaryIO, path: Path, archive_length: int, seal: bytes) -> None:
    digest = hashlib.sha256()
    file.seek(0)
    for start in range(0, archive_length - 2, 2**20):
        digest.update(file.read(min(2**20, archive_length - 2 - start)))
    digest.update(b"\0\0")  # the archive was sealed when its comment was empty
    if file.read(2) != _SEAL_LENGTH.to_bytes(2, "little") or seal != _SEAL + digest.hexdigest().encode():
        raise _damaged(path, "its bytes do not match their checksum")


def _verify_records(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise _damaged(path, "it is truncated or was overwritten") from error
    if record is not None:
        raise _damaged(path, f"its record {record} does not match its checksum")


def read_newest(folder: Path | str, map_location: str | torch.device = "cpu") -> tuple[dict[str, Any], Path]:
    """The newest snapshot of a run that is whole; each damaged one is reported and the one before it is
    tried.

    Args:
        folder: a run folder.
        map_location: where the tensors go.

    Returns:
        The snapshot and its file.

    Raises:
        SnapshotError: there is none, or none is whole; the message lists each and why.
    """
    folder = Path(folder)
    names = newest_first(_names_in(folder))
    if not names:
        raise SnapshotError(f"{folder} holds no snapshot.{_what_lies_in(folder)}")
    reasons = []
    for name in names:
        try:
            state = read_snapshot(folder / name, map_location)
        except SnapshotError as error:
            log.warning("%s Trying the snapshot before it.", error)
            reasons.append(str(error))
            continue
        if reasons:
            log.warning(
                "Going on from %s, epoch %s; what came after it is lost.", folder / name, state.get("epoch")
            )
        return state, folder / name
    raise SnapshotError(
        f"No snapshot in {folder} is whole:" + "".join(f"\n  - {reason}" for reason in reasons)
    )


# Names and what to keep: pure functions ---------------------------------------------------------------------


def snapshot_name(epoch: int, best: bool = False, prefix: str = PREFIX) -> str:
    """File name of an epoch (counted from 1): ``snapshot-010.pt`` or ``snapshot-best-010.pt``."""
    return f"{prefix}-{'best-' if best else ''}{epoch:03d}.pt"


def epochs_by_name(names: Iterable[str], best: bool = False, prefix: str = PREFIX) -> dict[str, int]:
    """Epoch of every regular (or best) snapshot among file names; other names are left out."""
    pattern = re.compile(rf"{re.escape(prefix)}-{'best-' if best else ''}(\d{{3,}})\.pt")
    return {name: int(match[1]) for name in names if (match := pattern.fullmatch(name))}


def newest_first(names: Collection[str], prefix: str = PREFIX) -> list[str]:
    """The snapshots among file names, in the order in which resuming tries them."""
    fixed = [name for tag in ("latest", "previous") if (name := f"{prefix}-{tag}.pt") in names]
    numbered = {**epochs_by_name(names, best=True, prefix=prefix), **epochs_by_name(names, prefix=prefix)}
    return fixed + sorted(numbered, key=lambda name: numbered[name], reverse=True)


def names_of_epoch(epoch: int, is_best: bool, is_due: bool, prefix: str = PREFIX) -> list[str]:
    """The names that an epoch's snapshot gets beside ``latest``: regular if due, best if best, both if
    both."""
    regular = [snapshot_name(epoch, prefix=prefix)] if is_due else []
    return regular + ([snapshot_name(epoch, best=True, prefix=prefix)] if is_best else [])


def names_to_remove(
    names: Collection[str],
    epoch: int,
    max_snapshots: int,
    keep_best: int = 1,
    save_epoch_list: Collection[int] = (),
    prefix: str = PREFIX,
) -> list[str]:
    """What rotation deletes once the snapshot of ``epoch`` is in place.

    Regular and best snapshots are counted apart. Epochs later than ``epoch`` stem from a part of the run that
    was abandoned when it went on from an earlier snapshot: they go first, whatever their number.

    Args:
        names: file names in the run folder.
        epoch: the epoch just saved.
        max_snapshots: regular snapshots to keep.
        keep_best: best snapshots to keep.
        save_epoch_list: epochs whose regular snapshots stay and do not count.
        prefix: how the names begin.
    """

    def all_but_newest(epochs: dict[str, int], count: int) -> list[str]:
        oldest_first = sorted(epochs, key=lambda name: (epochs[name] <= epoch, epochs[name]))
        return oldest_first[: max(0, len(oldest_first) - count)]

    regular = epochs_by_name(names, prefix=prefix)
    rotating = {name: number for name, number in regular.items() if number not in save_epoch_list}
    best = epochs_by_name(names, best=True, prefix=prefix)
    return all_but_newest(rotating, max_snapshots) + all_but_newest(best, keep_best)


# The manager ------------------------------------------------------------------------------------------------


class SnapshotManager:
    """Saves the snapshots of one run and removes those that are no longer wanted.

    ``snapshot-latest.pt`` always; ``snapshot-previous.pt``, a second name of the latest before it, so that
    one damaged file never loses a run; ``snapshot-NNN.pt`` when due; ``snapshot-best-NNN.pt`` when best. The
    names and options are those of DeepLabCut's ``TorchSnapshotManager``.

    Args:
        folder: the run folder, which exists.
        max_snapshots: regular snapshots to keep; latest, previous and best do not count.
        save_epochs: a regular snapshot every so many epochs, and at the last one.
        save_optimizer_state: whether snapshots other than latest hold the optimizer's state.
        save_epoch_list: epochs that get a regular snapshot which rotation spares.
        keep_best: best snapshots to keep.
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
        keep_best: int = 1,
        prefix: str = PREFIX,
    ) -> None:
        faults = [
            Fault(f"runner.snapshots.{key}", f"{value!r} is below 1", "Give a whole number of 1 or more")
            for key, value in [
                ("max_snapshots", max_snapshots),
                ("save_epochs", save_epochs),
                ("keep_best", keep_best),
            ]
            if value < 1
        ]
        if faults:
            raise ConfigError(faults)
        self.folder = Path(folder)
        self.max_snapshots = max_snapshots
        self.save_epochs = save_epochs
        self.save_optimizer_state = save_optimizer_state
        self.save_epoch_list = frozenset(save_epoch_list)
        self.keep_best = keep_best
        self.prefix = prefix
        self._sweep()

    def is_due(self, epoch: int, last: bool = False) -> bool:
        """Whether an epoch (counted from 1) gets a regular snapshot."""
        return last or epoch % self.save_epochs == 0 or epoch in self.save_epoch_list

    def save(self, state: Mapping[str, Any], epoch: int, is_best: bool, last: bool = False) -> list[Path]:
        """Save the state after ``epoch`` completed epochs under every name that it deserves.

        Latest comes last: a run killed in between goes on from the latest before, and saves this epoch again.

        Args:
            state: the keys of this module's page.
            epoch: epochs completed.
            is_best: whether it is the best so far.
            last: whether training ends here.

        Returns:
            The files written, latest first.

        Raises:
            SnapshotError: it could not be written; all earlier snapshots are untouched.
        """
        latest, previous = (self.folder / f"{self.prefix}-{tag}.pt" for tag in ("latest", "previous"))
        names = names_of_epoch(epoch, is_best, self.is_due(epoch, last), self.prefix)
        others = [self.folder / name for name in names]
        state = plain(state)
        if others and not self.save_optimizer_state:
            lean = {key: value for key, value in state.items() if key != "optimizer_state_dict"}
            write_snapshot(lean, others[0], links=others[1:])
            write_snapshot(state, latest, keep_as=previous)
        else:
            write_snapshot(state, latest, links=others, keep_as=previous)
        self._rotate(epoch)
        return [latest, *others]

    def _rotate(self, epoch: int) -> None:
        names = _names_in(self.folder)
        for name in names_to_remove(
            names, epoch, self.max_snapshots, self.keep_best, self.save_epoch_list, self.prefix
        ):
            _remove_if_there(self.folder / name)

    def _sweep(self) -> None:
        """Remove what a killed save has left behind."""
        for stray in self.folder.glob(f".{self.prefix}-*.pt.*.tmp"):
            _remove_if_there(stray)


# Finding ----------------------------------------------------------------------------------------------------


def find_snapshot(reference: Path | str) -> Path:
    """The file that a reference means.

    Args:
        reference: a file; a run folder (its best, else its latest snapshot); an experiment folder (its newest
            run that has snapshots); either folder with ``:latest``, ``:best``, ``:average`` or an epoch such
            as ``:010``.

    Raises:
        SnapshotError: nothing is there; the message says what is.
    """
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    folder, tag = path, None
    if not path.is_dir():
        stem, colon, tag = str(path).rpartition(":")
        folder = Path(stem)
        if not colon or not folder.is_dir():
            missing = folder if colon and stem else path
            raise SnapshotError(
                f"There is no snapshot {reference}: {missing} does not exist.{_what_lies_in(missing.parent)}"
            )
    run = _run_of(folder)
    name = _name_for(tag, _names_in(run))
    if name is None:
        raise SnapshotError(f"There is no snapshot {reference}.{_what_lies_in(run)}")
    return run / name


def newest_run(folder: Path | str) -> Path:
    """The newest run of an experiment that has snapshots; a run folder is its own newest run.

    Raises:
        SnapshotError: no run has any.
    """
    run = _run_of(Path(folder))
    if not newest_first(_names_in(run)):
        raise SnapshotError(f"No run in {folder} has a snapshot.{_what_lies_in(Path(folder))}")
    return run


def _run_of(folder: Path) -> Path:
    if newest_first(_names_in(folder)):
        return folder
    runs = sorted((run for run in folder.glob("RUN_*") if newest_first(_names_in(run))), reverse=True)
    return runs[0] if runs else folder


def _name_for(tag: str | None, names: Collection[str]) -> str | None:
    """The file name that a tag means; no tag means best, else latest, else the newest there is."""
    if tag is None:
        bests = _name_for("best", names)
        return bests or next(iter(newest_first(names)), None)
    if tag == "best":
        epochs = epochs_by_name(names, best=True)
        return max(epochs, key=lambda name: epochs[name]) if epochs else None
    if tag.isdecimal():
        candidates = [snapshot_name(int(tag)), snapshot_name(int(tag), best=True)]
    else:
        candidates = [f"{PREFIX}-{tag}.pt"]
    return next((name for name in candidates if name in names), None)


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pt")) if folder.is_dir() else []


def _what_lies_in(folder: Path) -> str:
    """A sentence with what could have been meant instead."""
    if not folder.is_dir():
        return ""
    snapshots = [name for name in _names_in(folder) if name.startswith(f"{PREFIX}-")]
    runs = sorted(path.name for path in folder.glob("RUN_*"))
    if snapshots:
        tags = ", ".join(name.removeprefix(f"{PREFIX}-").removesuffix(".pt") for name in snapshots)
        return f" {folder} has the snapshots {tags}."
    if runs:
        return f" {folder} has the runs {', '.join(runs[-5:])}."
    folders = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    return (
        f" {folder} has the folders {', '.join(folders[:10])}."
        if folders
        else f" {folder} has no snapshots and no runs."
    )


# Run folders ------------------------------------------------------------------------------------------------


def new_run_folder(root: Path | str, experiment: str) -> Path:
    """Make the folder of a new run: ``<root>/<experiment>/RUN_<date>_<time>_<microseconds>``.

    It is never one that exists, so that two trainings started at the same instant get two.

    Raises:
        SkootsError: it cannot be made, or ``experiment`` is no plain name.
    """
    if not experiment.strip(" .") or any(character in experiment for character in "/\\:"):
        raise SkootsError(
            f"The experiment name {experiment!r} must be a plain folder name, without / \\ or a colon."
        )
    parent = Path(root).expanduser() / experiment
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            folder = parent / datetime.now().strftime("RUN_%Y%m%d_%H%M%S_%f")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        why = "a file is in its place" if error.errno in (errno.EEXIST, errno.ENOTDIR) else _reason(error)
        raise SkootsError(
            f"The run folder cannot be made in {parent}: {why}. Give another output folder."
        ) from error
