"""Weights from an address: fetched once, checked, and what is said when there is no network."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skoots.errors import SnapshotError
from skoots.snapshots import download_weights, is_address

CONTENT = b"weights" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path in ("/zoo/mito.pt", "/zoo/half.pt")
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(CONTENT) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(CONTENT[: len(CONTENT) // 2] if "half" in self.path else CONTENT)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/zoo"
        listening.shutdown()


def test_fetched_once_and_kept(server: str, tmp_path: Path) -> None:
    path = download_weights(f"{server}/mito.pt", SHA256[:10])
    assert path.read_bytes() == CONTENT and path.is_relative_to(tmp_path / "cache" / "skoots")
    path.write_bytes(b"a changed file is fetched again")
    assert download_weights(f"{server}/mito.pt", SHA256).read_bytes() == CONTENT
    path.touch()
    before = path.stat().st_mtime_ns
    assert download_weights(f"{server}/mito.pt").stat().st_mtime_ns == before


def test_another_checksum_is_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"is not the file that was asked for: .* Check weights\.sha256"):
        download_weights(f"{server}/mito.pt", "0" * 64)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_no_file_and_no_network_are_one_sentence(server: str) -> None:
    with pytest.raises(SnapshotError, match=r"nothing\.pt cannot be downloaded: the server says 404 Not"):
        download_weights(f"{server}/nothing.pt")
    with pytest.raises(SnapshotError, match=r"cannot be downloaded \(.*\)\. Without a network, download it"):
        download_weights("http://127.0.0.1:9/mito.pt")


def test_what_came_in_part_is_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match=r"half\.pt cannot be downloaded \(only 350 of 700 bytes came\)"):
        download_weights(f"{server}/half.pt")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_what_is_an_address() -> None:
    assert (
        is_address("https://a.b/c.pt") and not is_address("runs/mito:best") and not is_address("wandb:a/b/c")
    )
