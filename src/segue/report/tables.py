"""The tables of a report as plain values: per seed, run against run, hand-over diagnostics, phases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from segue.report.figures import name_of
from segue.report.notation import MISSING, count, number, percent
from segue.report.run import Run, stand_in_words
from segue.report.statistics import (
    Dip,
    Floats,
    Interval,
    interquartile_mean,
    interval,
    probability_of_improvement,
    resampling,
)
from segue.report.summary import Summary, mean_of, repeats, show, show_difference, show_length

DIAGNOSTICS = (
    ("q_data", "Q on the data", "mean Q of the dataset's own actions"),
    (
        "mc_return_data",
        "Return on the data",
        "mean Monte-Carlo return of logged rows, as Cal-QL uses it; does not test Q",
    ),
    ("q_policy_data", "Q of the policy's actions", "in the same states; likely too high if far above Q on the data"),
    ("q_fresh", "Q on fresh episodes", "mean Q along the policy's own episodes, up to the cut"),
    ("return_fresh", "Return on fresh episodes", "mean return of these episodes, to the same cut, on the same scale"),
    ("fresh_share", "Share before the cut", "share of the value that comes before a time limit cuts fresh episodes"),
    (
        "bound_rate",
        "Bound rate",
        "share of logged rows with the policy's Q below their return: Cal-QL's bound is active",
    ),
    (
        "action_distance",
        "Action distance",
        "mean distance between the policy's actions and the dataset's; of a flow, in distribution",
    ),
)
FRACTIONS = ("fresh_share", "bound_rate")


class Cell(NamedTuple):
    """A text, and more in small print."""

    text: str
    small: str = ""


class Row(NamedTuple):
    """A heading and numbers; `style` is a class of the style sheet."""

    name: Cell
    cells: Sequence[Cell]
    style: str = ""


class Table(NamedTuple):
    """The first column is text, the others are numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Row]


def texts(values: Iterable[object]) -> list[Cell]:
    """Cells without small print."""
    return [Cell(str(value)) for value in values]


def measured(quantity: str, values: Floats) -> Cell:
    """Interquartile mean over seeds (S,) with its interval in small print."""
    return estimate(quantity, interval(values, resampling()))


def estimate(quantity: str, found: Interval) -> Cell:
    """An interval in the notation of its quantity."""
    if np.isnan(found.point):
        return Cell(MISSING)
    point, low, high = (show(quantity, value) for value in found)
    return Cell(point, "" if np.isnan(found.low) else f"[{low.removesuffix(' %')}, {high.removesuffix(' %')}]")


def evaluations(summary: Summary) -> Table:
    """The learning curve as a table: every evaluation, every seed."""
    curve, quantity, seeds = summary.run.evaluation, summary.quantity, summary.run.seeds
    rows = []
    for column, values in enumerate(curve.values.get(quantity, np.zeros((len(seeds), 0))).T):
        step, update = count(curve.environment_step[column]), count(curve.update[column])
        name = f"step {step}" if curve.online[column] else f"update {update} (offline)"
        rows.append(Row(Cell(name), texts(show(quantity, v) for v in [float(interquartile_mean(values)), *values])))
    judged = f": mean of {stand_in_words(summary.run)}" if summary.run.stand_in else " of every evaluation"
    return Table(f"{name_of(quantity)}{judged}.", ["", "IQM", *(f"seed {seed}" for seed in seeds)], rows)


def per_seed(summary: Summary) -> Table:
    """The final table of one run: every seed, then interquartile mean and interval of each column."""
    quantity, run = summary.quantity, summary.run
    columns = [
        (f"{name_of(quantity).lower()} at the switch", summary.at_switch, quantity),
        ("lowest after", summary.lowest, quantity),
        ("at the end", summary.final, quantity),
        *(
            (f"{name}, end", values, name)
            for name, values in (("score", summary.final_score), ("return", summary.final_return))
            if name != quantity and not repeats(run, name, quantity)
        ),
        ("evaluation regret", summary.regret, "regret"),
        ("training failure rate", summary.failure_rate, "rate"),
    ]
    columns = [column for column in columns if np.isfinite(column[1]).any()]
    head = ["", *(name for name, _, _ in columns), "dip depth", "dip length"]
    rows = []
    for index, seed in enumerate(run.seeds):
        cells = texts(show(kind, values[index]) for _, values, kind in columns)
        rows.append(Row(Cell(f"seed {seed}"), cells + _dip(quantity, summary.dips[index] if summary.dips else None)))
    if len(run.seeds) < 2:
        return Table("One seed: no interval can be given.", head, rows)
    totals = [measured(kind, values) for _, values, kind in columns] + _dip(quantity, summary.dip)
    rows.append(Row(Cell("IQM", "95 % interval"), totals, "total"))
    return Table("One row per seed. The last row shows the dip of the interquartile mean curve.", head, rows)


