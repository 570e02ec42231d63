"""The sections of a report on runs of one task: curves, hand-over, results, training; and of one run: its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from segue.report import tables
from segue.report.figures import calibration, learning_curve, legend, middle_curve, name_of, small_curve
from segue.report.markup import Markup, count, element, join
from segue.report.run import Run, is_bonus
from segue.report.statistics import interquartile_mean
from segue.report.summary import Summary, repeats, show, show_difference, show_length
from segue.report.timeline import Series, episode_series, series

RESAMPLING_SEED = 0  # the same folders give the same report, to the letter
FEW_SEEDS = 5


class Member(NamedTuple):
    """A run in the report: the index of its colour, its name there, and what is known of it."""

    colour: int
    label: str
    summary: Summary

    @property
    def run(self) -> Run:
        """The run itself."""
        return self.summary.run


def curves(group: Sequence[Member], suffix: str) -> Markup:
    """Evaluations over the whole run: the main quantity large, the others at half width."""
    main = group[0].summary.quantity
    parts: list[object] = [_explanation(group), _legend(group)]
    if evaluated := _drawn(group, main):
        large = learning_curve(evaluated, main)
        parts.append(element("figure", element("figcaption", name_of(main)), large, class_="big"))
    others = [
        name
        for name in ("success", "score", "return")
        if name != main and not all(repeats(member.run, name, main) for member in group)
    ]
    drawn = {name: _drawn(group, name) for name in others}
    halves = [middle_curve(lines, name, name_of(name)) for name, lines in drawn.items() if lines]
    for name in ("success", "return"):
        lines = [episode_series(member.run, name, member.label, member.colour, generator()) for member in group]
        known = [line for line in lines if line is not None]
        if known:
            halves.append(middle_curve(known, name, f"{name_of(name)} of training episodes, with exploration"))
            break
    parts.append(element("div", halves, class_="halves"))
    numbers = [
        [element("h3", member.label) if len(group) > 1 else "", _curve_numbers(member.summary)] for member in group
    ]
    parts.append(element("details", element("summary", "The numbers of this curve"), numbers, class_="long"))
    return section(f"Learning curve{suffix}", parts)


def _explanation(group: Sequence[Member]) -> Markup:
    seeds = "Thick: interquartile mean over seeds; thin: each seed; shaded: 95 % bootstrap band. "
    split = "Left of the switch time counts gradient updates, right of it environment steps per seed: two scales."
    many = any(len(member.run.seeds) > 1 for member in group)
    sides = {bool(side) for member in group for side in member.run.evaluation.online}
    return element("p", (seeds if many else "One seed. ") + (split if len(sides) == 2 else ""), class_="note-text")


def _curve_numbers(summary: Summary) -> Markup:
    """The learning curve as a table: every evaluation, every seed."""
    curve, quantity = summary.run.evaluation, summary.quantity
    values = curve.values.get(quantity, np.zeros((len(summary.run.seeds), 0)))
    rows = [
        tables.row(
            f"step {count(curve.environment_step[column])}"
            if curve.online[column]
            else f"update {count(curve.update[column])} (offline)",
            [
                show(quantity, float(interquartile_mean(values[:, column]))),
                *(show(quantity, v) for v in values[:, column]),
            ],
        )
        for column in range(values.shape[1])
    ]
    head = ["", "IQM", *(f"seed {seed}" for seed in summary.run.seeds)]
    return tables.table(f"{name_of(quantity)} of every evaluation.", head, rows)


def handover(group: Sequence[Member], suffix: str) -> Markup:
    """What was measured at the switch and at the end, Q against returns, the bound rate."""
    several = len(group) > 1
    clouds = []
    for member in group:
        for end, when in ((member.summary.before, "at the switch"), (member.summary.after, "at the end")):
            if end is not None and len(end.q) and end.episodes:
                title = f"{member.label}, {when}" if several else when.capitalize()
                clouds.append(calibration(end.q, end.mc_return, member.label, member.colour, title))
    parts: list[object] = [] if several else [_tiles(group[0].summary)]
    parts.append(tables.handover([member.summary for member in group], [member.label for member in group]))
    if any(is_bonus(name) for member in group for name in member.run.training.values):
        parts.append(
            _note("Q learned from rewards with a bonus counts the bonus; the returns here are of true rewards.")
        )
    if clouds:
        parts.append(element("h3", "Q against Monte-Carlo return of fresh episodes"))
        parts.append(
            _note(
                "Both up to the episode's end: where a time limit cuts it, the critic's own discounted value "
                "beyond the cut is taken off Q. Rows right before a cut lie near 0 and say little."
            )
        )
        parts.append(element("div", clouds, class_="grid-of-figures"))
    rates = _multiples(group, lambda name: name.startswith("bound_rate"))
    if rates:
        parts += [element("h3", "Bound rate over time"), element("div", rates, class_="grid-of-figures")]
    return section(f"Hand-over diagnostics{suffix}", parts)


def _tiles(item: Summary) -> Markup:
    """The numbers of the verdict, large."""
    if item.dip is None:
        return Markup("")
    low = show(item.quantity, item.dip.value - item.dip.depth)
    name = name_of(item.quantity).lower()
    facts = [
        (f"{name} at the switch", show(item.quantity, item.dip.value), "last offline evaluation"),
        ("lowest before recovery", low, "interquartile mean, a minimum of noisy evaluations"),
        ("dip depth", show_difference(item.quantity, item.dip.depth), _chance(item)),
        ("dip length", show_length(item.dip), "environment steps until back"),
        (f"{name} at the end", show(item.quantity, float(interquartile_mean(item.final))), "last evaluation"),
    ]
    cells = [element("div", element("dt", k), element("dd", v, element("small", s))) for k, v, s in facts]
    return element("dl", cells, class_="tiles")


def _chance(item: Summary) -> str:
    """What of a dip is no noise, in small print."""
    if np.isnan(item.fall.low):
        return "below the switch; too few seeds for an interval"
    low, high = (show_difference(item.quantity, end).removesuffix(" points") for end in item.fall[1:])
    return f"below the switch; without a minimum's bias [{low}, {high}]"


def results(group: Sequence[Member], suffix: str) -> Markup:
    """Run against run where there are several, then seed by seed."""
    parts: list[object] = []
    if len(group) > 1:
        summaries, labels = [member.summary for member in group], [member.label for member in group]
        parts.append(tables.comparison(summaries, labels, generator))
    for member in group:
        shown = tables.per_seed(member.summary, generator)
        name = element("summary", f"{member.label}, seed by seed")
        parts.append(element("details", name, shown) if len(group) > 1 else shown)
    for member in group:
        if member.run.retrained:
            parts.append(element("h3", f"{member.label}: policies trained anew on what it had seen"))
            parts.append(tables.retrained(member.summary, generator))
    judged = "success" if all(member.run.evaluation.known("success") for member in group) else "score / 100"
    parts.append(
        _note(
            f"Evaluation regret: one minus the mean evaluation {judged} over the online environment steps. "
            "Training failure rate: one minus the share of finished training episodes that succeeded. "
            "Both: lower is better."
        )
    )
    if min(len(member.run.seeds) for member in group) < FEW_SEEDS:
        parts.append(
            _note(f"With fewer than {FEW_SEEDS} seeds bootstrap intervals are too narrow: doubt more than they do.")
        )
    return section(f"Results{suffix}", parts)


def bonuses(group: Sequence[Member], suffix: str) -> Markup:
    """What reward augmentations paid; nothing where there was none."""
    pictures = _multiples(group, is_bonus)
    if not pictures:
        return Markup("")
    said = _note(
        "Bonuses as the learner saw them, in its units of reward: mean and standard deviation over a batch, and the "
        "share |bonus| / (|bonus| + |reward|). A bonus without spread pays for time, not for novelty. "
        "Evaluations, scores and returns in this report are of true rewards."
    )
    drawn = element("div", pictures, class_="grid-of-figures")
    return section(f"Reward augmentation{suffix}", said, _legend(group), drawn)


def training(group: Sequence[Member], suffix: str) -> Markup:
    """Every logged training metric, small; nothing where nothing was logged."""
    pictures = _multiples(group, lambda name: not (name.startswith("bound_rate") or is_bonus(name)))
    if not pictures:
        return Markup("")
    return section(f"Training{suffix}", _legend(group), element("div", pictures, class_="grid-of-figures"))


def settings(run: Run, label: str) -> Markup:
    """Phases, every setting with its source, provenance."""
    chosen = sum(setting.source != "default" for setting in run.config.values())
    summary = f"All {len(run.config)} settings, {chosen} of them not at their default"
    return join(
        [
            element("h3", label) if label else "",
            tables.phases(run),
            element("details", element("summary", summary), tables.config(run)),
            element("details", element("summary", "Provenance"), tables.provenance(run)),
        ]
    )


def section(title: str, *children: object) -> Markup:
    """Return a titled section."""
    return element("section", element("h2", title), children)


def generator() -> np.random.Generator:
    """Return the generator of every bootstrap of a report."""
    return np.random.default_rng(RESAMPLING_SEED)


def _note(text: str) -> Markup:
    return element("p", text, class_="note-text")


def _legend(group: Sequence[Member]) -> Markup:
    return legend([(member.label, member.colour) for member in group]) if len(group) > 1 else Markup("")


def _multiples(group: Sequence[Member], wanted: Callable[[str], bool]) -> list[Markup]:
    names = dict.fromkeys(name for member in group for name in member.run.training.values if wanted(name))
    drawn = {name: _drawn(group, name, training=True) for name in names}
    return [small_curve(lines, name, name_of(name)) for name, lines in drawn.items() if lines]


def _drawn(group: Sequence[Member], name: str, training: bool = False) -> list[Series]:
    lines = [
        series(
            member.run.training if training else member.run.evaluation, name, member.label, member.colour, generator()
        )
        for member in group
    ]
    return [line for line in lines if line is not None]
