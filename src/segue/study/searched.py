"""What the report says of a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.core.files import word
from segue.report.study import Searched
from segue.report.tables import Cell, Row, Table, measured
from segue.study.folder import Study
from segue.study.journal import shown_name
from segue.study.search import importance, per_seed, value_of, was_pruned
from segue.study.trials import trials

SHOWN = 10  # trials


def searched_of(folder: Path, study: Study) -> Searched:
    """The best trials of a study's search, and which options matter."""
    search = study.asked.search
    assert search is not None
    done = trials(folder)
    found = []
    for trial in done:
        value = value_of(folder, search, trial)
        seeds = [values for cell in trial.cells if (values := per_seed(folder, search, cell)) is not None]
        if value is not None and not (search.prune and was_pruned(folder, trial)):
            found.append((value, trial, np.concatenate(seeds)))
    found.sort(key=lambda one: -one[0])
    quantity = shown_name(folder, done)
    rows = [
        Row(
            Cell(" ".join(f"{path}={_short(x)}" for path, x in trial.settings.items()), f"trial {trial.number}"),
            [Cell(f"{value:.4g}"), measured(quantity, values), Cell(str(len(values)))],
        )
        for value, trial, values in found[:SHOWN]
    ]
    best = Table("The best trials, with 95 % intervals over runs.", ["", "value", f"{quantity}, IQM", "runs"], rows)
    shares = sorted(importance(folder, study.asked).items(), key=lambda pair: -pair[1])
    matters = [Row(Cell(path), [Cell(f"{100 * share:.0f} %")]) for path, share in shares]
    caption = "Share of the differences between good and other trials that an option explains (PED-ANOVA)."
    return Searched(len(done), best, Table(caption, ["", "importance"], matters), f"segue study rerun {word(folder)}")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
