"""Weights from an https address, kept in the user's cache."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import urlopen

from skoots.errors import SnapshotError
from skoots.runtime import user_cache
from skoots.snapshots.files import file_sha256
from skoots.terminal import progress_bar, wants_bars

TIMEOUT = 30.0
BLOCK = 2**20
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
        SnapshotError: there is no network, no such file, it came in part only, or has another checksum.
    """
    name = Path(urlparse(address).path).name or "weights"
    path = user_cache() / "weights" / hashlib.sha256(address.encode()).hexdigest()[:12] / name
    if path.is_file() and (sha256 is None or file_sha256(path).startswith(sha256)):
        return path
    log.info("Downloading %s to %s.", address, path)
    temporary = path.with_name(f".{name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(address, temporary)
        if sha256 is not None and not file_sha256(temporary).startswith(sha256):
            raise SnapshotError(
                f"{address} is not the file that was asked for: its SHA-256 begins with "
                f"{file_sha256(temporary)[:16]}. Check weights.sha256."
            )
        os.replace(temporary, path)
    except HTTPError as error:
        raise SnapshotError(
            f"{address} cannot be downloaded: the server says {error.code} {error.reason}. Check the address."
        ) from error
    except OSError as error:  # no network is one, too
        raise SnapshotError(
            f"{address} cannot be downloaded ({getattr(error, 'reason', None) or error}). Without a network, "
            "download it elsewhere and give the file: weights.from: FILE."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _fetch(address: str, path: Path) -> None:
    with urlopen(address, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        bar = progress_bar(total=size or None, unit="B", unit_scale=True, disable=not wants_bars())
        with bar:
            while block := answer.read(BLOCK):
                bar.update(file.write(block))
    if size and path.stat().st_size != size:
        raise OSError(f"only {path.stat().st_size} of {size} bytes came")
