"""A study's folder: study.json says what it is, and each cell has a folder of its own.

STUDY/study.json                      what was asked for, blocks of seeds, cells; under a seal
STUDY/cells/RECIPE-TASK-sA-DIGEST/    a cell: leases, and its run (`segue.study.lease`)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from segue.core import files
from segue.core.types import SegueError
from segue.runs.lock import full_disk, lock
from segue.study.asked import Asked, Runs, Search
from segue.study.cells import Block, Cell, cell_of, described
from segue.study.trials import trials


@dataclass(frozen=True)
class Study:
    """What a study is: it grows, and nothing of it is ever changed."""

    asked: Asked
    blocks: tuple[Block, ...]
    cells: tuple[Cell, ...]
    """In a search, those of the trials that have been chosen."""

    def cell(self, name: str) -> Cell:
        """A cell by its name."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise SegueError(f"the study has no cell '{name}'")


def read(folder: Path) -> Study:
    """The study in a folder.  Raises `SegueError` where there is none."""
    try:
        known = json.loads((folder / "study.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SegueError(
            f"{folder}: is not a study (no readable study.json); give the folder that `segue study run` made"
        ) from error
    if not files.is_whole(known):
        raise SegueError(f"{folder / 'study.json'}: is damaged (its checksum does not fit); restore it from a backup")
    try:
        return _study(folder, known)
    except (KeyError, TypeError) as error:
        made, now = known.get("segue", "?"), metadata.version("segue")
        raise SegueError(
            f"{folder / 'study.json'}: was written by Segue {made}, and this one, {now}, cannot read it; use that "
            "version, or make the study again"
        ) from error


def _study(folder: Path, known: Mapping[str, Any]) -> Study:
    """The study that JSON describes."""
    asked = known["asked"]
    whole = {
        **asked,
        "runs": tuple(_runs(part) for part in asked["runs"]),
        "seeds": tuple(asked["seeds"]),
        "track": tuple(asked["track"]),
    }
    whole["search"] = Search(**asked["search"]) if asked["search"] else None
    chosen = {cell.name: cell for trial in trials(folder) for cell in trial.cells} if asked["search"] else {}
    cells = *map(cell_of, known["cells"]), *chosen.values()
    return Study(Asked(**whole), tuple(tuple(b) for b in known["blocks"]), cells)


def change(folder: Path, made: Callable[[Study | None], Study]) -> Study:
    """Write what `made` makes of the study that is in a folder, or of None; no other process changes it meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegueError(f"{folder}: cannot make this folder ({error.strerror}); give another --out") from error
    with lock(folder), full_disk(folder):
        before = read(folder) if (folder / "study.json").exists() else None
        if before is None and (others := [p.name for p in folder.iterdir() if not p.name.startswith(".")]):
            raise SegueError(
                f"{folder}: is not empty, and no study ({', '.join(sorted(others)[:3])}); give another --out"
            )
        study = made(before)
        if study != before:
            known: Mapping[str, Any] = {
                "segue": metadata.version("segue"),
                "asked": asdict(study.asked),
                "blocks": study.blocks,
                "cells": [] if study.asked.search else [described(cell) for cell in study.cells],
            }
            files.write(folder / "study.json", json.dumps(files.sealed(known), indent=1))
    return study


def place(folder: Path, name: str) -> Path:
    """A cell's folder, by its name."""
    return Path(os.path.abspath(folder)) / "cells" / name


def _runs(known: Mapping[str, Any]) -> Runs:
    """Runs as JSON has them."""
    grid = {path: tuple(tuple(v) if path == "rules" else v for v in values) for path, values in known["grid"].items()}
    lists = {name: tuple(known[name]) for name in ("recipes", "tasks", "rules")}
    return Runs(**{**known, **lists, "grid": grid})
