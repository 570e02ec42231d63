"""One run in numbers and in words: before the switch, at the switch, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segue.report.notation import count, number, percent
from segue.report.regime import Regime, regime_of
from segue.report.run import Handover, Run, stand_in_words
from segue.report.statistics import (
    Dip,
    Floats,
    Interval,
    dip,
    evaluation_regret,
    fall,
    interquartile_mean,
    resampling,
    training_failure_rate,
    value_error,
)

SLIGHT = 0.05  # of the quantity's full scale: a dip of at most this depth is called slight
AGREES = 0.10  # of the larger of |Q| and an episode's |return|: Q agrees with returns up to this error
TELLS = 0.25  # of the value: with a smaller share before the cut, the report warns that episodes say little


@dataclass(frozen=True)
class Summary:
    """Numbers per seed (S,) of one run; NaN where the run cannot say."""

    run: Run
    quantity: str  # of dip and verdict: success, else score, else return
    at_switch: Floats  # last evaluation of the offline part
    lowest: Floats  # worst evaluation after the switch, whenever it was
    lowest_mean: float  # lowest value of the interquartile mean after the switch
    final: Floats  # last evaluation of the run
    final_score: Floats
    final_return: Floats
    dip: Dip | None  # of the interquartile mean; None without both an offline and an online part
    fall: Interval  # of the mean over seeds, without the bias of a minimum; see `statistics.fall`
    dips: tuple[Dip, ...]  # per seed
    regret: Floats  # evaluation_regret of success, else of score / 100
    failure_rate: Floats  # training_failure_rate of every seed's own episodes
    before: Handover | None  # diagnostics at the switch
    after: Handover | None  # diagnostics at the end of the last phase that moved on from the switch
    regime: Regime | None  # of the pre-trained policies against their dataset; None where nothing was handed over


def quantity_of(runs: Sequence[Run]) -> str:
    """Return the first of success, score and return that every run has measured."""
    for name in ("success", "score"):
        if all(run.evaluation.known(name) for run in runs):
            return name
    return "return"


def summarise(run: Run, quantity: str) -> Summary:
    """Reduce a run to the numbers that tables and sentences show."""
    curve = run.evaluation
    nothing = np.full(len(run.seeds), np.nan)
    table = curve.values.get(quantity, np.full((len(run.seeds), len(curve.x)), np.nan))
    offline, online = np.flatnonzero(~curve.online), np.flatnonzero(curve.online)
    learning = np.array([column for column in online if not _frozen(run, int(curve.phase[column]))], int)
    path = np.concatenate([offline[-1:], learning]).astype(int)
    steps = curve.environment_step[path]
    handed_over = len(offline) > 0 and len(learning) > 0
    whole = np.concatenate([offline[-1:], online]).astype(int) if len(online) else online
    judged = curve.values["success"] if curve.known("success") else curve.values.get("score", table * np.nan) / 100.0
    before = [item for item in run.handovers if run.switch is None or item.phase < run.switch]
    after = [item for item in run.handovers if run.switch is not None and item.phase >= run.switch]
    return Summary(
        run=run,
        quantity=quantity,
        at_switch=table[:, offline[-1]] if len(offline) else nothing,
        lowest=_lowest(table[:, online]),
        lowest_mean=float(_lowest(interquartile_mean(table[:, learning])[None])[0]) if len(learning) else np.nan,
        final=_last(table),
        final_score=_last(curve.values["score"]) if curve.known("score") else nothing,
        final_return=_last(curve.values["return"]) if curve.known("return") else nothing,
        dip=dip(steps, interquartile_mean(table[:, path])) if handed_over else None,
        fall=fall(table[:, path]) if handed_over else Interval(np.nan, np.nan, np.nan),
        dips=tuple(dip(steps, row) for row in table[:, path]) if handed_over else (),
        regret=nothing if run.stand_in else evaluation_regret(curve.environment_step[whole], judged[:, whole]),
        failure_rate=np.array([_failure_rate(run, seed) for seed in range(len(run.seeds))]),
        before=before[-1] if before else None,
        after=after[-1] if after else None,
        regime=_regime(run),
    )


def _regime(run: Run) -> Regime | None:
    """In scores where they tell more than successes, else in successes that both sides know, else in returns."""
    planned = run.switch is not None and any(phase.environment_steps for phase in run.phases[run.switch :])
    if not planned or not any(phase.updates for phase in run.phases[: run.switch]):
        return None
    curve, logged = run.evaluation, run.logged
    scored = logged is not None and logged.reference is not None and curve.known("score")
    succeeds = logged is not None and not np.isnan(logged.success) and curve.known("success")
    quantity = "score" if scored else "success" if succeeds else "return"
    offline = np.flatnonzero(~curve.online)
    ends = [item.phase for item in run.handovers if run.switch is not None and item.phase < run.switch]
    evaluated = len(offline) > 0 and curve.phase[offline[-1]] in ends[-1:] and not run.stand_in
    there = evaluated and quantity in curve.values
    return regime_of(run, quantity, curve.values[quantity][:, offline[-1]] if there else np.nan, bool(evaluated))


def repeats(run: Run, name: str, main: str) -> bool:
    """Whether `name` only repeats `main`: a score that is 100 times success, or a return that equals success."""
    values, factor = run.evaluation.values, 100.0 if name == "score" else 1.0
    said = main == "success" and name in values
    return said and np.allclose(values[name], factor * values[main], equal_nan=True)


def show(quantity: str, value: float | None) -> str:
    """A value of a quantity in its own notation."""
    if quantity == "score" and value is not None and np.isfinite(value):
        return f"{value:,.1f}".replace("-", "−")
    return percent(value) if quantity == "success" else number(value)


def show_difference(quantity: str, value: float | None) -> str:
    """A difference of two values of a quantity; percentages and scores differ by points."""
    if value is None or np.isnan(value):
        return number(None)
    if quantity == "return":
        return number(value)
    points = 100 * value if quantity == "success" else value
    return f"{number(round(points, 1)).removesuffix('.0')} points"


def show_length(measured: Dip) -> str:
    """How long a dip lasted."""
    if measured.depth == 0:
        return "no dip"
    return "not within the run" if measured.length is None else f"{count(measured.length)} steps"


def verdict(summary: Summary) -> tuple[str, str]:
    """(headline, detail): whether and how far the quantity dropped, and whether the critic's values are right."""
    return _drop(summary), _fall(summary) + _calibration(summary)


