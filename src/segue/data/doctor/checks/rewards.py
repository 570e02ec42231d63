"""Rewards: there, in the right row, and in a range that values can hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.core.scaling import Scaling, returns_to_go
from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.finding import Finding, Rows, counted
from segue.data.recorded import Recorded

# Defaults of ours.
LEAST = 3  # episodes
HIGHEST, LOWEST = 1e4, 1e-2  # largest return-to-go beyond which a critic has trouble
LEFT = 1e-4  # share of a reward's variance that a linear rule may leave to rounding
BETTER = 2.0  # times as much is left unexplained in the reward's own row as in another one
EXPLAINED = 0.05  # share of a reward's variance that the better row may leave: a linear rule must fit
FEWEST = 1_000  # sampled rows
ROUNDING = 1e-6  # of rewards, in their largest size
SPIKE = 10.0  # widths of the rewards' usual range (99.8 % of the rows) beyond its edge
WIDEST = 200  # columns of an observation for which rewards are explained


def same_reward(case: Case) -> Iterator[Finding]:
    """The same reward in all rows."""
    values = case.log.values
    if values is not None and len(values) == 1:
        (value,) = values
        sparse = case.task is not None and case.task.failure == value
        cure = "Add episodes that succeed." if sparse else "Check how rewards were logged."
        if "rewards" in case.facts.get("notes", {}) and not sparse:  # a reader found none
            cure = "The log has no rewards: name the task that it should have them of (OGBench: ogbench:PATH?task=ENV)."
        yield Finding(
            "warning" if sparse else "error",
            f"every row has the reward {value:g}",
            "No action is better than another, so the agent can only imitate.",
            cure,
            case.log.rows,
            "rows",
        )


def same_return(case: Case) -> Iterator[Finding]:
    """The same return in all episodes."""
    total = case.log.index["total"][case.log.sound]
    several = case.log.values is None or len(case.log.values) > 1
    if not several or len(total) < LEAST:
        return
    reward = max(abs(float(case.log.rewarded.least[0])), abs(float(case.log.rewarded.most[0])))
    rounding = ROUNDING * reward * float(case.log.index["length"].max())
    if np.ptp(total) <= rounding:
        yield Finding(
            "warning",
            f"all episodes have the return {total[0]:.6g}",
            "No episode is better than another, and scaling.reward_span divides by the difference, which is 0.",
            "Check that rewards were not replaced by a constant; do not use scaling.reward_span.",
            len(total),
            "episodes",
        )


def off_by_one(case: Case) -> Iterator[Finding]:
    """Rewards that belong to the row before or after."""
    return _sparse_off_by_one(case) if case.failure is not None else _dense_off_by_one(case)


_LATE = "Each action gets the reward of another action, so the critic learns wrong values."
_SHIFT = "Shift the rewards by one row within each episode."


def _sparse_off_by_one(case: Case) -> Iterator[Finding]:
    """Success is paid one row before an end, or in the first row of the next episode."""
    index, sound, failure = case.log.index, case.log.sound, case.failure
    ended = index["terminated"] & sound & (index["reward_last"] == failure) & (index["length"] > 1)
    once = index["hits"] == 1
    early = ended & once & (index["reward_before_last"] > failure)
    late = ended[:-1] & (index["reward_first"] > failure)[1:] & sound[1:]
    right = int((index["terminated"] & sound & (index["reward_last"] > failure)).sum())
    for where, at in (("one row too early", early), ("in the first row of the next episode", late)):
        episodes = np.flatnonzero(at)
        if len(episodes) >= LEAST and len(episodes) > right:
            yield Finding(
                "error",
                f"{len(episodes)} episodes end without reward, and the reward of success is {where}",
                _LATE,
                _SHIFT,
                *counted("episodes", episodes, index["length"][episodes] - 1),
                numbers={"terminated with success": right},
            )


def _dense_off_by_one(case: Case) -> Iterator[Finding]:
    """The step of the row before or after explains the reward better, by a linear rule, than the row's own."""
    rows = case.sampled
    if case.replayed is not None and case.replayed.faithful and case.replayed.rewarded:
        return  # then the simulator says it exactly
    if not case.log.flat or not rows or rows["observation"].shape[1] > WIDEST:
        return
    rewards = np.stack([rows["before_reward"], rows["reward"], rows["after_reward"]], 1).astype(np.float64)
    kept = np.isfinite(rewards).all(1)
    if kept.sum() < FEWEST:
        return
    x = np.concatenate([rows[name][kept] for name in ("observation", "action", "following")], 1).astype(np.float64)
    x, y = (x - x.mean(0)) / (x.std(0) + 1e-9), rewards[kept] - rewards[kept].mean(0)
    weights = np.linalg.solve(x.T @ x + 1e-6 * len(x) * np.eye(x.shape[1]), x.T @ y)
    left = ((y - x @ weights) ** 2).mean(0) / (y.var(0) + 1e-12)
    best = int(np.argmin(left))
    if best == 1 or left[best] > EXPLAINED or left[1] < max(BETTER * left[best], LEFT):
        return
    yield Finding(
        "warning",
        f"rewards belong to the step of the row {'after' if best == 0 else 'before'} theirs",
        _LATE,
        _SHIFT,
        case.log.rows,
        "rows",
        numbers={"unexplained by the step after, the row's own, before": left},
    )


