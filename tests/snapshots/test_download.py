"""Weights from an address: fetched once, looked at, and one sentence in time whatever a server does."""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from skoots.errors import SnapshotError
from skoots.snapshots import download_weights, is_address
from skoots.snapshots.download import Limits

QUICK = Limits(seconds=3.0, still=0.4, slowest=1000, size=2**20)
OK = b"HTTP/1.1 200 OK\r\n"
Answer = Callable[[socket.socket], None]


class Server:
    """Answers on the loopback as it is told, path by path; counts what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Answer] = {}
        self.otherwise = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        self.asked: list[str] = []
        self.closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            try:
                path = client.recv(65536).split(b" ")[1].decode("latin1")
                self.asked.append(path)
                answer = self.answers.get(path, self.otherwise)
                client.sendall(answer) if isinstance(answer, bytes) else answer(client)
            except OSError:
                pass

    def close(self) -> None:
        self.closing.set()
        self._socket.close()

    def forever(self, first: bytes, again: bytes, pause: float) -> Answer:
        """Something, and then the same over and over."""

        def answer(client: socket.socket) -> None:
            client.sendall(first)
            while not self.closing.wait(pause):
                client.sendall(again)

        return answer


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of weights."""
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save({"w": torch.arange(100.0)}, path)
    return path.read_bytes()


def whole(content: bytes) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % len(content) + content


