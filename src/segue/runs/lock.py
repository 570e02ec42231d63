"""Guards of a run's folder: one process at a time, a full disk, signals that save first."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from segue.core import files
from segue.core.types import NoRoom, SegueError
from segue.runs.sinks import to_stderr


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep two processes from working on the same run; the system frees what a process that dies has held."""
    # A lock that is only a file's existence would outlive the process, and the run could not be resumed.
    held = FileLock(folder / ".lock", timeout=0, fallback_to_soft=False)
    try:
        (folder / ".lock").touch()
    except OSError as error:
        raise SegueError(f"{folder}: cannot write here ({error.strerror}); make it writable") from error
    try:
        held.acquire()
    except Timeout as error:
        raise SegueError(f"{folder}: another process is at work on this run; wait for it or stop it") from error
    except IsADirectoryError as error:
        raise SegueError(f"{folder}: cannot write here ({error.strerror}); make it writable") from error
    except (OSError, NotImplementedError):  # a file system without locks (some network mounts): nothing to keep apart
        to_stderr(f"warning: {folder} cannot be locked; let no other process resume this run")
    try:
        yield
    finally:
        held.release()


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Say in one line that the disk is full, whoever met it; the last checkpoint stands."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors wraps the operating system's errors
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and "No space left" not in str(error):
            raise
        raise NoRoom(
            f"{folder}: the disk is full; free some space, then `segue resume {files.word(folder)}`"
        ) from error


@contextmanager
def signals() -> Iterator[Callable[[], int | None]]:
    """Catch SIGINT and SIGTERM; yields a function that returns the number of the signal seen, if any.

    The run stops at its next record, which may be an evaluation or a compilation away; a second signal stops at once.
    """
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt(number)  # the user means it
        seen.append(number)
        with contextlib.suppress(OSError):  # not print(): the signal may have come in the middle of one
            os.write(2, b"\nsegue: stopping at the next safe point; once more stops at once\n")

    try:
        before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller handles signals
        yield lambda: None
        return
    try:
        yield lambda: seen[0] if seen else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
