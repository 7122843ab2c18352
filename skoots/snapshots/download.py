"""Weights from an https address, kept in the user's cache."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch

from skoots.errors import SnapshotError
from skoots.runtime import user_cache
from skoots.snapshots.files import file_sha256

log = logging.getLogger("skoots")


def is_address(reference: str) -> bool:
    """Whether a reference is to be downloaded."""
    return reference.startswith(("https://", "http://"))


def download_weights(address: str, sha256: str | None = None) -> Path:
    """The file behind an address; what was downloaded before is not fetched again.

    Args:
        address: https, or http.
        sha256: checksum of the file, or its first digits; a file that differs is refused and not kept.

    Raises:
        SnapshotError: there is no network, no such file, or it has another checksum.
    """
    name = Path(urlparse(address).path).name or "weights"
    path = user_cache() / "weights" / hashlib.sha256(address.encode()).hexdigest()[:12] / name
    if path.is_file() and (sha256 is None or file_sha256(path).startswith(sha256)):
        return path
    log.info("Downloading %s to %s.", address, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(path), hash_prefix=sha256, progress=sys.stderr.isatty())
    except HTTPError as error:
        raise SnapshotError(
            f"{address} cannot be downloaded: the server says {error.code} {error.reason}. Check the address."
        ) from error
    except OSError as error:  # URLError is one
        reason = getattr(error, "reason", None) or error
        raise SnapshotError(
            f"{address} cannot be downloaded ({reason}). Without a network, download it elsewhere and give "
            "the file: weights.from: FILE."
        ) from error
    except RuntimeError as error:  # torch's word for another checksum
        raise SnapshotError(
            f"{address} is not the file that was asked for: {str(error).rstrip('.')}. Check weights.sha256."
        ) from error
    return path