def kept(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def settled(tmp_path: Path) -> list[Path]:
    """What is kept once a transfer that was given up has noticed it."""
    until = time.monotonic() + 5
    while kept(tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    return kept(tmp_path)


def test_fetched_once_and_kept(server: Server, content: bytes, tmp_path: Path) -> None:
    server.answers["/zoo/mito.pt"] = whole(content)
    digest = hashlib.sha256(content).hexdigest()
    address = f"{server.address}/zoo/mito.pt"
    path = download_weights(address, digest[:10].upper())
    assert path.read_bytes() == content and path.is_relative_to(tmp_path / "cache" / "skoots")
    assert download_weights(address) == download_weights(address, digest) == path and len(server.asked) == 1
    path.write_bytes(b"a changed file is fetched again")
    assert download_weights(address).read_bytes() == content and len(server.asked) == 2


def test_what_comes_in_chunks_or_without_a_length_is_taken_if_it_is_whole(
    server: Server, content: bytes
) -> None:
    half = len(content) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (content[:half], content[half:]))
    server.answers["/chunks"] = OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    server.answers["/bare"] = OK + b"\r\n" + content
    server.answers["/moved"] = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /bare\r\n\r\n"
    for path in ("chunks", "bare", "moved"):
        assert download_weights(f"{server.address}/{path}").read_bytes() == content
    server.answers["/half"] = OK + b"\r\n" + content[:half]
    with pytest.raises(SnapshotError, match=r"gave \d+ bytes that are no weights \(it is damaged"):
        download_weights(f"{server.address}/half")


def test_another_checksum_is_refused_and_not_kept(server: Server, content: bytes, tmp_path: Path) -> None:
    server.answers["/mito.pt"] = whole(content)
    with pytest.raises(SnapshotError, match=r"is not the file that was asked for: .* Check weights\.sha256"):
        download_weights(f"{server.address}/mito.pt", "0" * 64)
    for digits in ("", "abc", "g" * 64, "0" * 65):
        with pytest.raises(SnapshotError, match="which is no SHA-256"):
            download_weights(f"{server.address}/mito.pt", digits)
    assert not kept(tmp_path)


def test_a_login_page_is_refused_and_the_file_is_fetched_after_the_login(
    server: Server, content: bytes, tmp_path: Path
) -> None:
    server.answers["/mito.pt"] = whole(b"<html>Please log in</html>")
    with pytest.raises(SnapshotError, match=r"no weights \(it begins with '<html>Please log in</html>'\)"):
        download_weights(f"{server.address}/mito.pt")
    assert not kept(tmp_path)
    server.answers["/mito.pt"] = whole(content)
    assert download_weights(f"{server.address}/mito.pt").read_bytes() == content


def moved_to(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"


ANSWERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "closed connection without response"),
    "no HTTP": (bytes(range(256)) + b"\r\n\r\n", "cannot be downloaded"),
    "an error": (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "the server says 503 Busy"),
    "a part": (b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nP", "the server says 206"),
    "half": (OK + b"Content-Length: 700\r\n\r\nPK", "cannot be downloaded"),
    "a bad length": (OK + b"Content-Length: abc\r\n\r\nPK", "its length is 'abc'"),
    "a negative length": (OK + b"Content-Length: -5\r\n\r\nPK", "its length is '-5'"),
    "a huge length": (OK + b"Content-Length: 99999999999\r\n\r\nPK", "it is larger than"),
    "two lengths": (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nPK", "cannot be downloaded"),
    "a cut chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n1000\r\nPK", "cannot be downloaded"),
    "a bad chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nPK", "cannot be downloaded"),
    "a bad encoding": (OK + b"Content-Encoding: gzip\r\n\r\nPKxx", "cannot be downloaded"),
    "a long header": (OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n", "cannot be downloaded"),
    "300 headers": (OK + b"X: 1\r\n" * 300 + b"\r\n", "cannot be downloaded"),
    "moved to a file": (moved_to(b"file:///etc/hostname"), "begins with file:, which is not fetched"),
    "moved to data": (moved_to(b"data:text/plain,PK"), "begins with data:"),
    "moved to no address": (moved_to(b"http://[::1/x"), "Invalid IPv6 URL"),
    "moved with a password": (moved_to(b"http://u:p@127.0.0.1/x"), "holds a user or a password"),
    "moved in a circle": (moved_to(b"/x"), "sends on more than 10 times"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_a_server_answers_is_one_sentence_and_not_kept(
    name: str, server: Server, tmp_path: Path
) -> None:
    answer, told = ANSWERS[name]
    server.answers["/x"] = answer
    with pytest.raises(SnapshotError, match=r"^http://127\.0\.0\.1:\d+/x ") as caught:
        download_weights(f"{server.address}/x", limits=QUICK)
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not kept(tmp_path)


def test_a_server_without_an_end_is_given_up(server: Server, tmp_path: Path) -> None:
    server.answers |= {
        "/silent": server.forever(b"", b"", 0.05),
        "/headers": server.forever(OK, b"X", 0.05),
        "/bytes": server.forever(OK + b"\r\nPK", b"x", 0.05),
        "/slow": server.forever(OK + b"\r\nPK", b"x" * 1000, 0.05),
        "/fast": server.forever(OK + b"\r\nPK", b"x" * 2**16, 0.001),
        "/moved": server.forever(moved_to(b"/fast")[:-2], b"X: 1\r\n", 0.05),
    }
    told = {
        "/silent": r"\(0 bytes came in 0 s\)|timed out",
        "/headers": r"\(0 bytes came",
        "/bytes": r"bytes came in 0 s\)",
        "/slow": r"\(it takes longer than 3 s\)",
        "/fast": r"\(it is larger than 0\.000976562 GiB\)",
        "/moved": r"bytes came|headers",
    }
    for path, said in told.items():
        began = time.monotonic()
        with pytest.raises(SnapshotError, match=said):
            download_weights(f"{server.address}{path}", limits=QUICK)
        assert time.monotonic() - began < 30
    assert not settled(tmp_path)


def test_addresses_that_are_none(server: Server, tmp_path: Path) -> None:
    odd = {
        "names no server": ["http://", "https:///x", "http://h:0/x", "http://?x"],
        "cannot be understood": ["http://h:99999/x", "http://h:abc/x", "http://[::1/x"],
        "which is not fetched": ["file:///etc/passwd", "ftp://h/x", "javascript://h/x"],
        "holds a user or a password": ["http://me:secret@h/x", "http://me@h/x"],
        "cannot be printed": ["http://h/a\r\nX: y", "http://h/\ud800", "http://\u202eh/x", "http://h/\0"],
        "more than 4096": ["http://h/" + "x" * 5000],
        "cannot be downloaded": [
            *("http://a b/x", "http://.../x", "http://\xfc..de/x", f"http://{'a' * 70}.invalid/x"),
            *("http://%zz/x", "http://127.0.0.1:9/mito.pt"),
        ],
    }
    for said, addresses in odd.items():
        for address in addresses:
            with pytest.raises(SnapshotError, match=said) as caught:
                download_weights(address, limits=QUICK)
            assert len(str(caught.value)) < 700 and "secret" not in str(caught.value)
    assert not kept(tmp_path)


def test_any_name_of_a_file_is_kept_under_a_plain_one(server: Server, content: bytes, tmp_path: Path) -> None:
    server.otherwise = whole(content)
    for number, name in enumerate(
        ["a b", "\xfc", "x" * 300, "..", "%2e%2e%2fx", ".hidden", "CON:", "?key=1"]
    ):
        path = download_weights(f"{server.address}/{number}/{name}")
        assert (
            path.read_bytes() == content and path.parent.parent == tmp_path / "cache" / "skoots" / "weights"
        )


def test_the_proxy_of_the_environment_is_asked(
    server: Server, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    server.answers["http://somewhere.invalid/w.pt"] = whole(content)
    assert download_weights("http://somewhere.invalid/w.pt").read_bytes() == content


def test_a_transfer_is_ended_by_ctrl_c(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/bytes"] = server.forever(OK + b"\r\nPK", b"x", 0.01)
    looks = itertools.count()

    def interrupted(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread() and next(looks) == 2:
            raise KeyboardInterrupt
        return wait(event, timeout)

    wait = threading.Event.wait
    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download_weights(f"{server.address}/bytes")
    assert not settled(tmp_path)


def test_what_is_an_address() -> None:
    for address in ("https://a.b/c.pt", "HTTP://a.b/c.pt", "file:///a/b.pt", "s3://a/b.pt"):
        assert is_address(address)
    for file in ("runs/mito:best", "wandb:a/b/c", "C:\\a.pt", "C://a.pt", "/a//b.pt", "http:/a"):
        assert not is_address(file)