def _drop(summary: Summary) -> str:
    nothing = "No verdict on a drop: there were no evaluations (evaluation=none)."
    if not len(summary.run.evaluation.x):
        return nothing
    name = {"success": "success", "score": "the score", "return": "the return"}[summary.quantity]
    last = float(interquartile_mean(summary.final))
    final = show(summary.quantity, last)
    ended = "ended" if summary.run.status == "finished" else "was last"
    if summary.run.stand_in:
        return f"{nothing} Over {stand_in_words(summary.run)}, {name} {ended} at {final}."
    if summary.dip is None or np.isnan(summary.dip.value):
        if summary.run.switch is None:
            return f"The run has no online part, so nothing was handed over; {name} {ended} offline at {final}."
        if not summary.run.evaluation.online.any():
            return f"The policy has not been evaluated after the switch yet; {name} was {final}."
        return f"The run has no offline part, so nothing was handed over; {name} {ended} at {final}."
    value, depth, length = summary.dip
    low = summary.lowest_mean if depth == 0 else value - depth
    full = {"success": 1.0, "score": 100.0, "return": max(abs(value), abs(low))}[summary.quantity]
    if depth == 0:
        fell = value - low > SLIGHT * full and low < last
        later = f" at the switch, fell to {show(summary.quantity, low)} later," if fell else " at the switch"
        stood = show(summary.quantity, value)
        return f"No drop at the hand-over: {name} was {stood}{later} and {ended} at {final}."
    back = f"recovered after {count(length)} environment steps" if length is not None else "did not recover"
    path = f"from {show(summary.quantity, value)} to {show(summary.quantity, low)}"
    end = f"{name.capitalize()} {ended} at {final}."
    if np.isnan(summary.fall.low):
        few = f"{len(summary.run.seeds)} seeds" if len(summary.run.seeds) > 1 else "one seed"
        return f"At the hand-over {name} went {path} and {back}. With {few} this cannot be told from noise. {end}"
    if summary.fall.low <= 0:
        return f"No drop at the hand-over beyond noise: {name} went {path} and {back}. {end}"
    word = "dipped slightly" if depth <= SLIGHT * full else "dropped"
    return f"At the hand-over {name} {word} by {show_difference(summary.quantity, depth)}, {path}, and {back}. {end}"