def retrained(summary: Summary) -> Table:
    """Policies that were trained from scratch beside the exploring one: last evaluation, and mean of the last five."""
    run, quantity = summary.run, summary.quantity
    explored = [Cell(MISSING), measured(quantity, summary.final), Cell(MISSING)]
    rows = [Row(Cell("the exploring policy"), explored)]
    for index, curve in run.retrained.items():
        values = curve.values.get(quantity, np.full((len(run.seeds), len(curve.x)), np.nan))
        last, late = measured(quantity, values[:, -1]), measured(quantity, values[:, -5:].mean(axis=1))
        rows.append(Row(Cell(run.phases[index].name), [Cell(count(int(curve.x[-1]))), last, late]))
    head = ["", "updates", f"{name_of(quantity).lower()}, last evaluation", "mean of the last five"]
    return Table("Interquartile means over seeds [95 % bootstrap interval].", head, rows)


def comparison(summaries: Sequence[Summary], labels: Sequence[str]) -> Table:
    """Runs of one task; the first one is the baseline of P(improvement)."""
    quantity, first = summaries[0].quantity, summaries[0]
    repeated = quantity == "score" or all(repeats(summary.run, "score", quantity) for summary in summaries)
    scored = not repeated and any(np.isfinite(summary.final_score).any() for summary in summaries)
    several = len(summaries) > 1
    rows = []
    for summary, label in zip(summaries, labels):
        better = probability_of_improvement([summary.final], [first.final], resampling())
        cells = [
            Cell(str(len(summary.run.seeds))),
            measured(quantity, summary.at_switch),
            measured(quantity, summary.final),
            *([measured("score", summary.final_score)] if scored else []),
            *_dip(quantity, summary.dip),
            measured("regret", summary.regret),
            measured("rate", summary.failure_rate),
            *([Cell("baseline") if summary is first else estimate("probability", better)] if several else []),
        ]
        rows.append(Row(Cell(label, stand_in_words(summary.run) if summary.run.stand_in else ""), cells))
    head = [
        "",
        "seeds",
        f"{name_of(quantity).lower()} at the switch",
        "at the end",
        *(["score, end"] if scored else []),
    ]
    head += ["dip depth", "dip length", "evaluation regret", "training failure rate"]
    caption = "Interquartile means over seeds [95 % bootstrap interval]."
    if several:
        head, caption = [*head, "P(improvement)"], f"{caption} P(improvement): over {labels[0]}, at the end."
    return Table(caption, head, rows)


def handover(summaries: Sequence[Summary], labels: Sequence[str]) -> Table:
    """Diagnostics at the switch and at the end of each run, with what they mean; no rows where none was recorded."""
    several = len(summaries) > 1
    rows = []
    for name, words, meaning in DIAGNOSTICS:
        written = percent if name in FRACTIONS else number
        ends = [(mean_of(summary.before, name), mean_of(summary.after, name)) for summary in summaries]
        if np.isfinite(ends).any():
            pairs = [(written(before), written(after)) for before, after in ends]
            cells = [f"{before} → {after}" for before, after in pairs] if several else pairs[0]
            rows.append(Row(Cell(words, meaning), texts(cells), "named"))
    if several:
        return Table("Interquartile means over seeds: at the switch → at the end.", ["", *labels], rows)
    return Table("Interquartile means over seeds.", ["", "at the switch", "at the end"], rows)


def phases(run: Run) -> Table:
    """The plan of a run, with the time that each phase took."""
    rows = []
    for index, phase in enumerate(run.phases):
        wall = run.wall_s.get(index)
        chosen = f" + {count(phase.validation)} to choose among checkpoints" if phase.validation else ""
        steps, updates = count(phase.environment_steps or 0) + chosen, count(phase.updates)
        time = "not begun" if wall is None else f"{wall / 60:,.1f} min"
        marks = ["the switch"] if index == run.switch and index > 0 else []
        mark = ", ".join([*marks, f"of {phase.origin}"] if phase.origin else marks)
        rows.append(Row(Cell(phase.name, mark), texts([phase.learner, phase.slot, steps, updates, time])))
    head = ["", "learner", "slot", "environment steps", "updates", "time"]
    return Table("Phases, with steps and updates per seed as planned.", head, rows)


def _dip(quantity: str, found: Dip | None) -> list[Cell]:
    """Depth and length of a dip."""
    return texts([MISSING] * 2 if found is None else [show_difference(quantity, found.depth), show_length(found)])
