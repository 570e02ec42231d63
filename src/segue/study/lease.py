"""Who works on a cell: a lease with a number, and a folder for what is done under it.

    CELL/000001.lease     who has it, a count that grows while the holder lives, and how it ended
    CELL/000001/          the run
    CELL/000001.log       what the run has printed

A lease is taken by making the file of the next number, which the file system lets one process do.  No locks are needed,
and clocks are never compared: a holder counts as lost when its count has stood still for a while on the clock of the
one that looks.  Whoever takes over works under the next number, in a folder of its own, on a copy of what was there:
what a holder that was only asleep writes afterwards reaches nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from segue.core import files
from segue.core.types import SegueError

BEATS = 12  # signs of life while others are patient with a silent holder (default of ours)
State = Literal["held", "released", "died", "failed", "done"]
OVER = ("failed", "done")
APPENDED = (".jsonl", ".log", ".lock")
"""Ends of the names of files that are changed in place; all others are replaced as a whole."""


class Held(NamedTuple):
    """A lease as it stands."""

    number: int
    worker: str = ""
    beat: int = 0
    state: State = "held"
    reason: str = ""
    deaths: int = 0
    """How many runs have died under the hands of a worker, one after the other, and left nothing new.  Workers that
    were lost do not count: what takes a machine away is seldom the cell."""
    mark: str = ""
    """The newest checkpoint when the lease began."""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in OVER


NOBODY = Held(0, state="released")


def this_worker() -> str:
    """A name for this process: its machine, its space of processes, its number."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {space} {os.getpid()}"


def ended(worker: str) -> bool:
    """Whether a worker is known to have ended: one of this machine whose process is gone."""
    mine = this_worker().rpartition(" ")[0]
    where, _, number = worker.rpartition(" ")
    if where != mine or "[" not in mine:
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def lease_of(cell: Path) -> Held:
    """The newest lease of a cell's folder."""
    numbers = _numbers(cell)
    return _read(cell, max(numbers)) if numbers else NOBODY


def run_of(cell: Path) -> Path | None:
    """The newest run of a cell, if one has begun."""
    for number in sorted(_numbers(cell), reverse=True):
        if (cell / _name(number) / "run.json").exists():
            return cell / _name(number)
    return None


def kept(cell: Path, phase: str) -> bool:
    """Whether a cell's run has kept the end of a phase."""
    run = run_of(cell)
    return run is not None and any(path.name.partition("-")[2] == phase for path in (run / "phases").glob("[0-9]*-*"))


def log_of(cell: Path, number: int) -> Path:
    """Where the run under a lease prints to."""
    return cell / f"{_name(number)}.log"


@dataclass
class Watch:
    """What one worker has seen of the others' signs of life, by its own clock."""

    patience: float
    clock: Callable[[], float] = time.monotonic
    _seen: dict[Path, tuple[Held, float]] = field(default_factory=dict)

    def silent(self, cell: Path, held: Held) -> bool:
        """Whether the holder of a cell has given no sign of life for as long as this worker is patient."""
        if ended(held.worker):
            return True
        before, since = self._seen.get(cell, (None, 0.0))
        if before != held:
            self._seen[cell] = held, self.clock()
            return False
        return self.clock() - since >= self.patience


class Lost(Exception):
    """Somebody else has taken the lease over."""


class Lease:
    """A cell that this process has."""

    def __init__(self, cell: Path, held: Held) -> None:
        self.cell, self.held = cell, held

    @property
    def folder(self) -> Path:
        """The folder of its run."""
        return self.cell / _name(self.held.number)

    def beat(self) -> None:
        """Give a sign of life.  Raises `Lost`."""
        self._write(self.held._replace(beat=self.held.beat + 1))

    def end(self, state: State, reason: str = "") -> None:
        """Give the cell back.  Raises `Lost`."""
        self._write(self.held._replace(state=state, reason=reason))

    def _write(self, held: Held) -> None:
        if max(_numbers(self.cell)) > self.held.number:
            raise Lost
        self.held = held
        files.write(self.cell / f"{_name(held.number)}.lease", _text(held))


def claim(cell: Path, worker: str, before: Held) -> Lease | None:
    """Take a cell after the lease `before`, which was the newest; None if somebody else was faster.

    The run that was done under it is there under the new number too.  Raises `SegueError` where it cannot be copied.
    """
    cell.mkdir(parents=True, exist_ok=True)
    mark = _mark(cell)
    deaths = before.deaths + (before.state == "died") if before.state in ("died", "held") else 0
    deaths = deaths if mark == before.mark else 0
    held = Held(before.number + 1, worker, deaths=deaths, mark=mark)
    if not _made(cell / f"{_name(held.number)}.lease", _text(held)):
        return None
    lease = Lease(cell, held)
    try:
        _adopt(cell, lease.folder)
    except OSError as error:  # of the disk, or `shutil.Error`
        with contextlib.suppress(OSError, Lost):
            lease.end("released")
        raise SegueError(f"{cell}: its run cannot be copied ({' '.join(str(error).split())[:200]})") from error
    return lease


def _adopt(cell: Path, folder: Path, tries: int = 3) -> None:
    """Copy the newest run under another number; files that are never changed in place get a second name."""
    there, temporary = run_of(cell), cell / f".{folder.name}"
    if there is None:
        return
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(there, temporary, copy_function=_second_name, ignore=shutil.ignore_patterns(".*"))
    except OSError:  # a holder that still lives may have removed an old checkpoint meanwhile
        shutil.rmtree(temporary, ignore_errors=True)
        if tries == 1:
            raise
        _adopt(cell, folder, tries - 1)
        return
    temporary.rename(folder)


def _mark(cell: Path) -> str:
    run = run_of(cell)
    saved = [] if run is None else [path.name for path in (run / "checkpoints").glob("[0-9]*")]
    return max(saved, default="")


def tidy(cell: Path) -> None:
    """Remove the runs that stand under earlier numbers than a cell's newest one, when nobody works on its study."""
    newest = run_of(cell)
    for number in _numbers(cell):
        if newest is not None and _name(number) < newest.name:
            shutil.rmtree(cell / _name(number), ignore_errors=True)


def reopen(cell: Path) -> None:
    """Let a cell that has failed be tried again."""
    lease = claim(cell, this_worker(), lease_of(cell))
    if lease is not None:
        lease.end("released")


def _second_name(source: str, target: str) -> str:
    if not source.endswith(APPENDED) and "tensorboard" not in source:
        with contextlib.suppress(OSError):  # a file system without second names
            os.link(source, target)
            return target
    shutil.copyfile(source, target)
    return target


def _made(path: Path, text: str) -> bool:
    """Make a file that nobody has made yet, with its content."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, "utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # without second names: others may see it empty for a moment
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _name(number: int) -> str:
    return f"{number:06d}"


def _numbers(cell: Path) -> list[int]:
    try:
        names = os.listdir(cell)
    except FileNotFoundError:
        return []
    return [int(name[:-6]) for name in names if name.endswith(".lease") and name[:-6].isdecimal()]


def _text(held: Held) -> str:
    return json.dumps(held._asdict())


def _read(cell: Path, number: int) -> Held:
    try:
        return Held(**json.loads((cell / f"{_name(number)}.lease").read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # it is being made
        return Held(number)
