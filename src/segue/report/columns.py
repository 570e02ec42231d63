"""Results as columns: one row for each number of each seed, for pandas, polars, or a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from segue.report.pooling import Group, pooled
from segue.report.read import NotEvaluated, read_run
from segue.report.run import Run
from segue.report.statistics import Floats
from segue.report.study import Study
from segue.report.summary import quantity_of, summarise

Column = list[str] | np.ndarray
COLUMNS = (
    *("recipe", "label", "task", "seed", "phase", "environment_step", "since_switch"),
    *("quantity", "value", "folder"),
)
WORDS = ("recipe", "label", "task", "phase", "quantity", "folder")


def tidy(folders: Iterable[Path | str]) -> dict[str, Column]:
    """Every evaluation of every seed as columns of one length, which `pandas.DataFrame` and `polars.DataFrame` take.

    `label` is the name of the configuration (see `labels.labels_of`), `since_switch` is in environment steps after the
    switch and in updates, below 0, before it, and `quantity` is return, length, success or score.  Texts are lists,
    numbers are arrays.  Seeds that two folders of one configuration have count once; what was not measured has no row,
    nor has a folder without an evaluation.  Raises SegueError where a folder is no run.
    """
    runs = []
    for folder in {Path(folder).resolve(): Path(folder) for folder in folders}.values():
        try:
            runs.append(read_run(folder))
        except NotEvaluated:
            continue
    return curves(pooled(runs))


def curves(groups: Sequence[Group]) -> dict[str, Column]:
    """The columns of `tidy`, for runs that have been read."""
    tables = [_rows(group.label, run) for group in groups for run in group.members]
    words = {name: [text for table in tables for text in table[name]] for name in WORDS}
    return {name: words[name] if name in words else _numbers(name, tables) for name in COLUMNS}


def _numbers(name: str, tables: Sequence[Mapping[str, Column]]) -> np.ndarray:
    empty = np.zeros(0, np.float64 if name in ("since_switch", "value") else np.int64)
    return np.concatenate([empty, *(np.asarray(table[name]) for table in tables)])


def _rows(label: str, run: Run) -> dict[str, Column]:
    """The columns of one folder."""
    curve = run.evaluation
    names = list(curve.values)
    values = np.array([curve.values[name] for name in names]).reshape(len(names), len(run.seeds), len(curve.x))
    which, seed, moment = np.nonzero(~np.isnan(values))
    phases = [run.phases[i].name if i < len(run.phases) else str(i) for i in curve.phase]
    rows = len(which)
    return {
        "recipe": [run.recipe] * rows,
        "label": [label] * rows,
        "task": [run.task] * rows,
        "seed": np.array(run.seeds, np.int64)[seed],
        "phase": [phases[i] for i in moment],
        "environment_step": curve.environment_step[moment],
        "since_switch": curve.x[moment],
        "quantity": [names[i] for i in which],
        "value": values[which, seed, moment],
        "folder": [str(run.folder)] * rows,
    }


def outcomes(study: Study) -> dict[str, Column]:
    """What each seed of a study's finished runs came to: one row for each group, task, seed and quantity."""
    found: list[tuple[str, str, str, int, str, float, str]] = []
    for group in (group for one in study.tasks for group in one.groups):
        for name, values in _outcomes(group).items():
            folders = [str(run.folder) for run in group.members for _ in run.seeds]
            run = group.run
            found += [
                (run.recipe, group.label, run.task, seed, name, float(value), folder)
                for seed, value, folder in zip(run.seeds, values, folders)
                if np.isfinite(value)
            ]
    names = ("recipe", "label", "task", "seed", "quantity", "value", "folder")
    columns = [list(column) for column in zip(*found)] or [[] for _ in names]
    numbers = {"seed": np.int64, "value": np.float64}
    return {n: np.array(c, numbers[n]) if n in numbers else list(map(str, c)) for n, c in zip(names, columns)}


def _outcomes(group: Group) -> dict[str, Floats]:
    """Numbers per seed (S,); those around the switch are of success, else of score, else of return."""
    judged = summarise(group.run, quantity_of([group.run]))
    of = judged.quantity
    return {
        f"{of}_at_switch": judged.at_switch,
        f"{of}_lowest_after": judged.lowest,
        f"{of}_fall": judged.lowest - judged.at_switch,
        f"{of}_end": judged.final,
        "score_end": judged.final_score,
        "return_end": judged.final_return,
        "regret": judged.regret,
        "training_failure_rate": judged.failure_rate,
    }


def as_csv(columns: Mapping[str, Column]) -> str:
    """Columns as comma-separated values with a line of names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column if isinstance(column, list) else column.tolist() for column in columns.values())))
    return text.getvalue()
