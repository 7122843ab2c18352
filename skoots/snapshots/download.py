"""Weights from an https address, kept in the user's cache: whole and looked at, or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from skoots._version import __version__
from skoots.errors import SnapshotError
from skoots.runtime import user_cache
from skoots.snapshots.files import file_sha256
from skoots.snapshots.layouts import read_weights
from skoots.terminal import progress_bar, wants_bars

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse as HTTPResponse
    from urllib3 import PoolManager

SCHEMES = ("https", "http")
LONGEST_ADDRESS = 4096
BLOCK = 2**18
LOCAL = "Without a network, download it elsewhere and give the file: weights.from: FILE."
log = logging.getLogger("skoots")


@dataclass(frozen=True)
class Limits:
    """What a download may take.

    Args:
        seconds: in all.
        still: seconds in which something must come: the connection, the headers, and at ``slowest`` the rest.
        slowest: bytes a second, on average over ``still``.
        size: bytes.
        redirects: in a row.
    """

    seconds: float = 3600.0
    still: float = 30.0
    slowest: int = 1024
    size: int = 4 * 2**30
    redirects: int = 10


def is_address(reference: str) -> bool:
    """Whether a reference is to be downloaded, or looks so much like it that it is no file."""
    return re.match(r"[a-z][a-z0-9+.-]+://", reference, re.IGNORECASE) is not None


def download_weights(address: str, sha256: str | None = None, limits: Limits | None = None) -> Path:
    """The file behind an address; what was downloaded before is not fetched again.

    Args:
        address: https, or http.
        sha256: checksum of the file, or its first digits, at least 8; a file that differs is refused.
        limits: of time and size.

    Raises:
        SnapshotError: the address is none; there is no network, no such file, it came in part only, too
            slowly, or not at all; it has another checksum, or holds no weights. Nothing of it is kept.
    """
    digits = _checked(address, sha256)
    name = re.sub(r"[^\w.-]+", "_", Path(urlsplit(address).path).name, flags=re.ASCII)[-80:].lstrip(".")
    path = user_cache() / "weights" / hashlib.sha256(address.encode()).hexdigest()[:12] / (name or "weights")
    if _is_kept(path, digits):
        return path
    log.info("Downloading %s to %s.", _short(address), path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(address, temporary, limits or Limits())
        _check_content(address, temporary, digits)
        os.replace(temporary, path)
    except OSError as error:
        why = f"{path.parent} cannot be written: {error.strerror or error}"
        raise _failed(address, why, "Make room there, or give a file: weights.from: FILE.") from error
    finally:
        with suppress(OSError):  # a thread that still writes removes it at its end
            temporary.unlink(missing_ok=True)
    return path


# Before -----------------------------------------------------------------------------------------------------


def _checked(address: str, sha256: str | None) -> str:
    """The digits of the checksum, once the address is known to be one.

    Raises:
        SnapshotError: it is none.
    """
    problem = _problem_of(address)
    if problem:
        raise SnapshotError(f"The address {_short(address)} {problem}. Give https://HOST/FILE.")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", sha256.lower()):
        raise SnapshotError(
            f"weights.sha256 is {sha256[:80]!r}, which is no SHA-256: give 64 hexadecimal digits, or the "
            "first 8 or more of them."
        )
    return (sha256 or "").lower()


def _problem_of(address: str) -> str:
    """What is wrong with an address, in words; empty if nothing is."""
    if len(address) > LONGEST_ADDRESS:
        return f"has {len(address)} characters, more than {LONGEST_ADDRESS}"
    if not address.isprintable():
        return "has characters in it that cannot be printed"
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        return f"cannot be understood ({error})"
    if parts.scheme.lower() not in SCHEMES:
        return f"begins with {parts.scheme}:, which is not fetched"
    if not host or port == 0:
        return "names no server"
    if "@" in parts.netloc:
        return "holds a user or a password, which would be written into logs and configs"
    return ""


def _is_kept(path: Path, digits: str) -> bool:
    """Whether the cache has the file, whole."""
    try:
        if not path.is_file() or (digits and not file_sha256(path).startswith(digits)):
            return False
        read_weights(path)
    except (SnapshotError, OSError):
        return False
    return True


# The transfer -----------------------------------------------------------------------------------------------


@dataclass
class _Transfer:
    """A transfer that another thread makes, as far as it is."""

    address: str
    path: Path
    limits: Limits
    received: int = 0
    given_up: bool = False
    failure: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Fetch into the file; what goes wrong is left in ``failure``."""
        try:
            with open(self.path, "xb") as file:
                self._copy(file)
        except Exception as error:  # handed over to the thread that waits
            self.failure = error
        finally:
            if self.given_up:  # nobody waits for it any more
                self.path.unlink(missing_ok=True)
            self.done.set()

    def _copy(self, file: BinaryIO) -> None:
        answer = _answer(self.address, self.limits)
        try:
            size = _announced(answer, self.limits)
            # As it comes: a reader that waits for a full block would not see how slow it is.
            while not self.given_up and (block := answer.read1(BLOCK, decode_content=True)):
                self.received += file.write(block)
                if self.received > self.limits.size:
                    raise _Refused(f"it is larger than {self.limits.size / 2**30:g} GiB")
        finally:
            answer.close()
        if size is not None and self.received != size:
            raise _Refused(f"only {self.received} of {size} bytes came")


class _Refused(Exception):  # noqa: N818 - a reason, in words
    """What a server answers is not taken."""


