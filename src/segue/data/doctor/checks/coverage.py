"""What the log covers: the states in which the task begins, and the goal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import LAYOUT, Case, Make, summary
from segue.data.doctor.finding import Finding
from segue.data.doctor.simulator.world import Simulator

# Defaults of ours.
FEWEST = 5  # logged starts
NEAR = 2.0  # times as far from the next logged start as logged starts are from each other
UNCOVERED = 0.5  # share of the task's start states
RADII = (0.5, 1.0, 2.0, 4.0)  # metres around the goal


def start_coverage(case: Case) -> Iterator[Finding]:
    """Start states of the task that the log does not begin in, and does not know."""
    starts = case.log.starts.columns().get("observation")
    if any(f.code in LAYOUT and f.severity == "error" for f in case.found):
        return  # then starts are unlike each other for another reason
    if not case.fits or case.simulator is None or not case.log.flat or starts is None or len(starts) < FEWEST:
        return
    scale, resets = case.log.seen.std + 1e-3, case.simulator.resets
    starts = starts[:500]
    own = _distances(starts, starts, scale)
    np.fill_diagonal(own, np.inf)
    usual = float(np.quantile(own.min(1), 0.99)) + 0.05
    away = _distances(resets, starts, scale).min(1) > NEAR * usual
    if away.mean() <= UNCOVERED:
        return
    anywhere = _distances(resets, case.sampled["observation"][:5_000], scale).min(1) > NEAR * usual
    unknown = anywhere.mean() > UNCOVERED
    far = np.abs(np.median(starts, axis=0) - np.median(resets, axis=0)) / scale
    yield Finding(
        "warning" if unknown else "note",
        f"{away.mean():.0%} of the task's start states differ from every start state of the log"
        + (f", and {anywhere.mean():.0%} from every state of it" if unknown else ", but the log visits them"),
        "Online, an episode begins where the policy has no data, and the first steps decide the rest.",
        "Check that the log belongs to the task; otherwise add episodes from the task's start.",
        int(away.sum()),
        "start states",
        numbers={
            "of": len(resets),
            "unlike every start": away.mean(),
            "unlike every state": anywhere.mean(),
            "columns farthest apart": {str(c): far[c] for c in np.argsort(far)[::-1][:5]},
        },
    )


def _distances(left: np.ndarray, right: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Distances (L, R) between rows: the largest of all columns, in standard deviations."""
    out = np.zeros((len(left), len(right)))
    for column, size in enumerate(scale):
        np.maximum(out, np.abs(left[:, column, None] - right[None, :, column]) / size, out=out)
    return out


def goal_coverage(case: Case) -> Iterator[Finding]:
    """How often the goal is reached, and how much of the log lies near it."""
    index, sound = case.log.index, case.log.sound
    numbers: dict[str, object] = {}
    if case.failure is not None and sound.any():
        solved = sound & (index["best"] > case.failure)
        numbers["episodes that succeed"] = solved.sum() / sound.sum()
        if (told := sound & np.isfinite(index["success"])).any():
            numbers["episodes flagged successful"] = float((index["success"][told] > 0.5).mean())
    near = _near(case, case.simulator) if case.fits and case.simulator is not None else None
    if near is not None:
        numbers |= near
    if not numbers:
        return
    share = numbers.get("episodes that succeed")
    words = [] if share is None else [f"{share:.0%} of the episodes succeed"]
    words += (
        [] if near is None else [f"{near['rows within 1 m of the goal']:.1%} of the rows lie within 1 m of the goal"]
    )
    yield Finding(
        "note",
        " and ".join(words),
        "With few rows near the goal, its value is hard to propagate, and the agent must explore more.",
        "Nothing to do, unless these numbers are not what you expect.",
        int(sound.sum()),
        "episodes",
        numbers=numbers,
    )


def _near(case: Case, simulator: Simulator) -> dict[str, float] | None:
    """Shares of the sampled rows near the goal, in tasks whose observation begins with a position."""
    how = simulator.recoverer
    if how is None or how.position is None or simulator.goal is None or not case.log.flat or not case.sampled:
        return None
    away = np.linalg.norm(case.sampled["observation"][:, how.position] - simulator.goal, axis=1)
    return {f"rows within {radius:g} m of the goal": float(np.mean(away <= radius)) for radius in RADII} | {
        "nearest row, in metres": float(away.min())
    }


CHECKS: dict[str, Make] = {"start-coverage": summary(start_coverage), "goal-coverage": summary(goal_coverage)}
