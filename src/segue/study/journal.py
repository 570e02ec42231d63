"""Optuna's side of a search: its journal in the study's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segue.data.extras import need
from segue.study.asked import Search
from segue.study.folder import place
from segue.study.lease import run_of
from segue.study.status import SHOWN
from segue.study.trials import Trial, trials

NAME = "segue"  # of the search in its journal
STARTUP, WARM_UP = 4, 1  # trials that are over before any is ended, and evaluations before (default of ours)


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
    kind = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARM_UP)
    about = {"study_name": NAME, "direction": "maximize", "load_if_exists": True}
    return optuna.create_study(storage=storage, sampler=sampler, pruner=kind, **about)


def known_trial(folder: Path, search: Search, number: int) -> Any:
    """A trial as Optuna has it, to tell it what its run has reached."""
    optuna: Any = need("optuna", "search", "a search")
    known = journal(folder, search)
    (found,) = [trial for trial in known.get_trials(deepcopy=False) if trial.number == number]
    return optuna.trial.Trial(known, found._trial_id)


def shown_name(folder: Path, done: Sequence[Trial]) -> str:
    """The quantity that the runs of trials are shown by."""
    for trial in done:
        for cell in trial.cells:
            run = run_of(place(folder, cell.name))
            log = "" if run is None else (run / "metrics.jsonl").read_text("utf-8")
            for line in log.splitlines():
                if (row := json.loads(line))["kind"] == "evaluation":
                    return next(name for name in SHOWN if name in row["values"])
    return SHOWN[-1]


def shown_of(row: Mapping[str, Any]) -> Sequence[float | None]:
    """Values of an evaluation per seed, of the quantity that a study shows."""
    name = next(name for name in SHOWN if name in row["values"])
    return row["values"][name]
