"""How far a study is, from its files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segue.core.files import word
from segue.core.types import SegueError
from segue.study.cells import Cell
from segue.study.folder import Study, place
from segue.study.lease import Held, ended, kept, lease_of, run_of

State = Literal["done", "failed", "running", "lost", "stopped", "ready", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "ready", "waiting", "stopped", "lost", "failed")
TAIL = 16_384  # bytes at the end of a log that are read
SHOWN = ("score", "success", "return")
"""What is shown of an evaluation: the first of these that it has."""


@dataclass(frozen=True)
class Standing:
    """Where a cell stands."""

    cell: Cell
    state: State
    reason: str = ""
    """Why it failed, or for whom it waits."""
    worker: str = ""
    run: Path | None = None
    phase: str = ""
    step: int = 0
    seconds: float = 0.0
    """Seconds that its run has taken."""
    shown: str = ""
    """The last evaluation of its run, averaged over seeds."""


def standing(folder: Path, study: Study) -> list[Standing]:
    """Where each cell of a study stands, in its order."""
    held = {cell.name: lease_of(place(folder, cell.name)) for cell in study.cells}
    return [_standing(folder, cell, held) for cell in study.cells]


def _standing(folder: Path, cell: Cell, held: Mapping[str, Held]) -> Standing:
    there, lease = place(folder, cell.name), held[cell.name]
    if not lease.number:
        owner = _waits_for(folder, cell, held)
        return Standing(cell, "waiting" if owner else "ready", f"for {owner}" if owner else "")
    states: dict[str, State] = {"done": "done", "failed": "failed", "released": "stopped", "died": "lost"}
    state = states.get(lease.state, "lost" if ended(lease.worker) else "running")
    run = run_of(there)
    rows = [] if run is None else _tail(run / "metrics.jsonl")
    last: Mapping[str, Any] = rows[-1] if rows else {}
    evaluated = next((row for row in reversed(rows) if row["kind"] == "evaluation"), None)
    clocks = str(last.get("phase", "")), int(last.get("phase_step", 0)), float(last.get("wall_s", 0.0))
    return Standing(cell, state, lease.reason, lease.worker, run, *clocks, _shown(evaluated))


def _waits_for(folder: Path, cell: Cell, held: Mapping[str, Held]) -> str:
    """The cell whose first phases a cell waits for, if it does."""
    for owner, phase in cell.shares:
        if kept(place(folder, owner), phase):
            return ""
        if not held[owner].over:
            return owner
    return ""


def counted(found: Iterable[Standing]) -> dict[State, int]:
    """How many cells are in each state; states of none are left out."""
    states = [one.state for one in found]
    return {state: states.count(state) for state in STATES if state in states}


def left(found: Iterable[Standing]) -> float | None:
    """Seconds that the rest takes as many workers as run now, by the cells that are done; None while none is."""
    each = list(found)
    done = [one.seconds for one in each if one.state == "done"]
    working = sum(one.state == "running" for one in each)
    if not done or not working:
        return None
    mean = sum(done) / len(done)
    rest = [max(mean - one.seconds, 0.0) for one in each if one.state not in ("done", "failed")]
    return sum(rest) / working


def runs(folder: Path, study: Study) -> tuple[list[Path], list[tuple[str, str]]]:
    """The runs of a study that are done, and the other cells, with why they are not."""
    found = standing(folder, study)
    there = [one.run for one in found if one.run is not None and one.state == "done"]
    why = {one.cell.name: f"{one.state}: {one.reason}" if one.reason else one.state for one in found}
    without = [(one.cell.name, why[one.cell.name]) for one in found if one.state != "done"]
    if not there:
        raise SegueError(f"{folder}: no cell of this study is done yet; `segue study run {word(folder)}` goes on")
    return there, without


def _tail(log: Path) -> list[Mapping[str, Any]]:
    """The last whole rows of a log."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    rows = []
    for line in lines[size > TAIL : -1]:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _shown(row: Mapping[str, Any] | None) -> str:
    values = {} if row is None else row["values"]
    name = next((name for name in SHOWN if name in values), None)
    numbers = [value for value in values.get(name, ()) if value is not None] if name else []
    return f"{name} {sum(numbers) / len(numbers):.4g}" if numbers else ""
