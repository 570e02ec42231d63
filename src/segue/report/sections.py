"""The sections of a report as plain values: of each run, and of the runs of one task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from segue.report import tables
from segue.report.advice import Advice, advice
from segue.report.figures import calibration, learning_curve, middle_curve, name_of, small_curve
from segue.report.notation import number
from segue.report.regime import Regime
from segue.report.run import Run, is_bonus, stand_in_words
from segue.report.statistics import interquartile_mean
from segue.report.summary import Summary, repeats, show, show_difference, show_length, verdict
from segue.report.svg import Figure
from segue.report.timeline import Series, episode_series, series


class Member(NamedTuple):
    """A run in the report: its label, the class of its colour, and its numbers."""

    label: str
    colour: str
    summary: Summary

    @property
    def run(self) -> Run:
        """The run itself."""
        return self.summary.run


def of_run(member: Member) -> dict[str, object]:
    """Return the values of one run that the template shows."""
    summary, run = member.summary, member.run
    headline, detail = verdict(summary)
    provenance = {"command": " ".join(run.command), **flattened(run.provenance)}
    return {
        "label": member.label,
        "colour": member.colour,
        "run": run,
        "headline": headline,
        "detail": detail,
        "tiles": _tiles(summary),  # (name, value, small print); none where nothing was handed over
        "regime": None if summary.regime is None else _regime(summary.regime, advice(run, summary.regime)),
        "evaluations": tables.evaluations(summary),
        "per_seed": tables.per_seed(summary),
        "retrained": tables.retrained(summary) if run.retrained else None,
        "phases": tables.phases(run),
        "settings": [(key, written(setting.value), setting.source) for key, setting in sorted(run.config.items())],
        "changed": sum(setting.source != "default" for setting in run.config.values()),
        "provenance": [(key, written(value)) for key, value in provenance.items()],
    }


def of_task(members: Sequence[Member]) -> dict[str, object]:
    """Return the values that the template shows of the runs of one task, drawn together."""
    main, runs = members[0].summary.quantity, [member.run for member in members]
    summaries, labels = [member.summary for member in members], [member.label for member in members]
    evaluated = _drawn(members, main)
    return {
        "task": runs[0].task,
        "seeds": [len(run.seeds) for run in runs],
        "two_scales": len({bool(side) for run in runs for side in run.evaluation.online}) == 2,
        "curve": learning_curve(evaluated, main, _judged_by(runs)) if evaluated else None,
        "halves": [*_others(members, main), *_episodes(members)],
        "diagnostics": tables.handover(summaries, labels),
        "clouds": list(_clouds(members)),
        "bound_rates": _small(members, _is_bound_rate),
        "bonuses": _small(members, is_bonus),
        "training": _small(members, lambda name: not (_is_bound_rate(name) or is_bonus(name))),
        "comparison": tables.comparison(summaries, labels) if len(members) > 1 else None,
        "judged": "success" if all(run.evaluation.known("success") for run in runs) else "score / 100",
    }


def _judged_by(runs: Sequence[Run]) -> str:
    """What the curves are of."""
    return ", and in ".join(dict.fromkeys(stand_in_words(r) if r.stand_in else "evaluation episodes" for r in runs))


def _others(members: Sequence[Member], main: str) -> Iterator[Figure]:
    """Evaluations of the other quantities, without those that repeat the main one."""
    for name in ("success", "score", "return"):
        if name != main and not all(repeats(member.run, name, main) for member in members):
            lines = _drawn(members, name)
            if lines:
                yield middle_curve(lines, name, name_of(name))


def _episodes(members: Sequence[Member]) -> Sequence[Figure]:
    """Training episodes, by success where it is known."""
    for name in ("success", "return"):
        lines = _known(episode_series(member.run, name, member.label, member.colour) for member in members)
        if lines:
            return [middle_curve(lines, name, f"{name_of(name)} of training episodes, with exploration")]
    return []


def _clouds(members: Sequence[Member]) -> Iterator[Figure]:
    for member in members:
        for end, when in ((member.summary.before, "at the switch"), (member.summary.after, "at the end")):
            if end is not None and len(end.q) and end.episodes:
                title = f"{member.label}, {when}" if len(members) > 1 else when.capitalize()
                yield calibration(end.q, end.mc_return, member.label, member.colour, title)


def _is_bound_rate(name: str) -> bool:
    return name.startswith("bound_rate")


def _small(members: Sequence[Member], wanted: Callable[[str], bool]) -> list[Figure]:
    """Logged training metrics, one small picture each."""
    names = dict.fromkeys(name for member in members for name in member.run.training.values if wanted(name))
    drawn = {name: _drawn(members, name, training=True) for name in names}
    return [small_curve(lines, name) for name, lines in drawn.items() if lines]


def _drawn(members: Sequence[Member], name: str, training: bool = False) -> list[Series]:
    curves = [member.run.training if training else member.run.evaluation for member in members]
    return _known(series(curve, name, member.label, member.colour) for curve, member in zip(curves, members))


def _known(found: Iterator[Series | None]) -> list[Series]:
    return [line for line in found if line is not None]


def _tiles(item: Summary) -> list[tuple[str, str, str]]:
    if item.dip is None:
        return []
    low = show(item.quantity, item.dip.value - item.dip.depth)
    name = name_of(item.quantity).lower()
    return [
        (f"{name} at the switch", show(item.quantity, item.dip.value), "last offline evaluation"),
        ("lowest before recovery", low, "of the interquartile mean; noise makes a minimum too low"),
        ("dip depth", show_difference(item.quantity, item.dip.depth), _chance(item)),
        ("dip length", show_length(item.dip), "environment steps until recovery"),
        (f"{name} at the end", show(item.quantity, float(interquartile_mean(item.final))), "last evaluation"),
    ]


def _regime(found: Regime, advised: Advice | None) -> dict[str, object]:
    """The regime in words: what it is, the comparison, and the advice."""
    if found.name == "unknown":
        headline = f"Regime not known: {found.why}."
    else:
        word = {"superior": "better than", "comparable": "about as good as", "inferior": "worse than"}[found.name]
        headline = f"{found.name.capitalize()}: the pre-trained policies are {word} the dataset."
    compared = ""
    if found.quantity and np.isfinite(found.policy):
        unit = 100.0 if found.quantity == "score" else 1.0
        stood, logged = (show(found.quantity, unit * x) for x in (found.policy, found.data))
        point, low, high = (show_difference(found.quantity, unit * x) for x in found.difference)
        margin = number(found.margin) if found.quantity == "return" else f"{100 * found.margin:g} points"
        chance = f" [{low.removesuffix(' points')}, {high.removesuffix(' points')}]"
        compared = (
            f"{name_of(found.quantity)}: {stood} at the switch, mean over seeds; {logged} in the dataset, mean over "
            f"episodes.  Difference {point}{'' if np.isnan(found.difference.low) else chance}; margin {margin}."
        )
    return {"name": found.name, "headline": headline, "compared": compared, "advice": advised}


def _chance(item: Summary) -> str:
    """The fall without the bias of a minimum, in small print."""
    if np.isnan(item.fall.low):
        return "below the value at the switch; too few seeds for an interval"
    low, high = (show_difference(item.quantity, end).removesuffix(" points") for end in item.fall[1:])
    return f"below the value at the switch; [{low}, {high}], corrected for the bias of a minimum"


def flattened(facts: object, prefix: str = "") -> dict[str, object]:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(facts, dict) or not facts:
        return {prefix: facts}
    flat: dict[str, object] = {}
    for key, value in facts.items():
        flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def written(value: object) -> str:
    """A value as a person would type it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