def _answer(address: str, limits: Limits) -> HTTPResponse:
    """What the server answers that an address leads to in the end.

    Raises:
        _Refused: it leads nowhere, or to a place that is not asked.
    """
    from urllib3 import Timeout

    headers = {"User-Agent": f"skoots/{__version__}", "Accept-Encoding": "identity"}
    for _ in range(limits.redirects + 1):
        answer = _asked_through(address).request(
            "GET",
            address,
            headers=headers,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=Timeout(connect=limits.still, read=limits.still),
        )
        location = answer.get_redirect_location()
        if not location:
            return answer
        answer.close()
        address = _moved(address, location)
    raise _Refused(f"the server sends on more than {limits.redirects} times")


def _asked_through(address: str) -> PoolManager:
    """The way to a server: the proxy of the environment, if there is one for it."""
    import urllib3

    parts = urlsplit(address)
    proxy = getproxies().get(parts.scheme.lower())
    if proxy is None or proxy_bypass(parts.hostname or ""):
        return urllib3.PoolManager()
    return urllib3.ProxyManager(proxy if "://" in proxy else f"http://{proxy}")


def _moved(address: str, location: str) -> str:
    try:
        moved = urljoin(address, location)
    except ValueError as error:
        raise _Refused(f"the server sends on to {_short(location)}, {error}") from error
    problem = _problem_of(moved)
    if problem:
        raise _Refused(f"the server sends on to {_short(moved)}, which {problem}")
    if address.lower().startswith("https:") and not moved.lower().startswith("https:"):
        raise _Refused("the server sends on from https to http")
    return moved


def _announced(answer: HTTPResponse, limits: Limits) -> int | None:
    """The size that an answer promises, once it is known to be the file; None if it does not say.

    Raises:
        _Refused: it is an error, or an impossible size.
    """
    if answer.status != 200:
        raise _Refused(f"the server says {answer.status} {answer.reason or ''}".rstrip())
    size = answer.headers.get("Content-Length")
    if size is None or answer.headers.get("Content-Encoding", "identity") != "identity":
        return None
    if not re.fullmatch(r"[0-9]{1,18}", size):
        raise _Refused(f"the server says that its length is {size[:40]!r}")
    if int(size) > limits.size:
        raise _Refused(f"it is larger than {limits.size / 2**30:g} GiB")
    return int(size)


def _fetch(address: str, path: Path, limits: Limits) -> None:
    """Fetch in a thread of its own, because no call into the network can be trusted to come back.

    Raises:
        SnapshotError: it fails, or takes too long.
    """
    transfer = _Transfer(address, path, limits)
    threading.Thread(target=transfer.run, name="skoots-download", daemon=True).start()
    try:
        _wait(transfer)
    except BaseException:
        transfer.given_up = True
        raise
    if transfer.failure is not None:
        raise _explained(address, transfer.failure) from transfer.failure


def _wait(transfer: _Transfer) -> None:
    limits, began = transfer.limits, time.monotonic()
    looked, before = began, 0
    with progress_bar(unit="B", unit_scale=True, disable=not wants_bars()) as bar:
        while not transfer.done.wait(min(0.5, limits.still / 10)):
            now, received = time.monotonic(), transfer.received
            bar.update(received - bar.n)
            if now - began > limits.seconds:
                raise _failed(transfer.address, f"it takes longer than {limits.seconds:g} s")
            if now - looked > limits.still:
                if received - before < limits.slowest * (now - looked):
                    came = f"{received - before} bytes came in {now - looked:.0f} s"
                    raise _failed(transfer.address, came)
                looked, before = now, received


# Afterwards -------------------------------------------------------------------------------------------------


def _check_content(address: str, path: Path, digits: str) -> None:
    """Whether it is the file that was asked for, and one with weights.

    Raises:
        SnapshotError: it is not.
    """
    found = file_sha256(path)
    if not found.startswith(digits):
        raise SnapshotError(
            f"{_short(address)} is not the file that was asked for: its SHA-256 begins with {found[:16]}. "
            "Check weights.sha256."
        )
    try:
        read_weights(path)
    except SnapshotError as error:
        with open(path, "rb") as file:
            beginning = file.read(64)
        text = " ".join(beginning.decode("ascii", "replace").split())
        seen = f"it begins with {text[:40]!r}" if beginning[:2] != b"PK" else "it is damaged, or holds none"
        raise SnapshotError(
            f"{_short(address)} gave {path.stat().st_size} bytes that are no weights ({seen}). Look at the "
            "address in a browser: perhaps a login stands before it."
        ) from error


def _explained(address: str, error: Exception) -> Exception:
    """What went wrong, for the user; a bug stays as it is."""
    from urllib3.exceptions import HTTPError

    known = (_Refused, OSError, HTTPError, UnicodeError)
    if not isinstance(error, known):
        return error
    cause: BaseException = error
    while (inner := _within(cause)) is not None:
        cause = inner
    told = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return _failed(address, " ".join(str(told).split())[:200].rstrip("."))


def _within(error: BaseException) -> BaseException | None:
    """What an error of the library was raised for, which says more."""
    reason = getattr(error, "reason", None)
    candidates = [reason, *error.args, error.__cause__]
    return next((each for each in candidates if isinstance(each, BaseException)), None)


def _failed(address: str, why: str, remedy: str = LOCAL) -> SnapshotError:
    return SnapshotError(f"{_short(address)} cannot be downloaded ({why}). {remedy}")


def _short(address: str) -> str:
    """An address for a message: without a password, and what follows a question mark, which may be a key."""
    public = re.sub(r"//[^/]*@", "//", address.partition("?")[0])
    shown = "".join(c if c.isprintable() else "?" for c in public)
    return shown if len(shown) <= 120 else f"{shown[:117]}..."
