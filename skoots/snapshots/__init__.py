"""Snapshots: files from which training or inference can go on, and the run folders they lie in.

A snapshot is one dict of tensors and plain Python values. Its keys are those of SuperGradients under their
names (``net``, ``acc``, ``epoch``, ``optimizer_state_dict``, ``scaler_state_dict``, ``ema_net``,
``torch_scheduler_state_dict``) and beside them ``format``, ``step``, ``cfg``, ``rng``, ``sampler``,
``averaging``, ``best``, ``metrics``, ``history``, ``provenance``, and ``decoding`` once it was tuned.
"""

from skoots.snapshots.averaging import admit, average_weights, trained_weights
from skoots.snapshots.contents import plain
from skoots.snapshots.download import download_weights, is_address
from skoots.snapshots.files import (
    FORMAT,
    check_free,
    checksum,
    file_sha256,
    link,
    read_snapshot,
    verify,
    write_snapshot,
)
from skoots.snapshots.host_copy import HostCopy
from skoots.snapshots.layouts import OriginalModel, read_config, read_original, read_weights
from skoots.snapshots.manager import Saved, SnapshotManager
from skoots.snapshots.names import (
    POOL,
    PREFIX,
    aliases_of,
    epochs_by_name,
    names_of_epoch,
    names_to_remove,
    newest_first,
    pool_name,
    snapshot_name,
)
from skoots.snapshots.ranking import Scored, among_equals, rank, scored
from skoots.snapshots.references import find_run, find_snapshot, read_newest, read_reference
from skoots.snapshots.run_folder import locked, new_run_folder, newest_run

__all__ = [
    "FORMAT",
    "POOL",
    "PREFIX",
    "HostCopy",
    "OriginalModel",
    "Saved",
    "Scored",
    "SnapshotManager",
    "admit",
    "aliases_of",
    "among_equals",
    "average_weights",
    "check_free",
    "checksum",
    "download_weights",
    "epochs_by_name",
    "file_sha256",
    "find_run",
    "find_snapshot",
    "is_address",
    "link",
    "locked",
    "names_of_epoch",
    "names_to_remove",
    "new_run_folder",
    "newest_first",
    "newest_run",
    "plain",
    "pool_name",
    "rank",
    "read_config",
    "read_newest",
    "read_original",
    "read_reference",
    "read_snapshot",
    "read_weights",
    "scored",
    "snapshot_name",
    "trained_weights",
    "verify",
    "write_snapshot",
]
