"""Files that are whole or absent, and that say so: atomic writes, checksums, JSON under a seal.

A file is written beside its place, synced and renamed, and then its folder is synced: after a power cut there is the
old file or the new one.  Its mode is what the umask says, whatever a library made of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SEAL = "seal"


def write(path: Path, content: str | bytes | Callable[[Path], None]) -> None:
    """Write text (UTF-8), bytes, or what a function writes to the path that it is given; raise `OSError` if it cannot.

    Readers see all of it or what was there before, at any instant.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.touch(exist_ok=False)
    try:
        mode = temporary.stat().st_mode
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def swap(new: Path, folder: Path) -> None:
    """Put a folder that is complete in the place of another one, if there is one, and sync what holds both.

    Between two renames the old one has the name that `aside` gives; `restore` puts it back after a crash there.
    """
    old = aside(folder)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore(folder: Path) -> None:
    """Undo a `swap` that was killed in its middle."""
    if not folder.exists() and aside(folder).exists():
        aside(folder).rename(folder)


def aside(folder: Path) -> Path:
    """Where `swap` keeps the old folder until the new one has its name."""
    return folder.with_name(f".{folder.name}-old")


def sync(folder: Path) -> None:
    """Force a folder's names to the disk; Windows has no such thing."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def word(path: Path) -> str:
    """A path as a shell takes it, for a command that a message suggests."""
    return shlex.quote(str(path))


def sealed(value: Mapping[str, Any], loose: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return JSON with a checksum of all its entries but the `loose` ones, which may change."""
    return {**value, SEAL: _seal(value, loose)}


def is_whole(value: Mapping[str, Any], loose: frozenset[str] = frozenset()) -> bool:
    """Whether a seal fits, or there is none: earlier versions wrote none."""
    return SEAL not in value or bool(value[SEAL] == _seal(value, loose))


def _seal(value: Mapping[str, Any], loose: frozenset[str]) -> str:
    kept = {k: v for k, v in value.items() if k != SEAL and k not in loose}
    read = json.loads(json.dumps(kept))  # as a reader will have it: lists for tuples, words for keys
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
