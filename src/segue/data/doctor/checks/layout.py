"""Whether the log's observations and rewards are laid out as the environment's: sizes, order and units of columns.

Three things are compared, none of which depends much on the policy:

    starts      each column of logged first observations against that of resets
    links       pairs of columns, such as a position and its speed: how strictly and how fast one follows the other
    early pay   rewards of the first steps against those of random episodes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.checks.jumps import TAIL
from segue.data.doctor.finding import Finding
from segue.data.doctor.log import EARLY

# Defaults of ours.
OUTSIDE = 0.5  # share of starts outside the range of the other side's
ROOM = 0.5  # by which that range is widened, in its own widths
WITHIN = 0.9  # share of starts that lie within the range of the column they were swapped with
PART = 0.25  # share of columns that are off
STRICT = 0.97  # correlation of a link in random episodes
LOOSE = 0.5  # correlation in the log below which a link is broken
FASTER = 2.0  # change of a link's slope
FEWEST = 1_000  # sampled rows
LARGER = 10.0  # change of the spread of the first rewards


def shape(case: Case) -> Iterator[Finding]:
    """Observations or actions of another size than the environment's."""
    if case.spec is None or case.log.shape is None:
        return
    spec, own = case.spec, case.log.shape
    image = spec.dtype == "uint8"
    if case.fits and image == (own[2] == "u"):
        return
    yield Finding(
        "error",
        f"the log has observations {own[0]} and {own[1]} actions, the environment {spec.observation} and {spec.action}"
        if not case.fits
        else f"the log has {'bytes' if own[2] == 'u' else 'real numbers'}, the environment {spec.dtype}",
        "A policy of this log cannot act in this environment.",
        "Check the task's environment, its keywords (env_kwargs) and its keys.",
        numbers={"log": [list(own[0]), own[1]], "environment": [list(spec.observation), spec.action]},
    )


def layout(case: Case) -> Iterator[Finding]:
    """Columns in another order or unit than the environment's."""
    starts = case.log.starts.columns().get("observation")
    if not case.fits or case.simulator is None or not case.log.flat or starts is None:
        return
    resets = case.simulator.resets
    apart = _apart(starts, resets, case.log.seen.std)
    swapped = _swapped(starts, resets, apart, case.log.seen.std)
    links = _links(case)
    broken = [link for link in links if link.broken]
    many = len(apart) > max(2, PART * starts.shape[1])
    if not swapped and not broken and not many:
        return
    certain = bool(swapped) or len(broken) > 1 or len(apart) > 0.5 * starts.shape[1]
    what = []
    if swapped:
        what.append("columns " + ", ".join(f"{i} and {j}" for i, j in swapped[:5]) + " look swapped")
    if broken:
        pairs = ", ".join(f"{link.position} with {link.speed}" for link in broken[:5])
        what.append(f"columns do not move as in the environment ({pairs})")
    if many:
        what.append(f"{len(apart)} columns have other first values")
    yield Finding(
        "error" if certain else "warning",
        "the layout of observations differs from the environment's: " + "; ".join(what),
        "Online the policy would get observations whose columns have other meanings.",
        "Give the log's columns the environment's order and units, or name the right keys.",
        len({*apart, *(i for pair in swapped for i in pair), *(link.position for link in broken)}),
        "columns",
        numbers={"begin elsewhere": apart, "swapped": swapped, "links": [link._asdict() for link in links[:50]]},
    )


