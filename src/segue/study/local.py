"""Workers on this machine, a process each, with cores (and GPUs) of their own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from segue.core.groups import cores
from segue.core.types import SegueError
from segue.study import leash
from segue.study.folder import read


class Local:
    """The workers of one `segue study run`."""

    def __init__(self, folder: Path, workers: int | None, gpus: Sequence[str] = ()) -> None:
        """By default as many workers as this machine has room for: cores, or GPUs where they are named."""
        each, there = read(folder).asked.cores, usable()
        most = len(there) // each
        if not most:
            raise SegueError(f"a worker of this study has {each} cores, and this process may use {len(there)}")
        count = workers if workers is not None else min(len(gpus), most) if gpus else most
        if not 1 <= count <= most:
            raise SegueError(
                f"--workers {count}: with cores={each} this process may use {len(there)}; give 1 to {most}"
            )
        self._folder, self._logs = folder, folder / "workers"
        self._logs.mkdir(exist_ok=True)
        self._places = [(there[n * each : (n + 1) * each], gpus[n % len(gpus)] if gpus else None) for n in range(count)]
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Local:
        for number in range(len(self._places)):
            self._start(number)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + 2 * leash.GRACE
        for process in self._running.values():
            leash.stop(process, max(end - time.monotonic(), 0.1))
            leash.close(process)

    def alive(self) -> bool:
        """Whether a worker still works; one that was killed is started again.

        Raises `SegueError` with what a worker has said, once all have stopped and one of them could not go on.
        """
        ended = {number: process.poll() for number, process in self._running.items()}
        for number, code in ended.items():
            if code is not None and code < 0:
                self._start(number)
        if any(code is None or code < 0 for code in ended.values()):
            return True
        for number, code in ended.items():
            if code:
                raise SegueError(f"a worker stopped: {leash.last_line(self._log(number))}")
        return False

    def _start(self, number: int) -> None:
        there, gpu = self._places[number]
        env = dict(os.environ) if gpu is None else {**os.environ, "CUDA_VISIBLE_DEVICES": gpu}
        words = ["study", "work", os.path.abspath(self._folder), "--on", ",".join(map(str, there))]
        if old := self._running.get(number):
            leash.close(old)
        with self._log(number).open("ab") as output:
            self._running[number] = leash.start(words, output, env)

    def _log(self, number: int) -> Path:
        return self._logs / f"{number}.log"


def usable() -> list[int]:
    """The cores that this process may use, or so many numbers where the system does not say which."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))[: cores()]
    return list(range(cores()))