class _RewardOutliers:
    """Rewards far outside their usual range."""

    def __init__(self, case: Case) -> None:
        self.rows, self.bounds = Rows(), (-np.inf, np.inf)
        rewards = case.sampled.get("reward")
        if rewards is not None and len(rewards) >= FEWEST and case.log.values is None:
            low, high = np.quantile(rewards.astype(np.float64), [0.001, 0.999])
            self.bounds = (low - SPIKE * (high - low), high + SPIKE * (high - low))

    def see(self, number: int, episode: Recorded) -> None:
        self.rows.add(number, (episode.reward < self.bounds[0]) | (episode.reward > self.bounds[1]))

    def judge(self) -> Iterator[Finding]:
        if self.rows.count:
            yield Finding(
                "warning",
                f"rewards are outside their usual range by more than {SPIKE:g} times its width",
                "The squared error of such a reward outweighs those of thousands of others.",
                "Look at these rows: clip rewards that are true, drop the episodes of false ones.",
                *self.rows.found,
                numbers={"usual": self.bounds},
            )


class _ValueRange:
    """Returns that a critic cannot hold: far from 1 in the learner's scaling."""

    def __init__(self, case: Case) -> None:
        self.case, self.scaling = case, case.scaling or Scaling()
        self.largest, self.rows = 0.0, Rows()
        self.open = self.scaling.reward_span is not None  # the data set the scale

    def see(self, number: int, episode: Recorded) -> None:
        if self.open or not np.isfinite(episode.reward).all():
            return
        ends = np.zeros(len(episode), bool)
        ends[-1] = episode.terminated
        size = np.abs(returns_to_go(episode.reward, ends, self.scaling))
        self.largest = max(self.largest, float(size.max()))
        self.rows.add(number, size > HIGHEST)

    def judge(self) -> Iterator[Finding]:
        values = self.case.log.values
        if self.open or not self.case.log.sound.any() or (values is not None and set(values) == {0.0}):
            return
        small = self.largest < LOWEST
        if not self.rows.count and not small:
            return
        reward = np.concatenate([self.case.log.rewarded.least, self.case.log.rewarded.most])
        bound = np.abs(self.scaling.reward_scale * reward + self.scaling.reward_shift).max() / (
            1.0 - self.scaling.discount
        )
        yield Finding(
            "warning",
            f"returns-to-go reach {self.largest:.3g} in the learner's scaling (discount {self.scaling.discount:g})",
            "Values so small are dominated by entropy bonuses and penalties."
            if small
            else "Critics start near 0, and with squared errors of this size they diverge or take very long.",
            "Choose scaling.reward_scale so that returns are between 1 and 1,000.",
            self.rows.count or self.case.log.rows,
            "rows",
            tuple(self.rows.first),
            numbers={
                "largest": self.largest,
                "bound": bound,
                "scale": self.scaling.reward_scale,
                "shift": self.scaling.reward_shift,
            },
        )


CHECKS: dict[str, Make] = {
    "same-reward": summary(same_reward),
    "same-return": summary(same_return),
    "reward-off-by-one": summary(off_by_one),
    "reward-outliers": _RewardOutliers,
    "value-range": _ValueRange,
}
