"""Snapshots on Weights & Biases: sent beside the training as artifact versions, and fetched again.

A snapshot's name in the run folder may mean another file a moment later. So each one gets a second name at
once (a hard link in a hidden folder), and a list beside these says what W&B does not have yet. Both outlive
the process: what a dead server did not take is sent when the run goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skoots.errors import SnapshotError
from skoots.unfinished import Unfinished

ARTIFACT_TYPE = "model"
FILE_NAME = "snapshot.pt"
"""The one file of every artifact."""

HIDDEN_FOLDER = ".wandb_snapshots"
RUN_RECORD = "wandb_run.json"
"""File in the run folder that says which run on W&B is its own."""

_UPLOAD_SECONDS_IF_FAILING = 5.0
# W&B itself gives up on a server that does not answer, after about a quarter of an hour.
_CONFIRMATION_SECONDS = 3600
_ANSWER_SECONDS = 20
_REFERENCE = re.compile(r"wandb:([^/:]+)/([^/:]+)/([^/:]+)(?::([^/:]+))?")

log = logging.getLogger("skoots")


def artifact_name(run_id: str, alias: str = "latest") -> str:
    """Name of the artifact whose versions are the snapshots of a W&B run.

    W&B calls the newest version of an artifact ``latest``, asked or not. The average of several epochs is no
    snapshot from which training goes on, so it has an artifact of its own.
    """
    stem = re.sub(r"[^\w.-]", "-", run_id, flags=re.ASCII)[:100]
    return f"{stem}-average" if alias == "average" else f"{stem}-snapshots"


def is_of_wandb(error: Exception) -> bool:
    """Whether W&B cannot do something; many of its exceptions have no base class in common."""
    common = isinstance(error, (ImportError, OSError, RuntimeError, ValueError, TypeError))
    return common or type(error).__module__.partition(".")[0] == "wandb"


def in_one_line(error: BaseException) -> str:
    """What an exception says, without line breaks and the full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def write_json(path: Path, value: object) -> None:
    """Write a small file so that it is never seen half written."""
    with Unfinished(path) as file:
        file.temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


# What is still to be sent -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    """A snapshot that W&B does not have yet.

    Args:
        file: its name in the hidden folder.
        aliases: what it is, e.g. ``latest``, ``best``, ``010``.
        epoch: epochs completed.
    """

    file: str
    aliases: tuple[str, ...]
    epoch: int


def without_superseded(waiting: Sequence[Waiting], sending: Waiting | None = None) -> list[Waiting]:
    """Those for which anybody could still ask by name: newer ones have not taken all their aliases.

    Args:
        waiting: oldest first.
        sending: stays, because it is on its way.
    """
    kept: list[Waiting] = []
    taken: set[str] = set()
    for item in reversed(waiting):
        if item == sending or not taken.issuperset(item.aliases):
            kept.append(item)
        taken.update(item.aliases)
    return kept[::-1]


class Outbox:
    """Snapshots set aside for W&B, on disk, oldest first.

    Args:
        folder: the hidden folder; there only while something lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._list = self.folder / "waiting.json"
        self.waiting = self._read()

    def add(self, path: Path, aliases: Sequence[str], epoch: int, sending: Waiting | None = None) -> None:
        """Set a snapshot aside, and drop those that nobody could ask for any more.

        Raises:
            OSError: the file is gone, or the disk is full.
        """
        item = Waiting(f"{epoch:03d}-{secrets.token_hex(4)}.pt", tuple(aliases), epoch)
        self.folder.mkdir(exist_ok=True)
        try:
            _second_name(path, self.folder / item.file)
            self._replace(without_superseded([*self.waiting, item], sending))
        except OSError:
            self._delete([item])
            raise

    def first(self) -> Waiting | None:
        """The oldest one."""
        there = [item for item in self.waiting if (self.folder / item.file).exists()]
        if len(there) < len(self.waiting):
            lost = ", ".join(item.file for item in self.waiting if item not in there)
            log.warning("%s lacks %s, which Weights & Biases does not get.", self.folder, lost)
            self._replace(there)
        return there[0] if there else None

    def remove(self, item: Waiting, keep_file: bool = False) -> None:
        """Take one off the list, which W&B has, or offline (``keep_file``) knows where to find."""
        self._replace([other for other in self.waiting if other != item], keep_file)

    def _replace(self, waiting: list[Waiting], keep_files: bool = False) -> None:
        if waiting:
            write_json(self._list, [asdict(item) for item in waiting])
        else:
            self._list.unlink(missing_ok=True)
        gone = [item for item in self.waiting if item not in waiting]
        self.waiting = waiting
        if not keep_files:
            self._delete(gone)

    def _delete(self, items: Collection[Waiting]) -> None:
        for item in items:
            (self.folder / item.file).unlink(missing_ok=True)
        if not self.waiting:
            with contextlib.suppress(OSError):  # what offline runs point at is in it
                self.folder.rmdir()

    def _read(self) -> list[Waiting]:
        try:
            items = json.loads(self._list.read_text(encoding="utf-8"))
            return [Waiting(item["file"], tuple(item["aliases"]), item["epoch"]) for item in items]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning(
                "%s cannot be read (%s); the snapshots it lists are not uploaded.",
                self._list,
                in_one_line(error),
            )
            return []


