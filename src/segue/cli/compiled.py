"""Compiled programs on the disk: a run that was compiled once starts in seconds the next time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax

from segue.core.groups import use_cores
from segue.data import cache_folder

# Defaults of ours.
ROOM = 2_000_000_000  # bytes of programs that are kept for a kind of processor; a run makes a few million


def prepare(cores: int | None = None) -> None:
    """What a command does before it computes: limit the cores, find compiled programs."""
    if cores is not None:
        use_cores(cores)
    use_compilation_cache()


def use_compilation_cache() -> None:
    """Keep every compiled program between runs, in a folder for this kind of processor.

    JAX keeps only what took a second to compile; most programs of a run take less, and together they take longer than
    the large ones.  What the user has said in JAX's own variables (JAX_COMPILATION_CACHE_DIR and so on) stands.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = cache_folder() / "xla" / machine()
        trim(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def machine() -> str:
    """A name for this kind of processor: a program of another one may have instructions that this one lacks."""
    with contextlib.suppress(OSError):
        told = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        lines = [line for line in told if line.startswith(("model name", "flags", "Features", "CPU part"))]
        if lines:
            return f"{platform.machine()}-{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:8]}"
    return "-".join(word for word in (platform.machine(), platform.processor()) if word) or "machine"


def trim(folder: Path, room: int = ROOM) -> None:
    """Remove the programs that were not used for longest, until the others take up at most `room` bytes.

    Another process may do the same; a program that a run still wanted is compiled again.
    """
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                known = path.stat()
                found.append((max(known.st_atime, known.st_mtime), known.st_size, path))
    excess = sum(size for _, size, _ in found) - room
    for _, size, path in sorted(found):
        if excess <= 0:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        excess -= size
