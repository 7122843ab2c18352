"""``skoots publish``: a snapshot to hand on: what segmenting needs, and nothing else."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skoots.api.build import config_in
from skoots.errors import SnapshotError
from skoots.snapshots import file_sha256, read_reference, trained_weights, write_snapshot

KEPT = ("epoch", "step", "acc", "metrics", "facts", "averaging")
PERSONAL = ("command", "commit", "parent")  # of the provenance


@dataclass(frozen=True)
class Publication:
    """What ``publish`` wrote.

    Args:
        output: the file.
        source: the snapshot that it was made of.
        size: bytes.
        sha256: of the file, as ``sha256sum`` prints it.
    """

    output: Path
    source: Path
    size: int
    sha256: str


def publish(
    snapshot: Path | str, output: Path | str, *, weights: str = "auto", overwrite: bool = False
) -> Publication:
    """Write a snapshot without the state of the training, and without what its config says of your files.

    Args:
        snapshot: a file, a run folder or ``runs/mito:best``.
        output: a ``.pt`` file.
        weights: of a snapshot with a moving average (EMA), ``auto`` takes it and ``raw`` does not.
        overwrite: replace a file that exists.

    Raises:
        SnapshotError: there is no such snapshot, the output exists or cannot be written.
    """
    path = Path(output)
    if path.is_dir():
        raise SnapshotError(f"{path} is a folder; name a file, such as {path / 'model.pt'}.")
    if path.exists() and not overwrite:
        raise SnapshotError(f"{path} exists; choose another output or say --overwrite.")
    if not path.absolute().parent.is_dir():
        raise SnapshotError(
            f"{path} cannot be written: the folder {path.parent} does not exist. Make it first."
        )
    state, source = read_reference(snapshot)
    lean = {key: state[key] for key in KEPT if key in state}
    provenance = {key: value for key, value in state.get("provenance", {}).items() if key not in PERSONAL}
    config = _without_files(config_in(state, source))
    public = {**lean, "net": trained_weights(state, weights), "cfg": config, "provenance": provenance}
    write_snapshot(public, path)
    return Publication(path, source, path.stat().st_size, file_sha256(path))


def _without_files(config: dict[str, Any]) -> dict[str, Any]:
    public = copy.deepcopy(config)
    for name in ("train", "validation", "test"):
        public.get("data", {}).pop(name, None)
    for name in ("resume_training_from", "weights", "logger"):
        public.pop(name, None)
    return public
