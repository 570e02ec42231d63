"""Downloads: resumed, checked and kept; a file is here whole, or not at all.

cache/downloads/NAME            the file
cache/downloads/NAME.sha256     its SHA-256 when it arrived, as `sha256sum --check` takes it
cache/downloads/NAME.part       the bytes so far; the next attempt goes on from there
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from segue.core import files
from segue.core.types import SegueError
from segue.data.files import cache_folder, write_atomically

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 3  # for each mirror; an attempt that brings something new does not count
OFFLINE = "SEGUE_OFFLINE"  # set to 1: never ask the network


@dataclass(frozen=True)
class Remote:
    """A file somewhere else: addresses that hold the same bytes, and their SHA-256 if it is known."""

    urls: tuple[str, ...]
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the file in the cache: that of the first address, and a mark of where it is from."""
        path = urlsplit(self.urls[0]).path
        mark = hashlib.sha256(self.urls[0].encode()).hexdigest()[:8]
        return f"{mark}-{unquote(path.rsplit('/', 1)[-1]) or 'file'}".replace("/", "-")


def is_remote(where: str) -> bool:
    """Whether a source's place is an address."""
    return urlsplit(where).scheme in ("http", "https")


def fetch(remote: Remote, progress: Callable[[int, int | None], None] = lambda done, total: None) -> Path:
    """Return the file's path, downloaded if it is not here; `progress` is told (bytes so far, bytes in all or None).

    A file in the cache is used only if its SHA-256 is the expected one, or the one with which it arrived; otherwise it
    is downloaded anew and replaced.  Mirrors are tried in order.  A broken download is continued, if the server can and
    the file has not changed there.  Raises `SegueError` if no mirror has the file or the bytes are not the expected
    ones, and without asking the network if the environment variable SEGUE_OFFLINE is set.
    """
    folder = cache_folder() / "downloads"
    path = folder / remote.name
    try:
        wrong = _wrong(path, remote.sha256)
        if wrong is None:
            return path
        if os.environ.get(OFFLINE, "0") not in ("", "0"):
            raise SegueError(
                f"{remote.urls[0]} {wrong} and {OFFLINE} is set; unset it, or get the file elsewhere and import it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{remote.name}.lock"):  # of two processes the second waits, and finds the file
            if _wrong(path, remote.sha256) is not None:
                _from_mirrors(remote, folder / f"{remote.name}.part", path, progress)
    except OSError as error:
        raise SegueError(f"{folder}: cannot write here ({error.strerror}); set SEGUE_CACHE elsewhere") from error
    return path


def _wrong(path: Path, expected: str | None) -> str | None:
    """Why a cached file must not be used, or None; a file without a known digest gets today's."""
    if not path.exists():
        return f"is not in {path.parent}"
    found, note = files.sha256(path), _note(path)
    arrived = note.read_text().split()[:1] if note.exists() else []
    if expected is not None and found != expected:
        return f"is not as expected in {path} (its SHA-256 is {found[:16]}..., not {expected[:16]}...)"
    if arrived and arrived != [found]:
        return f"is damaged in {path} (its SHA-256 is {found[:16]}..., and was {arrived[0][:16]}...)"
    if not arrived:
        with contextlib.suppress(SegueError):  # a cache that is shared may not be ours to write to
            _keep(path, found)
    return None


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _keep(path: Path, digest: str) -> None:
    """Write down the digest of a file that has arrived."""
    write_atomically(_note(path), f"{digest}  {path.name}\n")


def _from_mirrors(remote: Remote, part: Path, path: Path, progress: Callable[[int, int | None], None]) -> None:
    said: list[str] = []
    for url in remote.urls:
        failures = 0
        while failures < ATTEMPTS:
            before = part.stat().st_size if part.exists() else 0
            try:
                _once(url, part, progress)
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                gone = isinstance(error, urllib.error.HTTPError) and error.code < 500
                failures += ATTEMPTS if gone else 0 if part.exists() and part.stat().st_size > before else 1
                reason = (error.reason if isinstance(error, urllib.error.URLError) else "") or error
                if failures >= ATTEMPTS:
                    code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
                    said.append(f"{url} ({code}{reason})")
                else:
                    time.sleep(0.2 * 2**failures)
                continue
            found = files.sha256(part)
            if remote.sha256 is not None and found != remote.sha256:
                part.unlink()
                said.append(f"{url} (its SHA-256 is {found[:16]}..., not {remote.sha256[:16]}...)")
                break
            _keep(path, found)  # first: a file beside another's digest is only downloaded once more
            part.replace(path)
            files.sync(path.parent)
            _mark(part).unlink(missing_ok=True)
            return
    raise SegueError(
        f"could not be downloaded: {'; '.join(said)}; check the network, or get the file elsewhere and import it"
    )


def _once(url: str, part: Path, progress: Callable[[int, int | None], None]) -> None:
    """Begin one download, or continue it."""
    have = part.stat().st_size if part.exists() else 0
    mark = _mark(part)
    known = json.loads(mark.read_text()) if mark.exists() else {}
    request = urllib.request.Request(url, headers={"User-Agent": "segue", "Accept-Encoding": "identity"})
    if have and known.get("url") == url and known.get("version"):
        # The server sends everything where the file is another one by now.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known["version"])
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        goes_on = answer.status == 206
        have = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        files.write(mark, json.dumps({"url": url, "version": version}))
        with open(part, "ab" if goes_on else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)


def _mark(part: Path) -> Path:
    return part.with_name(part.name + ".json")