def _fall(summary: Summary) -> str:
    if summary.dip is None or not summary.dip.depth > 0 or np.isnan(summary.fall.low):
        return ""
    point = show_difference(summary.quantity, summary.fall.point)
    low, high = (show_difference(summary.quantity, x).removesuffix(" points") for x in summary.fall[1:])
    return f"The mean fall over seeds is {point} [{low}, {high}], corrected for the bias of a minimum. "


def _calibration(summary: Summary) -> str:
    hurt, of = sum(measured.depth > 0 for measured in summary.dips), len(summary.dips)
    ever = int(np.sum(summary.lowest < summary.at_switch))
    seeds = f"{ever} of {of} seeds fell below their value at the switch"
    seeds = f"{seeds}{'' if ever == hurt else f', {hurt} of them in the first evaluation after it'}. " if of > 1 else ""
    end, when = (summary.before, "at the switch") if summary.dip or summary.before else (summary.after, "at the end")
    return seeds + judgement(end, when)


def judgement(end: Handover | None, when: str) -> str:
    """Compare Q with the returns of fresh episodes.

    "Overestimated" or "underestimated" needs an error above AGREES of the values and an interval without 0.
    """
    if end is not None and np.isfinite(mean_of(end, "mc_return_fresh")):
        return (
            f"There is no verdict on Q {when}: an earlier version of Segue compared it with returns that stop at a "
            "time limit."
        )
    if end is not None and np.isfinite(mean_of(end, "action_distance")) and np.isnan(mean_of(end, "q_data")):
        return f"The policy had no values {when}: it was cloned."
    if end is None or not np.isfinite(mean_of(end, "q_fresh")):
        return f"Q was not compared with fresh episodes {when}."
    if end.bonus:
        return f"There is no verdict on Q {when}: Q includes a bonus, and the returns do not."
    came = mean_of(end, "return_fresh")
    error = value_error(end.episodes["error"], end.episodes["weight"], resampling())
    numbers = f"(mean Q {number(came + error.point)}, mean return {number(came)}, both up to the same cut)"
    chance = "" if np.isnan(error.low) else f" [{number(error.low)}, {number(error.high)}]"
    high = np.isnan(error.low) or error.point > 0
    size = chance if high else f" [{number(-error.high)}, {number(-error.low)}]"
    share = mean_of(end, "fresh_share")
    little = f"; only {percent(share)} of the value comes before the cut" if share < TELLS else ""
    # The mean of |return| over episodes, since returns of both signs may cancel.
    sizes = [np.sum(np.abs(c)) / np.sum(w) for c, w in zip(end.episodes["came"], end.episodes["weight"])]
    if abs(error.point) <= AGREES * max(abs(came + error.point), float(interquartile_mean(sizes))):
        within = f", with an error within{chance}," if chance else ""
        return f"On fresh episodes the critic agreed with the returns{within} {when} {numbers}{little}."
    if np.isnan(error.low) or error.low <= 0 <= error.high:
        return (
            f"On fresh episodes Q differed from the returns by {number(error.point)}{chance} {when} {numbers}{little}. "
            "So few episodes cannot tell this from chance."
        )
    word = "overestimated" if error.point > 0 else "underestimated"
    return f"On fresh episodes the critic {word} by {number(abs(error.point))}{size} {when} {numbers}{little}."


def mean_of(handover: Handover | None, name: str) -> float:
    """Interquartile mean over seeds of a diagnostic; NaN where it is missing."""
    if handover is None or name not in handover.values:
        return float("nan")
    return float(interquartile_mean(handover.values[name]))


def _frozen(run: Run, phase: int) -> bool:
    """A phase without updates: its evaluations repeat the policy at the switch, so they show no drop."""
    return phase < len(run.phases) and run.phases[phase].updates == 0


def _failure_rate(run: Run, seed: int) -> float:
    return training_failure_rate(run.episodes.values.get("success", np.zeros(0))[run.episodes.seed == seed])


def _last(table: Floats) -> Floats:
    """Each seed's last known value (S,)."""
    return np.array([row[~np.isnan(row)][-1] if (~np.isnan(row)).any() else np.nan for row in table])


def _lowest(table: Floats) -> Floats:
    return np.array([row[~np.isnan(row)].min() if (~np.isnan(row)).any() else np.nan for row in table])
