"""Weights out of any file: those of skoots, SuperGradients, DeepLabCut, the original SKOOTS, and plain state
dicts."""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skoots.errors import SnapshotError
from skoots.snapshots.averaging import check_word, trained_weights
from skoots.snapshots.files import load_safely, verify

LAYOUTS = {  # key that holds the weights -> whose layout that is
    "net": "SuperGradients",
    "model_state_dict": "original SKOOTS",
    "model": "DeepLabCut",
    "state_dict": "PyTorch Lightning",
}
# The config of the original SKOOTS is an object of this class, a dict with three flags.
_YACS_NODE = b"cyacs.config\nCfgNode\n"
_DICT = b"ccollections\nOrderedDict\n"


@dataclass(frozen=True)
class OriginalModel:
    """What a model file of the original SKOOTS holds.

    Args:
        config: its settings, as plain dicts.
        weights: tensors by the original's names.
        mean: of the training images, a number for each channel or one for all; None if the file has none.
        deviation: of the training images, likewise.
        epochs: after which it was saved.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    mean: list[float] | None
    deviation: list[float] | None
    epochs: int


def read_weights(path: Path | str, which: str = "auto") -> tuple[dict[str, Tensor], str]:
    """The weights that a file holds, and whose layout it has.

    Args:
        path: the file; never is code of it run.
        which: ``auto`` takes EMA weights if there are any, ``ema`` and ``raw`` insist.

    Returns:
        Tensors by name, and the layout in words.

    Raises:
        SnapshotError: the file is missing or damaged, or holds no weights.
    """
    path = Path(path)
    check_word(which)
    state = _load(path)
    if not isinstance(state, Mapping):
        raise _no_weights(path, f"a {type(state).__name__}")
    if _is_weights(state.get("net")) or _is_weights(state.get("ema_net")):
        own = type(state.get("format")) is int
        return dict(trained_weights(state, which)), "skoots" if own else LAYOUTS["net"]
    for key, owner in LAYOUTS.items():
        if _is_weights(state.get(key)):
            return _raw(state[key], which, path), owner
    if _is_weights(state):
        return _raw(state, which, path), "plain state dict"
    raise _no_weights(path, f"the keys {', '.join(map(str, list(state)[:8]))}")


def read_config(path: Path | str) -> dict[str, Any]:
    """The config in a model file of the original SKOOTS, as plain dicts.

    Raises:
        SnapshotError: the file is missing or damaged, or holds no config.
    """
    return _config(_load(Path(path)), path, "; give its YAML file instead.")


def read_original(path: Path | str) -> OriginalModel:
    """A model file of the original SKOOTS; never is code of it run.

    Raises:
        SnapshotError: the file is missing or damaged, or is not such a file.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size and not _begins_with(path, b"PK", b"\x80"):
        raise SnapshotError(
            f"{path} is no model file of the original SKOOTS, which torch wrote; they end in .trch."
        )
    state = _load(path)
    config = _config(state, path, ".")
    weights = state.get("model_state_dict")
    if not _is_weights(weights):
        raise SnapshotError(
            f"{path} holds no weights under the key model_state_dict, as the model files of the "
            "original SKOOTS do."
        )
    losses = state.get("avg_epoch_loss")
    # The original begins its list of losses with a number that stands for none.
    epochs = len(losses) - 1 if isinstance(losses, list) and losses else 0
    mean, deviation = (_statistic(state, f"dataset_{name}", path) for name in ("mean", "std"))
    if deviation is not None and min(deviation) <= 0:
        raise SnapshotError(f"{path}: dataset_std is {deviation}, and images cannot be divided by that.")
    return OriginalModel(config, dict(weights), mean, deviation, epochs)


def _config(state: Any, path: Path | str, remedy: str) -> dict[str, Any]:
    config = state.get("cfg") if isinstance(state, Mapping) else None
    if not isinstance(config, Mapping):
        raise SnapshotError(
            f"{path} holds no config under the key cfg, as the model files of the original SKOOTS do{remedy}"
        )
    return dict(config)


def _statistic(state: Mapping[str, Any], key: str, path: Path) -> list[float] | None:
    """Numbers, which may stand alone, in a list or in a tensor; None if there are none."""
    value = state.get(key)
    if value is None:
        return None
    try:
        numbers = torch.as_tensor(value, dtype=torch.float64).flatten().tolist()
    except (TypeError, ValueError, RuntimeError):
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise SnapshotError(f"{path}: {key} must be a number, and is {value!r:.60}.")
    return numbers


def _load(path: Path) -> Any:
    if path.is_file() and _begins_with(path, b"\x80"):
        return load_safely(path, path)  # as torch before 1.6 wrote; it carries no sums to verify
    verify(path)
    return load_safely(_without_yacs(path), path)


def _begins_with(path: Path, *beginnings: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(max(map(len, beginnings))).startswith(beginnings)
    except OSError:
        return False  # verifying says why


def _raw(weights: Mapping[str, Tensor], which: str, path: Path) -> dict[str, Tensor]:
    if which == "ema":
        raise SnapshotError(f"{path} has no EMA weights; leave out --weights, or say raw.")
    return dict(weights)


def _is_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _no_weights(path: Path, found: str) -> SnapshotError:
    return SnapshotError(
        f"{path} holds {found} and no weights that are known here. Known are files of skoots, "
        f"{', '.join(LAYOUTS.values())}, and plain state dicts."
    )


def _without_yacs(path: Path) -> io.BytesIO | Path:
    """The file with config nodes of the original SKOOTS as plain dicts, so that it loads without their
    library and without running code; a file that has none as it is."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl")}
        name, pickled = next(iter(records.items()), ("", b""))
        if _YACS_NODE not in pickled:
            return path
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as renamed:
            for record in archive.namelist():
                renamed.writestr(record, _nodes_as_dicts(pickled) if record == name else archive.read(record))
    copy.seek(0)
    return copy


def _nodes_as_dicts(pickled: bytes) -> bytes:
    """A pickle with the one class exchanged; found by its operations, since a text may contain the same
    bytes."""
    parts, end = [], 0
    for operation, argument, position in pickletools.genops(pickled):
        if operation.name == "GLOBAL" and argument == "yacs.config CfgNode" and position is not None:
            parts += [pickled[end:position], _DICT]
            end = position + len(_YACS_NODE)
    return b"".join([*parts, pickled[end:]])