def _second_name(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no hard links here
        shutil.copyfile(source, target)


# Sending ----------------------------------------------------------------------------------------------------


class SnapshotUploads:
    """Sends snapshots to W&B in a thread of its own, one by one and in their order.

    After a failure the rest waits for the next snapshot, or for the next process that opens the run. Offline,
    W&B only writes down what to send, so that is done once, at the end.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._outbox = Outbox(folder / HIDDEN_FOLDER)
        self._run: Any = None
        self._is_offline = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._sending: Waiting | None = None
        self._is_failing = self._is_ending = self._has_ended = False
        self._said: set[str] = set()

    def open(self, run: Any) -> None:
        """Send to this W&B run from now on, first of all what was left before."""
        self._run, self._is_offline = run, bool(run.offline)
        self._work()

    def add(self, path: Path, aliases: Sequence[str], epoch: int) -> None:
        """Take a snapshot, whose name may change at once; returns before it is sent."""
        try:
            with self._lock:
                self._outbox.add(path, aliases, epoch, self._sending)
        except OSError as error:
            self._say(f"Snapshot {path} is not uploaded to Weights & Biases ({in_one_line(error)})", "add")
        self._work()

    def finish(self, seconds: float) -> None:
        """Wait for what is still to be sent, not longer than this; then begin nothing new."""
        self._is_ending = True
        if not self._is_failing:
            self._work()
        if (thread := self._thread) is not None:
            thread.join(min(seconds, _UPLOAD_SECONDS_IF_FAILING) if self._is_failing else seconds)
        self._has_ended = True

    def close(self) -> None:
        """Say what is left for later, after the W&B run was finished."""
        self._has_ended = True
        if (thread := self._thread) is not None:
            thread.join(1)
        if count := len(self._outbox.waiting):
            log.warning(
                "%d snapshot%s not uploaded to Weights & Biases. What is left waits in %s and is sent when "
                "the run is resumed and the server answers.",
                count,
                " was" if count == 1 else "s were",
                self._outbox.folder,
            )

    def _work(self) -> None:
        with self._lock:
            if self._thread is None and self._may_send() and self._outbox.waiting:
                self._thread = threading.Thread(target=self._send_all, name="snapshots to W&B", daemon=True)
                self._thread.start()

    def _may_send(self) -> bool:
        return self._run is not None and not self._has_ended and (self._is_ending or not self._is_offline)

    def _send_all(self) -> None:
        try:
            while (item := self._take()) is not None:
                self._send(item)
                with self._lock:
                    self._outbox.remove(item, keep_file=self._is_offline)
                self._is_failing = False
        except Exception as error:
            if not is_of_wandb(error):
                raise
            self._fail(error)

    def _take(self) -> Waiting | None:
        with self._lock:
            self._sending = self._outbox.first() if self._may_send() else None
            if self._sending is None:
                self._thread = None
            return self._sending

    def _fail(self, error: Exception) -> None:
        if not self._has_ended:
            self._say(
                f"Snapshots cannot be uploaded to Weights & Biases ({in_one_line(error)}). Training goes on; "
                f"they wait in {self._outbox.folder} and are sent as soon as it works",
                "send",
            )
        with self._lock:
            self._is_failing, self._sending, self._thread = True, None, None

    def _send(self, item: Waiting) -> None:
        import wandb

        file = self._outbox.folder / item.file
        artifact = wandb.Artifact(
            artifact_name(self._run.id, "average" if "average" in item.aliases else "latest"),
            type=ARTIFACT_TYPE,
            metadata={"epoch": item.epoch, "sha256": _sha256(file)},
        )
        # Nobody writes to the file, so W&B needs no copies of it, neither before nor after sending.
        artifact.add_file(str(file), name=FILE_NAME, policy="immutable", skip_cache=True)
        logged = self._run.log_artifact(artifact, aliases=list(item.aliases))
        if not self._is_offline:
            logged.wait(timeout=_CONFIRMATION_SECONDS)

    def _say(self, sentence: str, kind: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            log.warning("%s.", sentence)


# Fetching ---------------------------------------------------------------------------------------------------


def download_snapshot(reference: str, folder: Path | str, alias: str = "latest") -> Path:
    """Fetch a snapshot that a run sent to W&B.

    Args:
        reference: ``wandb:entity/project/run``, where the run is the W&B id (the end of its page's address),
            with ``:best`` or another alias after it if not ``alias`` is meant.
        folder: where to put it; made if need be. A file of the same name there is replaced.
        alias: ``latest``, ``best``, ``average``, an epoch such as ``010``, or a version such as ``v3``.

    Returns:
        The file, e.g. ``folder/snapshot-latest.pt``.

    Raises:
        SnapshotError: the reference is malformed, W&B cannot be reached or has no such snapshot, or what came
            is not what was sent.
    """
    entity, project, run, named = _parts_of(reference)
    alias = named or alias
    try:
        artifact = _find(f"{entity}/{project}/{artifact_name(run, alias)}:{alias}")
        return _fetch(artifact, reference, Path(folder), alias)
    except Exception as error:
        if not is_of_wandb(error):
            raise
        raise SnapshotError(_why_not(reference, alias, error)) from error


def go_on_with_run(reference: str, folder: Path | str) -> None:
    """Let a run folder's logger go on with the run on W&B that a reference names."""
    entity, project, run, _ = _parts_of(reference)
    write_json(Path(folder) / RUN_RECORD, {"id": run, "project": project, "entity": entity})


def _parts_of(reference: str) -> tuple[str, str, str, str | None]:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise SnapshotError(
            f"{reference!r} does not name a run on Weights & Biases. Write wandb:entity/project/run or "
            "wandb:entity/project/run:best, where run is the id at the end of the address of its page."
        )
    return match[1], match[2], match[3], match[4]


def _find(name: str) -> Any:
    import wandb

    return wandb.Api(timeout=_ANSWER_SECONDS).artifact(name, type=ARTIFACT_TYPE)


def _fetch(artifact: Any, reference: str, folder: Path, alias: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        artifact.download(root=temporary, path_prefix=FILE_NAME, skip_cache=True)
        file = Path(temporary) / FILE_NAME
        if not file.exists() or _sha256(file) != artifact.metadata.get("sha256"):
            raise SnapshotError(
                f"What came from Weights & Biases for {reference} ({alias}) is not what was sent "
                "there: its checksum differs. Try again, or name another alias, e.g. best."
            )
        target = folder / _file_name(alias, artifact.metadata.get("epoch"))
        os.replace(file, target)
    return target


def _file_name(alias: str, epoch: int | None) -> str:
    is_best_of = alias == "best" and epoch is not None
    return f"snapshot-best-{epoch:03d}.pt" if is_best_of else f"snapshot-{alias}.pt"


def _why_not(reference: str, alias: str, error: Exception) -> str:
    where = f"Snapshot {reference} ({alias}) could not be fetched from Weights & Biases"
    if isinstance(error, ImportError):
        return f"{where}: wandb is not installed. Install it with: pip install wandb."
    if "not found" in str(error):
        return (
            f"{where}: {in_one_line(error)}. Check entity, project and run id, and whether the run had "
            "save_checkpoints_remote."
        )
    # W&B calls its own helper process busy while that tries again and again to reach the server.
    why = "there was no answer" if "did not respond in time" in str(error) else in_one_line(error)
    return f"{where}: {why}. Check the network, WANDB_BASE_URL, and the login (wandb login)."


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
