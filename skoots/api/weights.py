"""Weights out of any file into a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from skoots.config import Config
from skoots.errors import ConfigError, Fault, SnapshotError
from skoots.models.weights import Matching, Strict
from skoots.models.weights import load_weights as load_into
from skoots.snapshots import download_weights, find_snapshot, is_address, read_weights

log = logging.getLogger("skoots")


def load_weights(
    module: nn.Module,
    source: Path | str,
    *,
    strict: Strict = True,
    parts: Sequence[str] = (),
    weights: str = "auto",
    sha256: str | None = None,
) -> Matching:
    """Load weights into a module; code in the file is never run.

    Args:
        module: any network.
        source: a snapshot, a file of SuperGradients, DeepLabCut or the original SKOOTS, a plain state dict,
            or an https address.
        strict: True: every tensor must be found and none left over. False: what agrees in name and shape is
            loaded. ``no_key_matching``: what has other names is paired by order and shape, unless that is
            ambiguous.
        parts: only these submodules, e.g. ``["backbone", "heads.vector"]``.
        weights: ``auto`` takes the moving average (EMA) if the file has one; ``ema`` and ``raw`` insist.
        sha256: checksum that a download must have, or its beginning.

    Returns:
        What was loaded, missing, unexpected, of another shape.

    Raises:
        SnapshotError: the file cannot be read, or does not fit; the module is as it was.
    """
    path = download_weights(str(source), sha256) if is_address(str(source)) else find_snapshot(source)
    offered, layout = read_weights(path, weights)
    matching = load_into(module, offered, strict, parts)
    log.info("%s (%s): %s", path, layout, matching.summary())
    return matching


def begin_with_weights(config: Config, model: nn.Module) -> Matching | None:
    """What ``weights`` in the config asks for; None if nothing.

    Raises:
        ConfigError: it does not fit; names the key.
    """
    wanted = config.resolved()["weights"]
    if wanted["from"] is None:
        return None
    try:
        return load_weights(
            model, wanted["from"], strict=wanted["strict"], parts=wanted["parts"], sha256=wanted["sha256"]
        )
    except SnapshotError as error:
        raise ConfigError([Fault("weights.from", str(error).rstrip("."), "")]) from error
