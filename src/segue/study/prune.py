"""End a trial that is behind: a callback of its run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segue.runs.watch import STOP
from segue.study.asked import Search
from segue.study.cells import Cell
from segue.study.journal import known_trial, shown_of
from segue.study.trials import trials


def pruner(folder: Path, search: Search, cell: Cell) -> Callable[[dict[str, Any]], object]:
    """What sees each row of a trial's run: it tells Optuna the evaluations since the switch, and stops when told to."""
    trial = next(trial for trial in trials(folder) if cell.name in [one.name for one in trial.cells])
    known = known_trial(folder, search, trial.asked)
    count = 0

    def pruned(row: dict[str, Any]) -> object:
        nonlocal count
        if row["kind"] != "evaluation" or not row["environment_step"]:
            return None
        value = float(np.mean([np.nan if x is None else x for x in shown_of(row)]))
        count += 1
        if not np.isfinite(value):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a resumed run tells again what it has told
            known.report(value, count)
        return STOP if known.should_prune() else None

    pruned.__qualname__ = "pruned"
    return pruned
