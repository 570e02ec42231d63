"""Search over options with Optuna (the extra search): which settings to try next, and how those before went.

Optuna's journal in the study's folder is all that workers share; no server is needed.  A trial's value is that of its
cells: an evaluation averaged over seeds, then over cells; its own scale is the task's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.types import SegueError
from segue.data.extras import need
from segue.study.asked import Asked, Search
from segue.study.cells import Cell
from segue.study.folder import Study, place, read
from segue.study.journal import journal, shown_of
from segue.study.lease import lease_of, run_of
from segue.study.plan import Planner, expand, shared
from segue.study.trials import Trial, trials, write

DIGITS = 4  # of chosen fractions (default of ours)


def choose(folder: Path, number: int) -> None:
    """Take a turn: tell the search how trials went, and choose the next one, if there is to be one.

    Raises `SegueError` where a trial cannot be planned.
    """
    study = read(folder)
    search = study.asked.search
    assert search is not None
    known, done = journal(folder, search), trials(folder)
    tell(folder, search, known, done)
    if number >= search.trials or any(trial.number == number for trial in done):
        return
    trial = known.ask(_distributions(search))
    settings = {path: _short(trial.params[path]) for path in search.space}
    write(folder, Trial(number, trial.number, settings, cells(study, settings, done)))


def _short(value: Any) -> Any:
    """A fraction with as many digits as one would write by hand; more would tell nothing."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def cells(study: Study, settings: Mapping[str, Any], done: Sequence[Trial]) -> tuple[Cell, ...]:
    """The cells that try settings; they share what cells before them do."""
    runs = [replace(part, settings={**part.settings, **settings}) for part in study.asked.runs]
    before = tuple({cell.name: cell for trial in done for cell in trial.cells}.values())
    new = list(expand(runs, study.blocks, "search"))
    names = {cell.name for cell in new}
    return tuple(cell for cell in shared(new, Planner(), before) if cell.name in names)


def tell(folder: Path, search: Search, known: Any, done: Sequence[Trial]) -> None:
    """Tell Optuna how the trials went whose cells are all over."""
    optuna: Any = need("optuna", "search", "a search")
    waiting = {trial.number for trial in known.trials if trial.state == optuna.trial.TrialState.RUNNING}
    for trial in done:
        states = {lease_of(place(folder, cell.name)).state for cell in trial.cells}
        if trial.asked not in waiting or not states <= {"done", "failed"}:
            continue
        value, state = value_of(folder, search, trial), optuna.trial.TrialState
        try:
            if value is None:
                known.tell(trial.asked, state=state.FAIL)
            elif search.prune and was_pruned(folder, trial):
                known.tell(trial.asked, state=state.PRUNED)
            else:
                known.tell(trial.asked, value)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another worker was faster
            continue


def value_of(folder: Path, search: Search, trial: Trial) -> float | None:
    """A trial's value, the mean over seeds and then over cells; None where a cell has none."""
    found = [per_seed(folder, search, cell) for cell in trial.cells]
    means = [float(np.mean(values)) for values in found if values is not None]
    return float(np.mean(means)) if means and len(means) == len(found) and np.isfinite(means).all() else None


def per_seed(folder: Path, search: Search, cell: Cell) -> np.ndarray | None:
    """What each seed of a cell has reached, (S,); None where its run is not over or has no evaluation."""
    run = run_of(place(folder, cell.name))
    if run is None or lease_of(place(folder, cell.name)).state != "done":
        return None
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "evaluation"]
    if search.goal == "online":
        rows = [row for row in rows if row["environment_step"]] or rows[-1:]
    values = np.array([[np.nan if x is None else x for x in shown_of(row)] for row in rows])
    if not len(values):
        return None
    return values[-1] if search.goal == "final" else values.mean(axis=0)


def was_pruned(folder: Path, trial: Trial) -> bool:
    """Whether a run of a trial was ended because the trial was behind."""
    runs = [run_of(place(folder, cell.name)) for cell in trial.cells]
    return any(run is not None and json.loads((run / "run.json").read_text())["status"] == "stopped" for run in runs)


def best(folder: Path, asked: Asked) -> tuple[Trial, float] | None:
    """The best trial so far and its value."""
    if asked.search is None:
        return None
    whole = [trial for trial in trials(folder) if not (asked.search.prune and was_pruned(folder, trial))]
    found = [(value_of(folder, asked.search, trial), trial) for trial in whole]
    values = [(value, trial) for value, trial in found if value is not None]
    if not values:
        return None
    value, trial = max(values, key=lambda pair: pair[0])
    return trial, value


def winner(folder: Path, study: Study, seeds: int) -> Asked:
    """What to ask for to run the best settings again with so many seeds that no trial has seen."""
    found = best(folder, study.asked)
    if found is None:
        raise SegueError(f"{folder}: has no trial with a value; give the folder of a study with a search that has run")
    settings, first = found[0].settings, max(study.asked.seeds) + 1
    runs = tuple(replace(part, settings={**part.settings, **settings}) for part in study.asked.runs)
    return replace(study.asked, runs=runs, seeds=tuple(range(first, first + seeds)), search=None)


def importance(folder: Path, asked: Asked) -> dict[str, float]:
    """How much of the differences between trials each option explains (PED-ANOVA, arXiv 2304.10255); empty before
    there are enough trials."""
    assert asked.search is not None
    optuna: Any = need("optuna", "search", "a search")
    known = journal(folder, asked.search)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        return dict(optuna.importance.get_param_importances(known, evaluator=evaluator))
    except (ValueError, RuntimeError):  # fewer than two, or all the same
        return {}


def _distributions(search: Search) -> dict[str, Any]:
    optuna: Any = need("optuna", "search", "a search")
    made: dict[str, Any] = {}
    for path, room in search.space.items():
        if "choices" in room:
            made[path] = optuna.distributions.CategoricalDistribution(room["choices"])
        else:
            whole = all(isinstance(room[end], int) for end in ("low", "high"))
            kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
            made[path] = kind(**room)
    return made


def check(study: Study) -> tuple[Cell, ...]:
    """Plan both ends of every option's range; return the cells of one.  Raises `SegueError` where one cannot be."""
    search = study.asked.search
    assert search is not None
    need("optuna", "search", "a search")
    found: tuple[Cell, ...] = ()
    if search.prune and any(part.stop_when for part in study.asked.runs):
        raise SegueError("[search]: prune and stop_when end runs for two reasons; leave out one of them")
    for end in (0, -1):
        ends = {path: (room.get("choices") or (room["low"], room["high"]))[end] for path, room in search.space.items()}
        found = cells(study, ends, ())
    if search.prune and len(found) > 1:
        raise SegueError(
            f"[search]: prune compares runs, and a trial has {len(found)} of them; give one task, and seeds_per_cell "
            "as large as seeds"
        )
    return found
