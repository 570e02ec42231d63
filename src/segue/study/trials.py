"""The trials of a search: settings that were chosen while it runs, and the cells that try them.

    STUDY/trials/000012/             who chose it (`segue.study.lease`)
    STUDY/trials/000012/trial.json   its settings and cells

A trial is chosen under a lease, as a run is done, so that whoever dies while choosing is replaced.  After the last one
comes a turn that chooses nothing, and only tells the search how its last trials went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segue.core import files
from segue.study.cells import Cell, cell_of
from segue.study.lease import lease_of


@dataclass(frozen=True)
class Trial:
    """One choice of settings."""

    number: int
    asked: int
    """Its number in the search's own storage."""
    settings: Mapping[str, Any]
    cells: tuple[Cell, ...]


def turn(folder: Path, number: int) -> Path:
    """The folder of a turn to choose."""
    return folder / "trials" / f"{number:06d}"


def trials(folder: Path) -> tuple[Trial, ...]:
    """The trials that have been chosen, in order."""
    found = []
    for path in sorted((folder / "trials").glob("*/trial.json")):
        known = json.loads(path.read_text("utf-8"))
        cells = tuple(map(cell_of, known["cells"]))
        found.append(Trial(known["number"], known["asked"], known["settings"], cells))
    return tuple(found)


def write(folder: Path, trial: Trial) -> None:
    """Write a trial that has been chosen."""
    files.write(turn(folder, trial.number) / "trial.json", json.dumps(asdict(trial)))


def turns(folder: Path, most: int) -> Sequence[int]:
    """Turns to choose that are not over yet, in order; none where one has failed."""
    states = [lease_of(turn(folder, number)).state for number in range(most + 1)]
    return [] if "failed" in states else [number for number, state in enumerate(states) if state != "done"]


def failure(folder: Path, most: int) -> str:
    """Why no trial can be chosen, if one could not."""
    for number in range(most + 1):
        held = lease_of(turn(folder, number))
        if held.state == "failed":
            return held.reason
    return ""
