"""A process that ends with the one that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

MARK = "SEGUE_LEASH"
GRACE = 60.0  # seconds in which what was asked to stop saves and stops


def start(words: Sequence[str], output: IO[bytes] | int | None, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `segue WORDS` in a session of its own, so that a terminal's signals reach it only through its parent."""
    # The folder of this very Segue goes along, whatever the working folder is.
    package = str(Path(__file__).parents[2])
    paths = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p and p != package]
    return subprocess.Popen(
        [sys.executable, "-m", "segue", *words],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**env, MARK: "1", "PYTHONPATH": os.pathsep.join([package, *paths])},
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], seconds: float = GRACE) -> int:
    """Ask a process to stop, and kill it where it takes longer; return its exit code."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def close(process: subprocess.Popen[bytes]) -> None:
    """Forget a process that has been stopped or killed."""
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def last_line(log: Path) -> str:
    """The last line that a process has printed, without Segue's name before it."""
    try:
        lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return lines[-1].removeprefix("segue: ") if lines else "its process printed nothing"


def follow() -> None:
    """In a process that `start` made: stop when the one that started it is gone, which the end of stdin tells."""
    if os.environ.pop(MARK, None) is not None:
        if hasattr(signal, "SIGUSR2"):  # SLURM sends it to every process of a job, and it is meant for the worker
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        threading.Thread(target=_wait, name="segue-leash", daemon=True).start()


def _wait() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
