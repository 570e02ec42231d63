"""Logged steps done again in the simulator: states, rewards, and the row that an action belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.finding import Finding, counted
from segue.data.doctor.simulator.replayed import DOUBT, FAITHFUL, Replayed
from segue.data.doctor.simulator.world import SAME

# Defaults of ours.
WRONG, HALF = 0.05, 0.5  # share of steps that differ: a warning, an error
FEWEST = 20  # steps
CLOSE = 5e-2  # difference of a reward that is none, in standard deviations of the rewards
STRAIGHT = 1e-3  # share of a reward's variance that a change of unit leaves unexplained


def action_off_by_one(case: Case) -> Iterator[Finding]:
    """Actions that belong to the row before or after."""
    again = case.replayed
    shift = _shift(again)
    if again is None or shift is None:
        return
    here, side, there = shift
    yield Finding(
        "error",
        f"next observations follow from the action of the row {side} ({there:.0%} of the steps), not from their own "
        f"({here:.0%})",
        "The critic learns the value of an action from the effect of another action.",
        "Shift the actions by one row within each episode.",
        case.log.rows,
        "rows",
        numbers={"own": here, side: there, "steps": int(again.steps.sum())},
    )


def _shift(again: Replayed | None) -> tuple[float, str, float] | None:
    """Shares of steps that come out with their own action, and with a neighbour's; None unless the latter is better."""
    if again is None:
        return None
    rows = again.steps & (again.kind == "row") & ~np.isnan(again.before) & ~np.isnan(again.after)
    if rows.sum() < FEWEST:
        return None
    here = float(np.mean(again.error[rows] <= SAME))
    before, after = (float(np.mean(error[rows] <= SAME)) for error in (again.before, again.after))
    if here > DOUBT or max(before, after) < FAITHFUL:
        return None
    return (here, "before", before) if before >= after else (here, "after", after)


def dynamics(case: Case) -> Iterator[Finding]:
    """Steps that the simulator does not reproduce."""
    again = case.replayed
    if again is None or again.steps.sum() < FEWEST or _shift(again) is not None:
        return
    steps = np.flatnonzero(again.steps)
    wrong = steps[again.error[steps] > SAME]
    share = len(wrong) / len(steps)
    if share <= WRONG:
        return
    columns, counts = np.unique(again.worst[wrong], return_counts=True)
    yield Finding(
        "error" if share > HALF else "warning",
        f"the environment does not reproduce {len(wrong)} of {len(steps)} sampled steps",
        "Environment, version or keywords of the log differ from the task's: the policy learns from wrong dynamics.",
        "Give the task the environment of the log (its version, env_kwargs and frame skip).",
        *counted("sampled rows", again.rows["episode"][wrong], again.rows["step"][wrong]),
        numbers={
            "median difference, in standard deviations": float(np.median(again.error[steps])),
            "worst columns": {str(c): int(n) for c, n in sorted(zip(columns, counts), key=lambda x: -x[1])[:5]},
        },
    )


def reward_mismatch(case: Case) -> Iterator[Finding]:
    """Rewards that the simulator does not give."""
    again = case.replayed
    if again is None or not again.faithful or not again.rewarded:
        return
    # A last row's next observation cannot be compared, but its reward can: the others say that the state is right.
    rows = np.flatnonzero(again.done & ((again.error <= SAME) | ~again.steps))
    if len(rows) < FEWEST:
        return
    own, logged = again.reward[rows], again.rows["reward"][rows].astype(np.float64)
    close = CLOSE * float(max(own.std(), logged.std())) + 1e-6
    wrong = np.abs(own - logged) > close
    share = float(wrong.mean())
    telling = np.ones(len(rows), bool)
    if case.failure is not None:  # of a sparse reward, only rows with a success say anything
        telling = (own != np.median(own)) | (logged != np.median(logged))
        share = float(wrong[telling].mean()) if telling.any() else share
    if share <= WRONG:
        return
    at = rows[wrong]
    title, cure = f"the environment gives another reward in {wrong.sum()} of {len(rows)} sampled rows", ""
    numbers: dict[str, object] = {"share": share, "log": logged[wrong][:5], "environment": own[wrong][:5]}
    side = _side(again, rows, close)
    unit = _unit(own, logged)
    if unit is not None:
        title = f"rewards are {unit[0]:.4g} times the environment's" + (f" plus {unit[1]:.4g}" if unit[1] else "")
        cure = "Undo this scaling; scaling.reward_scale and .reward_shift act on logged and own experience alike."
        numbers |= {"scale": unit[0], "shift": unit[1]}
    elif side is not None:
        title = f"rewards are those of the row {side}"
        cure = "Shift the rewards by one row within each episode."
        numbers["side"] = side
    yield Finding(
        "error" if share > HALF or unit is not None or side is not None else "warning",
        title,
        "Logged and own experience would have rewards by two rules in one buffer.",
        cure or "Replace the log's rewards by the environment's, or give the task the env_kwargs of the log.",
        *counted("sampled rows", again.rows["episode"][at], again.rows["step"][at]),
        numbers=numbers,
    )


def _side(again: Replayed, rows: np.ndarray, close: float) -> str | None:
    """The neighbour whose row holds the environment's rewards, or None."""
    for word, name in (("before", "after_reward"), ("after", "before_reward")):
        beside = again.rows[name][rows]
        there = np.isfinite(beside)
        own = again.reward[rows][there]
        if there.sum() < FEWEST or own.std() <= close:
            continue
        if np.mean(np.abs(beside[there] - own) <= close) >= FAITHFUL:
            return word
    return None


def _unit(own: np.ndarray, logged: np.ndarray) -> tuple[float, float] | None:
    """Scale and shift that turn the environment's rewards into the log's, or None."""
    if own.std() < 1e-9:
        shift = float(np.median(logged - own))
        return (1.0, shift) if np.allclose(logged - own, shift, atol=1e-4) else None
    scale, shift = np.polyfit(own, logged, 1)
    left = np.var(logged - scale * own - shift) / max(np.var(logged), 1e-12)
    if left > STRAIGHT or abs(scale) < 1e-9:
        return None
    return float(scale), 0.0 if abs(shift) < 1e-3 * max(abs(scale), np.abs(logged).max()) else float(shift)


CHECKS: dict[str, Make] = {
    "dynamics": summary(dynamics),
    "action-off-by-one": summary(action_off_by_one),
    "reward-mismatch": summary(reward_mismatch),
}
