"""Where a snapshot comes from: versions, platform, command, code and data."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skoots._version import __version__
from skoots.api.build import Volumes
from skoots.config import Config


def provenance(config: Config, volumes: Volumes, parent: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values for a snapshot.

    Args:
        config: as resolved.
        volumes: trained and validated on.
        parent: the snapshot that the run goes on from, empty if none.
    """
    facts = {
        "skoots": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": _device_name(config.device),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(config.source.parent if config.source is not None else Path()),
        "config": _digest(config.resolved()),
        "data": data_fingerprint(volumes),
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "parent": dict(parent),
    }
    return {name: value for name, value in facts.items() if value}


def data_fingerprint(volumes: Volumes) -> str:
    """A short name for the data: that of other volumes, shapes, voxel sizes or objects is another."""
    facts = [
        [volume.name, list(volume.shape), list(volume.voxel_size), len(volume.skeletons), count]
        for volume, count in volumes
    ]
    return _digest(facts)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _device_name(device: str) -> str:
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(torch.device(device))})"
    return device


def _commit(folder: Path) -> str:
    """The commit of the code that the config lies with, and whether it was changed since; empty without
    Git."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" and changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""
