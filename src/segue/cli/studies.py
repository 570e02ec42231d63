"""What is shown of a study: its plan, and how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

from segue.cli.tables import console
from segue.core.files import word
from segue.core.types import SegueError
from segue.study.cells import Cell
from segue.study.folder import Study, read
from segue.study.status import Standing, counted, left, standing

if TYPE_CHECKING:
    from segue.study.plan import Planner

MOST = 40  # cells that are shown one by one
EVERY = 2.0  # seconds between looks


def show_plan(study: Study, planner: Planner) -> None:
    """Print a study's cells, what they share, and what they need; of a search, those of one trial."""
    from segue.study.needs import needs
    from segue.study.search import check

    trials = 1
    if (search := study.asked.search) is not None:
        study, trials = replace(study, cells=check(study)), search.trials
        for path, room in search.space.items():
            print(path, " ".join(f"{key}={value}" for key, value in room.items()))
        print(f"{trials:,} trials, chosen by {search.sampler}; each has the cells below, with other settings")
    every = [_options(cell) for cell in study.cells]
    common = [word for word in every[0] if all(word in words for words in every)] if len(every) > 1 else []
    table = Table(title=_cells(len(study.cells)), title_justify="left")
    for column in ("cell", "what differs", "begins from"):
        table.add_column(column, overflow="fold")
    for cell, words in zip(study.cells[:MOST], every):
        begins = f"{cell.shares[0][1]} of {cell.shares[0][0]}" if cell.shares else ""
        table.add_row(cell.name, " ".join(word for word in words if word not in common), begins)
    if common:
        print("all with", *common)
    console().print(table)
    if len(study.cells) > MOST:
        print(f"and {len(study.cells) - MOST:,} more")
    if sharing := sum(bool(cell.shares) for cell in study.cells):
        print(f"{sharing:,} cells begin where another one's phases end: these are computed once")
    print(needs(study, planner).times(trials).words())


def _options(cell: Cell) -> list[str]:
    return [*(f"{path}={value}" for path, value in cell.settings.items()), *cell.rules]


def show_status(folder: Path, every: bool) -> None:
    """Print how far a study is."""
    study = read(folder)
    found = standing(folder, study)
    console().print(_table(found, every))
    print(_summary(found))
    print(*_searched(folder, study), sep="\n", end="")


def watch_status(folder: Path) -> None:
    """Show how far a study is, again and again, until all is over or Ctrl-C."""
    with Shown(folder) as shown:
        while not shown.look():
            time.sleep(EVERY)
    shown.end()


class Shown:
    """A study on the terminal: a live table, or a line for each change where there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._states = folder, dict[str, str]()
        self._screen = console()
        self._live = Live(console=self._screen, auto_refresh=False) if self._screen.is_terminal else None
        self._last = 0.0

    def __enter__(self) -> Shown:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def look(self) -> bool:
        """Look at the study, if that is due, and show what is new; whether all is over."""
        if time.monotonic() - self._last < EVERY:
            return False
        found = standing(self._folder, read(self._folder))
        self._last = time.monotonic()
        if self._live is not None:
            table = _table(found, False)
            table.caption = _summary(found)
            self._live.update(table, refresh=True)
        else:
            for one in found:
                if self._states.get(one.cell.name, "waiting") != one.state != "ready":
                    self.say(f"{one.cell.name}: {_said(one)}")
                self._states[one.cell.name] = one.state
        return all(one.state in ("done", "failed") for one in found)

    def say(self, line: str) -> None:
        """Print a line."""
        self._screen.print(line, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Say how it ended.  Raises `SegueError` where cells have failed."""
        self._last = 0.0
        self.look()
        study = read(self._folder)
        found = standing(self._folder, study)
        self.say("\n".join([_summary(found), *_searched(self._folder, study)]))
        failed = [one for one in found if one.state == "failed"]
        if failed:
            for one in failed:
                print(f"{one.cell.name}: {one.reason}", file=sys.stderr)
            again = f"segue study run {word(self._folder)} --retry"
            raise SegueError(f"{len(failed)} of {len(found)} cells failed (above: why); once mended: `{again}`")


def _searched(folder: Path, study: Study) -> list[str]:
    """Lines about a search.  Raises `SegueError` where no trial could be chosen."""
    from segue.study.trials import failure, trials

    if study.asked.search is None:
        return []
    from segue.study.search import best

    if why := failure(folder, study.asked.search.trials):
        raise SegueError(f"no trial can be chosen: {why}")
    lines = [f"{len(trials(folder)):,} of {study.asked.search.trials:,} trials"]
    if (found := best(folder, study.asked)) is not None:
        settings = " ".join(f"{path}={value}" for path, value in found[0].settings.items())
        again = f"the best of many looks better than it is: `segue study rerun {word(folder)}` runs it with fresh seeds"
        lines += [f"best: {found[1]:.4g} with {settings}", again]
    return lines


def _said(one: Standing) -> str:
    more = one.reason or " ".join(x for x in (one.phase, one.shown) if x)
    return f"{one.state} {more}".strip()


def _table(found: Sequence[Standing], every: bool) -> Table:
    """The cells one by one, or those that run and that have failed where there are many."""
    chosen = (
        list(found) if every or len(found) <= MOST else [s for s in found if s.state in ("running", "failed", "lost")]
    )
    table = Table(title_justify="left")
    for column in ("cell", "state", "phase", "step", "last evaluation", "time"):
        table.add_column(column, overflow="fold")
    for one in chosen:
        state = f"{one.state}: {one.reason}" if one.reason else one.state
        step = f"{one.step:,}" if one.phase else ""
        table.add_row(one.cell.name, state, one.phase, step, one.shown, duration(one.seconds) if one.phase else "")
    return table


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count:,} cells"


def _summary(found: Sequence[Standing]) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in counted(found).items())
    rest = left(found)
    return f"{_cells(len(found))}: {states}" + (f"; about {duration(rest)} left" if rest is not None else "")


def duration(seconds: float) -> str:
    """A time as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))
