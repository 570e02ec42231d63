"""A worker: claim a cell, run it in a process of its own, give it back, until nothing is left.

The worker gives signs of life, whatever the run does; the run needs no more than a folder, a cell and a number.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from segue.core.types import SegueError
from segue.study import leash
from segue.study.cells import Cell
from segue.study.folder import Study, place, read
from segue.study.lease import BEATS, Held, Lease, Lost, Watch, claim, kept, lease_of, log_of, this_worker, tidy
from segue.study.leash import last_line
from segue.study.trials import turn, turns

MOST_DEATHS = 3  # of runs one after the other that left nothing new, until a cell counts as failed (default of ours)
FULL = 75  # exit code of a run that its machine had no room for
STOPPED = (130, 143)
PAUSE, POLL = 1.0, 0.5  # seconds between looks for a cell, and at a run


class Worker:
    """Works on a study until it is done or somebody asks it to stop."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say, self.name = folder, say, this_worker()
        self._stops = threading.Event()
        self._watch: Watch | None = None
        self._running: tuple[subprocess.Popen[bytes], Lease] | None = None

    def stop(self) -> None:
        """Have the run save and stop, give its cell back, and let `work` return; may be called by a signal's
        handler."""
        self._stops.set()

    def halt(self) -> None:
        """As `stop`, and done when it returns: for one that is about to be ended."""
        self._stops.set()
        running, self._running = self._running, None
        if running is not None:
            process, lease = running
            leash.stop(process)
            with suppress(Lost, OSError):
                lease.end("released")

    def work(self) -> None:
        """Do what is left of the study.  Raises `SegueError` where this machine cannot go on."""
        while not self._stops.is_set():
            left = self._turns(read(self.folder))
            study = read(self.folder)  # after: a turn that is over has cells here
            held = {cell.name: lease_of(place(self.folder, cell.name)) for cell in study.cells}
            over = all(one.over for one in held.values())
            lease = self._cell(study, held) or self._turn(study, left, over)
            if lease is not None:
                self._do(study, lease)
            elif over and not left:
                for cell in study.cells:
                    tidy(place(self.folder, cell.name))
                return
            else:
                self._stops.wait(PAUSE * random.uniform(0.5, 1.5))

    def _cell(self, study: Study, held: dict[str, Held]) -> Lease | None:
        """A cell that can be begun."""
        for cell in study.cells:
            if self._begins(cell, held):
                lease = self._claimed(study, place(self.folder, cell.name), held[cell.name])
                if lease is not None:
                    return lease
        return None

    def _turns(self, study: Study) -> Sequence[int]:
        """Turns that are left in which trials are chosen."""
        return [] if study.asked.search is None else turns(self.folder, study.asked.search.trials)

    def _turn(self, study: Study, left: Sequence[int], over: bool) -> Lease | None:
        """A turn to choose a trial, where nothing else is to be done; the last one waits for everything."""
        for number in left:
            assert study.asked.search is not None
            there = turn(self.folder, number)
            if number < study.asked.search.trials or (over and len(left) == 1):
                lease = self._claimed(study, there, lease_of(there))
                if lease is not None:
                    return lease
        return None

    def _claimed(self, study: Study, there: Path, before: Held) -> Lease | None:
        """The lease of a place, if it can be had."""
        watch = self._watch = self._watch or Watch(study.asked.patience)
        if before.over or (before.state == "held" and before.number and not watch.silent(there, before)):
            return None
        lease = claim(there, self.name, before)
        if lease is None:  # somebody was faster
            return None
        if before.number and before.state == "held":
            self.say(f"{there.name}: taken over from {before.worker or 'a worker'}, which has gone silent")
        if lease.held.deaths >= MOST_DEATHS:
            lease.end("failed", f"died {lease.held.deaths} times and left nothing new; see its .log files")
            return None
        return lease

    def _begins(self, cell: Cell, held: dict[str, Held]) -> bool:
        """Whether nothing is to wait for: what the cell begins from is there, or will never be."""
        for owner, phase in cell.shares:
            if kept(place(self.folder, owner), phase):
                return True
            if not held[owner].over:
                return False
        return True

    def _do(self, study: Study, lease: Lease) -> None:
        name, number = lease.cell.name, lease.held.number
        log = log_of(lease.cell, number)
        env = {**os.environ, "NPROC": str(study.asked.cores)}
        chooses = lease.cell.parent.name == "trials"
        what = ["choose", str(int(name))] if chooses else ["cell", name, str(number)]
        self.say(f"{name}: {'goes on' if lease.folder.exists() else 'begins'}")
        with log.open("ab") as output:
            process = leash.start(["study", what[0], os.path.abspath(self.folder), *what[1:]], output, env)
        self._running = process, lease
        try:
            code = self._watched(process, lease, study.asked.patience / BEATS)
            self._running = None
            self._settle(lease, code, log)
        except Lost:
            self._running = None
            self.say(f"{name}: another worker has taken it over")
            process.kill()
        finally:
            if self._running is not None:  # this worker is being ended
                self.halt()
            leash.close(process)

    def _watched(self, process: subprocess.Popen[bytes], lease: Lease, pause: float) -> int:
        """Give signs of life until a run has ended; its exit code.  Raises `Lost`."""
        asked, told = 0.0, time.monotonic()
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(min(pause, POLL))
            now = time.monotonic()
            if self._stops.is_set() and not asked:
                process.terminate()
                asked = now
            elif asked and now - asked > leash.GRACE:
                process.kill()
            if now - told >= pause:
                told = now
                with suppress(OSError):  # a full disk, or one that is away: the next sign may come through
                    lease.beat()

    def _settle(self, lease: Lease, code: int, log: Path) -> None:
        """Give a cell back after its run has ended."""
        said, name = last_line(log), lease.cell.name
        if code == 0:
            lease.end("done")
            self.say(f"{name}: done")
        elif code in STOPPED:
            lease.end("released")
            self.say(f"{name}: stopped and saved")
        elif code == FULL:
            with suppress(OSError):
                lease.end("released", said)
            raise SegueError(f"{name}: {said}")
        elif code < 0:
            lease.end("died", f"killed by signal {-code}")
            self.say(f"{name}: its process was killed (signal {-code})")
        else:
            lease.end("failed", said)
            self.say(f"{name}: failed: {said}")
