"""What runs there are below a folder, from each one's run.json and the end of its metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segue.core.types import SegueError
from segue.report.notation import MISSING, count
from segue.report.read import read_about
from segue.report.statistics import interquartile_mean
from segue.report.summary import show

BLOCK = 1 << 15  # bytes of metrics read from the end at first
MOST = 1 << 20  # and at most
SILENT = 600.0  # seconds without a row after which a run that is said to run may have been killed
HEAD = ("run", "recipe", "task", "seeds", "status", "reached", "last evaluation", "age")


class Listed(NamedTuple):
    """A run in words, in the order of HEAD."""

    name: str
    recipe: str
    task: str
    seeds: str
    status: str
    reached: str
    last: str
    age: str


def runs_below(folder: Path) -> list[Listed]:
    """Every run in a folder and the folders in it, by name; raises SegueError where there is no such folder.

    Last evaluation: interquartile mean over seeds of success, else of score, else of return.
    """
    if not folder.is_dir():
        raise SegueError(f"{folder}: is not a folder; give one that has runs in it")
    now = datetime.now(UTC).timestamp()
    return [_listed(found, str(found.relative_to(folder)), now) for found in sorted(_found(folder))]


def _found(folder: Path) -> Iterator[Path]:
    for here, inside, names in os.walk(folder):
        if "run.json" in names:
            inside.clear()  # a run has no runs in it
            yield Path(here)
        inside[:] = [name for name in inside if not name.startswith(".")]


def _listed(folder: Path, name: str, now: float) -> Listed:
    try:
        about = read_about(folder)
    except SegueError:
        return Listed(name, MISSING, MISSING, MISSING, "damaged", MISSING, MISSING, MISSING)
    last, evaluation, written = _end(folder / "metrics.jsonl")
    status = str(about.get("status", "?"))
    if status == "running" and written is not None and now - written > SILENT:
        status = f"running? silent for {span(now - written)}"
    return Listed(
        name,
        str(about.get("recipe", "?")),
        str(about.get("task", "?")),
        str(len(about["seeds"])),
        status,
        _reached(about, last),
        _evaluated(about, evaluation),
        _age(about, now),
    )


def _end(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any], float | None]:
    """The last row, the last evaluation, and when the file was written; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            written = os.fstat(file.fileno()).st_mtime
            rows: list[bytes] = []
            evaluation, back = b"", BLOCK
            while True:
                file.seek(max(0, size - back))
                whole = file.read().split(b"\n")[0 if back >= size else 1 : -1]  # the last one has no newline yet
                rows = [row for row in whole if row]
                evaluation = next((row for row in reversed(rows) if _is_evaluation(row)), b"")
                if (rows and evaluation) or back >= min(size, MOST):
                    return _parsed(rows[-1] if rows else b""), _parsed(evaluation), written
                back *= 4
    except OSError:
        return {}, {}, None


def _is_evaluation(row: bytes) -> bool:
    return b'"evaluation"' in row[:40]  # `kind` comes first


def _parsed(row: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(row)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reached(about: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    if "phase" not in row:
        return MISSING
    phases, index = about.get("phases") or [], int(row.get("phase_index", 0))
    plan = phases[index] if index < len(phases) else {}
    whole = plan.get("environment_steps") or plan.get("gradient_steps")
    return f"{row['phase']} {count(row.get('phase_step', 0))}{f' of {count(whole)}' if whole else ''}"


def _evaluated(about: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    scored = not isinstance((about.get("task_card") or {}).get("score"), str)
    for quantity in ("success", *(["score"] if scored else []), "return"):
        numbers = [value for value in (row.get("values") or {}).get(quantity) or () if isinstance(value, (int, float))]
        if numbers and np.isfinite(numbers).any():
            return f"{quantity} {show(quantity, float(interquartile_mean(numbers)))}"
    return MISSING


def _age(about: Mapping[str, Any], now: float) -> str:
    try:
        began = datetime.fromisoformat(str(about.get("created")))
    except ValueError:
        return MISSING
    return span(max(0.0, now - (began if began.tzinfo else began.replace(tzinfo=UTC)).timestamp()))


def span(seconds: float) -> str:
    """A time span in its largest unit: 5 min, 3 h, 12 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
