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
from segue.study.lease import lease_of, run_of
from segue.study.plan import Planner, expand, shared
from segue.study.status import SHOWN
from segue.study.trials import Trial, trials, write

NAME = "segue"  # of the search in its journal


def journal(folder: Path, search: Search) -> Any:
    """The search as Optuna has it."""
    optuna: Any = need("optuna", "search", "a search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "search.log"))
    storage = optuna.storages.JournalStorage(backend)
    kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    # A seed of its own for each trial: equal ones would have every worker begin with the same choices.
    seed = search.seed + len(trials(folder))
    more = {"constant_liar": True} if search.sampler == "tpe" else {}
    sampler = kinds[search.sampler](seed=seed, **more)
    return optuna.create_study(
        study_name=NAME, storage=storage, sampler=sampler, direction="maximize", load_if_exists=True
    )


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
    settings = {path: trial.params[path] for path in search.space}
    write(folder, Trial(number, trial.number, settings, cells(study, settings, done)))


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
        value = value_of(folder, search, trial)
        try:
            if value is None:
                known.tell(trial.asked, state=optuna.trial.TrialState.FAIL)
            else:
                known.tell(trial.asked, value)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another worker was faster
            continue


def value_of(folder: Path, search: Search, trial: Trial) -> float | None:
    """A trial's value; None where one of its cells has none."""
    found = [_value(folder, search, cell) for cell in trial.cells]
    numbers = [value for value in found if value is not None and np.isfinite(value)]
    return float(np.mean(numbers)) if numbers and len(numbers) == len(found) else None


def _value(folder: Path, search: Search, cell: Cell) -> float | None:
    run = run_of(place(folder, cell.name))
    if run is None or lease_of(place(folder, cell.name)).state != "done":
        return None
    phases = json.loads((run / "run.json").read_text("utf-8"))["phases"]
    switch = next((n for n, phase in enumerate(phases) if phase["environment_steps"]), 0)
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "evaluation"]
    if search.goal == "online":
        rows = [row for row in rows if row["phase_index"] >= switch]
    if not rows:
        return None
    name = next(name for name in SHOWN if name in rows[-1]["values"])
    means = [np.mean([np.nan if x is None else x for x in row["values"][name]]) for row in rows]
    return float(means[-1] if search.goal == "final" else np.mean(means))


def best(folder: Path, asked: Asked) -> tuple[Trial, float] | None:
    """The best trial so far and its value."""
    if asked.search is None:
        return None
    found = [(value_of(folder, asked.search, trial), trial) for trial in trials(folder)]
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
    for end in (0, -1):
        ends = {path: (room.get("choices") or (room["low"], room["high"]))[end] for path, room in search.space.items()}
        found = cells(study, ends, ())
    return found
