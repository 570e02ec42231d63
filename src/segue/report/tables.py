"""The tables of a report: per seed, run against run, hand-over diagnostics, phases, settings, provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segue.report.figures import colour, name_of
from segue.report.markup import Markup, count, element, number, percent
from segue.report.run import Run
from segue.report.statistics import (
    Generator,
    Interval,
    interval,
    probability_of_improvement,
    stratified_bootstrap,
)
from segue.report.summary import Summary, mean_of, repeats, show, show_difference, show_length

Source = Callable[[], Generator]  # a new generator for every interval, so that equal data show equal intervals

DIAGNOSTICS = (
    ("q_data", "Q on the data", "mean Q of the dataset's own actions", number),
    (
        "mc_return_data",
        "Return on the data",
        "what its own makers earned, as Cal-QL is told it; judges no critic",
        number,
    ),
    ("q_policy_data", "Q of the policy's actions", "in the dataset's states; far above Q on the data: wishful", number),
    ("q_fresh", "Q on fresh episodes", "what the critic promises where the policy really goes, up to the cut", number),
    ("return_fresh", "Return on fresh episodes", "what came there, up to the same cut and scaled alike", number),
    ("fresh_share", "Seen share", "of the value, before a time limit cuts fresh episodes", percent),
    ("bound_rate", "Bound rate", "share of policy values below the return of the data, which Cal-QL holds up", percent),
    ("action_distance", "Action distance", "of the policy's actions from the dataset's, same states", number),
)


def table(caption: str, head: Sequence[object], rows: Sequence[Markup]) -> Markup:
    """Return a table that scrolls sideways on its own; the first column is text, the others numbers."""
    cells = [element("th", cell, scope="col", class_="n" if place else None) for place, cell in enumerate(head)]
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", cells)),
            element("tbody", list(rows)),
        ),
        class_="scroll",
    )


def row(name: object, cells: Sequence[object], style: str | None = None) -> Markup:
    """Return one row: a heading and numbers."""
    return element(
        "tr", element("th", name, scope="row"), [element("td", cell, class_="n") for cell in cells], class_=style
    )


def with_range(point: str, low: str, high: str) -> Markup:
    """Return an estimate with its interval in small print."""
    return element("span", point, element("small", f"[{low}, {high}]"))


def estimate(quantity: str, measured: Interval) -> object:
    """An interval in the notation of its quantity."""
    if np.isnan(measured.point):
        return number(None)
    if np.isnan(measured.low):
        return show(quantity, measured.point)
    _, low, high = (show(quantity, value).removesuffix(" %") for value in measured)
    return with_range(show(quantity, measured.point), low, high)


def per_seed(summary: Summary, generator: Source) -> Markup:
    """The final table of one run: every seed, then interquartile mean and interval of each column."""
    quantity, run = summary.quantity, summary.run
    columns: list[tuple[str, Any, str]] = [
        (f"{name_of(quantity).lower()} at the switch", summary.at_switch, quantity),
        ("lowest after", summary.lowest, quantity),
        ("at the end", summary.final, quantity),
    ]
    for name, values in (("score", summary.final_score), ("return", summary.final_return)):
        if name != quantity and not repeats(run, name, quantity):
            columns.append((f"{name}, end", values, name))
    columns += [
        ("evaluation regret", summary.regret, "regret"),
        ("training failure rate", summary.failure_rate, "rate"),
    ]
    columns = [column for column in columns if np.isfinite(column[1]).any()]
    rows = []
    for index, seed in enumerate(run.seeds):
        measured = summary.dips[index] if summary.dips else None
        cells: list[object] = [show(kind, values[index]) for _, values, kind in columns]
        cells += [show_difference(quantity, measured.depth), show_length(measured)] if measured else ["–", "–"]
        rows.append(row(f"seed {seed}", cells))
    if len(run.seeds) < 2:
        return table("One seed: no interval can be given.", _head(columns), rows)
    totals: list[object] = [estimate(kind, interval(values, generator())) for _, values, kind in columns]
    if summary.dip:
        totals += [show_difference(quantity, summary.dip.depth), show_length(summary.dip)]
    else:
        totals += ["–", "–"]
    rows.append(row(element("span", "IQM", element("small", "95 % interval")), totals, "total"))
    return table(
        "One row per seed. The dip in the last row is that of the interquartile mean curve.", _head(columns), rows
    )


def retrained(summary: Summary, generator: Source) -> Markup:
    """Policies that were trained anew beside the one that explored: last evaluation, and mean of the last five."""
    run, quantity = summary.run, summary.quantity
    rows = [
        row(
            element("span", "the policy that explored"),
            ["–", estimate(quantity, interval(summary.final, generator())), "–"],
        )
    ]
    for index, curve in run.retrained.items():
        values = curve.values.get(quantity, np.full((len(run.seeds), len(curve.x)), np.nan))
        last, late = values[:, -1], values[:, -5:].mean(axis=1)
        cells = [count(int(curve.x[-1])), *(estimate(quantity, interval(v, generator())) for v in (last, late))]
        rows.append(row(run.phases[index].name, cells))
    head = ["", "updates", f"{name_of(quantity).lower()}, last evaluation", "mean of the last five"]
    return table("Interquartile means over seeds [95 % bootstrap interval].", head, rows)


def comparison(summaries: Sequence[Summary], labels: Sequence[str], generator: Source) -> Markup:
    """Runs of one task against each other; the first run is the baseline of P(improvement)."""
    quantity, first = summaries[0].quantity, summaries[0]
    scored = quantity != "score" and not all(repeats(summary.run, "score", quantity) for summary in summaries)
    rows = []
    for summary, label in zip(summaries, labels):
        better = probability_of_improvement([summary.final], [first.final], generator())
        cells = [
            len(summary.run.seeds),
            estimate(quantity, interval(summary.at_switch, generator())),
            estimate(quantity, interval(summary.final, generator())),
            *([estimate("score", interval(summary.final_score, generator()))] if scored else []),
            show_difference(quantity, summary.dip.depth) if summary.dip else number(None),
            show_length(summary.dip) if summary.dip else number(None),
            estimate("regret", interval(summary.regret, generator())),
            estimate("rate", interval(summary.failure_rate, generator())),
            "baseline" if summary is first else estimate("probability", better),
        ]
        rows.append(row(label, cells))
    head = [
        "",
        "seeds",
        f"{name_of(quantity).lower()} at the switch",
        "at the end",
        *(["score, end"] if scored else []),
    ]
    head += ["dip depth", "dip length", "evaluation regret", "training failure rate", "P(improvement)"]
    caption = f"Interquartile means over seeds [95 % bootstrap interval]. P(improvement): over {labels[0]}, at the end."
    return table(caption, head, rows)


def all_tasks(groups: Sequence[Sequence[Summary]], generator: Source) -> Markup:
    """Recipes over several tasks: final scores pooled, seeds redrawn within each task."""
    recipes = list(dict.fromkeys(summary.run.recipe for group in groups for summary in group))

    def scores(recipe: str) -> list[np.ndarray]:
        chosen = [[summary.final_score for summary in group if summary.run.recipe == recipe] for group in groups]
        return [np.concatenate(parts) if parts else np.zeros(0) for parts in chosen]

    rows = []
    for recipe in recipes:
        ours = scores(recipe)
        better = probability_of_improvement(ours, scores(recipes[0]), generator())
        cells = [
            sum(len(part) > 0 for part in ours),
            sum(len(part) for part in ours),
            estimate("score", stratified_bootstrap(ours, generator())),
            "baseline" if recipe == recipes[0] else estimate("probability", better),
        ]
        rows.append(row(recipe, cells))
    caption = f"Final normalised scores of all tasks together. P(improvement): over {recipes[0]}, on shared tasks."
    return table(caption, ["", "tasks", "runs", "score [95 % interval]", "P(improvement)"], rows)


def handover(summaries: Sequence[Summary], labels: Sequence[str]) -> Markup:
    """Diagnostics at the switch and at the end of each run, with what they mean."""
    several = len(summaries) > 1
    rows = []
    for name, words, meaning, show_value in DIAGNOSTICS:
        ends = [(mean_of(summary.before, name), mean_of(summary.after, name)) for summary in summaries]
        if np.isfinite(ends).any():
            pairs = [(show_value(before), show_value(after)) for before, after in ends]
            cells = [f"{before} → {after}" for before, after in pairs] if several else pairs[0]
            rows.append(row(element("span", words, element("small", meaning)), cells, "named"))
    if not rows:
        return element("p", "This run recorded no diagnostics at the ends of its phases.", class_="soft")
    if several:
        return table("Interquartile means over seeds: at the switch → at the end.", ["", *labels], rows)
    return table("Interquartile means over seeds.", ["", "at the switch", "at the end"], rows)


def phases(run: Run) -> Markup:
    """The plan of a run, with the time that each phase took."""
    rows = []
    for index, phase in enumerate(run.phases):
        wall = run.wall_s.get(index)
        cells = [
            phase.learner,
            phase.slot,
            count(phase.ticks * phase.collect)
            + (f" + {count(phase.validation)} to choose among checkpoints" if phase.validation else ""),
            count(phase.ticks * phase.updates),
            "not begun" if wall is None else f"{wall / 60:,.1f} min",
        ]
        rows.append(row(element("span", phase.name, " ", _switch_mark(run, index)), cells))
    head = ["", "learner", "slot", "environment steps", "updates", "time"]
    return table("Phases, with steps and updates per seed as planned.", head, rows)


def config(run: Run) -> Markup:
    """Every setting with its source; those that are not defaults stand out."""
    rows = [
        element(
            "tr",
            element("th", element("code", key), scope="row"),
            element("td", written(setting.value), class_="value code"),
            element("td", setting.source),
            class_=None if setting.source == "default" else "set",
        )
        for key, setting in sorted(run.config.items())
    ]
    head = [element("th", name, scope="col") for name in ("setting", "value", "source")]
    return element(
        "div",
        element("table", element("thead", element("tr", head)), element("tbody", rows)),
        class_="scroll",
    )


def provenance(run: Run) -> Markup:
    """Everything that the run wrote down about its surroundings, nested entries flattened."""
    facts = {"command": " ".join(run.command), **flattened(run.provenance)}
    rows = [
        element("tr", element("th", key, scope="row"), element("td", written(value), class_="value code"))
        for key, value in facts.items()
    ]
    return element("div", element("table", element("tbody", rows)), class_="scroll")


def flattened(facts: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(facts, dict) or not facts:
        return {prefix: facts}
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def written(value: Any) -> str:
    """A value as a person would type it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _head(columns: Sequence[tuple[str, Any, str]]) -> list[str]:
    return ["", *(name for name, _, _ in columns), "dip depth", "dip length"]


def _switch_mark(run: Run, index: int) -> Markup:
    return element("small", "the switch" if index == run.switch and index > 0 else "", class_=colour(0))