def _range(rows: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = rows.min(0), rows.max(0)
    room = ROOM * (high - low) + 1e-2 * std + 1e-6
    return low - room, high + room


def _apart(starts: np.ndarray, resets: np.ndarray, std: np.ndarray) -> list[int]:
    """Columns in which most logged starts are outside the range of resets, and most resets outside that of starts."""
    first, second = _range(resets, std), _range(starts, std)
    logged = ((starts < first[0]) | (starts > first[1])).mean(0) > OUTSIDE
    task = ((resets < second[0]) | (resets > second[1])).mean(0) > OUTSIDE
    return [int(c) for c in np.flatnonzero(logged & task)]


def _swapped(starts: np.ndarray, resets: np.ndarray, apart: list[int], std: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of such columns that lie within each other's range."""
    low, high = _range(resets, std)
    within = lambda i, j: np.mean((starts[:, i] >= low[j]) & (starts[:, i] <= high[j])) > WITHIN  # noqa: E731
    return [(i, j) for i in apart for j in apart if i < j and within(i, j) and within(j, i)]


class _Link(NamedTuple):
    """Columns of a position and of its speed: how they go together in the log, and how fast beside the environment."""

    position: int
    speed: int
    correlation: float
    pace: float
    broken: bool


def _links(case: Case) -> list[_Link]:
    """Links of the environment, and whether they hold in the log."""
    if case.simulator is None or len(case.sampled["step"]) < FEWEST:
        return []
    world, rows = case.simulator.rollouts, case.sampled
    # Of a few lost ends or glitches a correlation would say nothing else.
    step = np.abs(rows["following"] - rows["observation"])
    usual = (step <= TAIL * np.quantile(step, 0.99, axis=0) + 1e-9).all(1) & (rows["step"] < rows["length"] - 1)
    own, own_slope = _moves(world.observation, world.following)
    logged, slope = _moves(rows["observation"][usual], rows["following"][usual])
    sizes, _ = _moves(rows["observation"][usual], rows["following"][usual], np.abs)
    out = []
    for i, j in np.argwhere(np.abs(own) > STRICT):
        pace = slope[i, j] / own_slope[i, j]
        # A body that has turned round moves the other way at the same speed: then only the sizes go together.
        together = max(abs(logged[i, j]), sizes[i, j])
        strange = abs(logged[i, j]) >= LOOSE and not 1 / FASTER < pace < FASTER
        out.append(_Link(int(i), int(j), float(logged[i, j]), float(pace), bool(together < LOOSE or strange)))
    return out


def _moves(
    seen: np.ndarray, then: np.ndarray, of: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation and slope (O, O) of each column's step against the middle of each column, or `of` both."""
    seen, then = seen.astype(np.float64), then.astype(np.float64)
    step, middle = of(then - seen), of((then + seen) / 2.0)
    step, middle = step - step.mean(0), middle - middle.mean(0)
    both = step.T @ middle / len(step)
    size, spread = step.std(0)[:, None], middle.std(0)[None]
    return both / (size * spread + 1e-12), both / (spread**2 + 1e-12)


def reward_range(case: Case) -> Iterator[Finding]:
    """Rewards of another kind than the environment's: shifted, scaled, or of another task."""
    if case.task is None or not case.log.sound.any():
        return
    failure, values = case.task.failure, case.log.values
    if failure is not None and (values is None or failure != min(values)):
        known = sorted(values)[:5] if values is not None else [case.log.rewarded.least[0], case.log.rewarded.most[0]]
        yield Finding(
            "error",
            f"a step that fails has the reward {failure:g}; the log has {', '.join(f'{v:g}' for v in known)}"
            + (" and more" if values is None or len(values) > 5 else ""),
            "Logged and own rewards would have two scales in one buffer, so one of them seems worse than it is.",
            "Use the environment's raw rewards in the log; scaling.reward_scale and scaling.reward_shift act on both.",
            case.log.rows,
            "rows",
            numbers={"failure": failure, "values": known},
        )
        return
    if not case.fits or case.simulator is None:
        return
    world = case.simulator.rollouts
    if failure is not None and values is not None:
        strange = sorted(set(np.unique(world.reward).tolist()) - set(values))
        if strange:
            yield _strange(
                case, f"the environment gives the reward {strange[0]:g}, which no row of the log has", world.reward
            )
        return
    yield from _early(case)


def _early(case: Case) -> Iterator[Finding]:
    """First rewards that are far from those of the first random steps, from the same starts."""
    early, starts = case.log.early.columns(), case.log.starts.columns().get("observation")
    if case.simulator is None or not case.log.flat or starts is None or not early:
        return
    low, high = _range(case.simulator.resets, case.log.seen.std)
    if np.mean(((starts >= low) & (starts <= high)).all(1)) < WITHIN:
        return  # other starts may be worth other rewards
    world = case.simulator.rollouts
    own = world.reward[world.step < EARLY].astype(np.float64)
    logged = early["reward"].astype(np.float64)
    wide = float(np.ptp(own)) + 1e-6
    spread = float(np.std(logged) / (np.std(own) + 1e-6))
    outside = bool(np.median(logged) < own.min() - wide or np.median(logged) > own.max() + wide)
    if outside or not 1 / LARGER < spread < LARGER:
        numbers = {"log": _five(logged), "environment": _five(own), "spread": spread}
        yield _strange(
            case, "the first rewards of episodes differ from those of the environment's first steps", own, numbers
        )


def _strange(case: Case, title: str, own: np.ndarray, numbers: Mapping[str, object] | None = None) -> Finding:
    ends = {"log": [case.log.rewarded.least[0], case.log.rewarded.most[0]], "environment": [own.min(), own.max()]}
    return Finding(
        "warning",
        title,
        "Logged and own rewards would have two scales in one buffer.",
        "Use the environment's raw rewards in the log; scaling.reward_scale and scaling.reward_shift act on both.",
        case.log.rows,
        "rows",
        numbers=numbers or ends,
    )


def _five(values: np.ndarray) -> list[float]:
    """Least, 5 %, 50 %, 95 % and greatest."""
    return [float(v) for v in np.quantile(values, [0.0, 0.05, 0.5, 0.95, 1.0])]


CHECKS: dict[str, Make] = {
    "observation-shape": summary(shape),
    "observation-layout": summary(layout),
    "reward-range": summary(reward_range),
}
