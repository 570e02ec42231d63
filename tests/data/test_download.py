"""Downloads against a server that fails in the ways servers fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from segue.core.types import SegueError
from segue.data.readers import download as module
from segue.data.readers.download import Remote, fetch, is_remote
from segue.tasks.catalogue import records

BODY = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    body, version, stops = BODY, "one", 0
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/busy"):
            self.send_error(503)
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == f'"{server.version}"':
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        body = server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{server.version}"')
        self.end_headers()
        if server.stops:
            server.stops -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path))
    monkeypatch.delenv("SEGUE_OFFLINE", raising=False)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(module, "CHUNK", 1 << 14)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_once_and_then_from_the_cache(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int | None]] = []
    remote = Remote((f"{server.url}/a/log.npz?x=1",), DIGEST)
    path = fetch(remote, lambda done, total: told.append((done, total)))
    assert path.read_bytes() == BODY
    assert path.name.endswith("-log.npz")
    assert told[-1] == (len(BODY), len(BODY))
    assert len(told) > 10
    monkeypatch.setenv("SEGUE_OFFLINE", "1")
    assert fetch(remote) == path
    assert len(server.asked) == 1
    with pytest.raises(SegueError, match="SEGUE_OFFLINE is set"):
        fetch(Remote((f"{server.url}/other",)))
    assert is_remote("https://x/y")
    assert not is_remote("log.npz")
    assert not is_remote("C:/log.npz")


def test_goes_on_where_it_stopped(server: Server) -> None:
    server.stops = 4  # more often than attempts: each of them brings something new
    assert fetch(Remote((f"{server.url}/log",), DIGEST)).read_bytes() == BODY
    ranges = [r for _, r in server.asked]
    assert ranges[0] is None
    assert len(set(ranges)) == len(ranges) == 5


def test_a_file_that_changed_is_not_joined_to_the_old_one(server: Server, tmp_path: Path) -> None:
    remote = Remote((f"{server.url}/log",))
    part = tmp_path / "downloads" / f"{remote.name}.part"
    server.stops = 1
    server.ranges = False
    assert fetch(remote).read_bytes() == BODY  # a server without ranges sends all of it again
    (tmp_path / "downloads" / remote.name).unlink()
    part.write_bytes(b"old" * 100)
    module._mark(part).write_text(f'{{"url": "{remote.urls[0]}", "version": "\\"zero\\""}}')
    server.ranges = True
    assert fetch(remote).read_bytes() == BODY


def test_mirrors(server: Server) -> None:
    urls = tuple(f"{server.url}/{name}" for name in ("missing", "busy", "log"))
    assert fetch(Remote(urls, DIGEST)).read_bytes() == BODY
    assert [path for path, _ in server.asked] == ["/missing", "/busy", "/busy", "/busy", "/log"]
    with pytest.raises(SegueError, match=r"/missing2 \(404 .*\); http.*/busy2 \(503 .*\); check the network"):
        fetch(Remote((f"{server.url}/missing2", f"{server.url}/busy2")))
    with pytest.raises(SegueError, match="could not be downloaded"):
        fetch(Remote(("http://127.0.0.1:9/log",)))


def test_wrong_bytes_are_thrown_away(server: Server, tmp_path: Path) -> None:
    remote = Remote((f"{server.url}/log",), "0" * 64)
    with pytest.raises(SegueError, match=f"its SHA-256 is {DIGEST[:16]}"):
        fetch(remote)
    assert not [p for p in (tmp_path / "downloads").iterdir() if p.name.endswith((".part", "log"))]


@pytest.mark.parametrize("known", [True, False])
def test_a_download_that_was_damaged_is_fetched_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Whether its SHA-256 is known beforehand, or was written down when it arrived."""
    remote = Remote((f"{server.url}/log",), DIGEST if known else None)
    path = fetch(remote)
    note = path.with_name(f"{path.name}.sha256")
    assert note.read_text() == f"{DIGEST}  {path.name}\n"
    for damage in (BODY[:-1], b"\1" + BODY[1:], b""):
        path.write_bytes(damage)
        monkeypatch.setenv("SEGUE_OFFLINE", "1")
        with pytest.raises(SegueError, match=r"/log is (damaged|not as expected) in .*SEGUE_OFFLINE is set; unset it"):
            fetch(remote)
        monkeypatch.delenv("SEGUE_OFFLINE")
        assert fetch(remote).read_bytes() == BODY
    asked = len(server.asked)
    note.unlink()  # as an older Segue left it
    assert fetch(remote) == path
    assert note.exists()
    assert len(server.asked) == asked == 4
    other = Remote(remote.urls, "0" * 64)
    with pytest.raises(SegueError, match="not 0000"):
        fetch(other)
    assert fetch(remote).read_bytes() == BODY  # what is here and whole stays


def test_known_addresses_are_encrypted() -> None:
    addresses = [a for record in records().values() for a in record.data if "//" in a]
    assert addresses
    assert all("https://" in address for address in addresses)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "downloads").write_text("a file")
    with pytest.raises(SegueError, match="set SEGUE_CACHE elsewhere"):
        fetch(Remote((f"{server.url}/log",)))
