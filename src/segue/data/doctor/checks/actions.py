"""Actions: in the learner's unit, not at its bounds, and not held."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.core.log import TOLERANCE
from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.finding import Finding, Rows
from segue.data.recorded import Recorded

# Defaults of ours.
SLIGHT = 1e-3  # outside the bounds by less than this is rounding, and may be clipped
BOUND = 0.999
MANY, MOST, STUCK = 0.05, 0.5, 0.95  # shares of numbers at the bounds: a note, a warning, a column that is stuck
SMALL = 0.5  # largest |action| of a column below which its unit is asked about
HELD = 0.5  # share of rows that repeat the action before


class _Outside:
    """Actions outside [-1, 1]."""

    def __init__(self, case: Case) -> None:
        self.case, self.slight, self.far = case, Rows(), Rows()
        self.largest = 0.0

    def see(self, number: int, episode: Recorded) -> None:
        size = np.abs(np.nan_to_num(episode.action, nan=0.0, posinf=0.0, neginf=0.0)).max(1, initial=0.0)
        largest = float(size.max(initial=0.0))
        if largest > 1.0 + TOLERANCE:
            self.largest = max(self.largest, largest)
            self.far.add(number, size > 1.0 + SLIGHT)
            self.slight.add(number, (size > 1.0 + TOLERANCE) & (size <= 1.0 + SLIGHT))

    def judge(self) -> Iterator[Finding]:
        why = "Agents act in [-1, 1] and cannot learn from other actions: training on such a log is an error."
        if self.far.count:
            yield Finding(
                "error",
                f"actions outside [-1, 1], up to {self.largest:.4g}" + self._unit(),
                why,
                "Scale them from the environment's bounds: 2 (action - low) / (high - low) - 1.",
                self.far.count + self.slight.count,
                "rows",
                tuple(self.far.first),
                numbers={"largest": self.largest, "share": self.far.count / max(self.case.log.rows, 1)},
            )
        elif self.slight.count:
            yield Finding(
                "error",
                f"actions outside [-1, 1] by less than {SLIGHT:g}: rounding",
                why,
                "Clip them.",
                *self.slight.found,
                "clip-actions",
                {"episodes": len(self.slight.episodes)},
                self.slight.marked,
            )

    def _unit(self) -> str:
        """A word on the environment's own bounds, if they explain the range."""
        bounds = _bounds(self.case)
        if bounds is not None and np.abs(bounds).max() > 1.0 and self.largest <= np.abs(bounds).max() * (1 + SLIGHT):
            return f": they are in the environment's own unit (up to {np.abs(bounds).max():.4g})"
        return ""


def _bounds(case: Case) -> np.ndarray | None:
    """The environment's own bounds (2, A), of the task, or as the log names them."""
    if case.task is not None and case.simulator is not None:
        low, high = case.task.action_bounds
    elif case.facts.get("action"):
        low, high = (np.asarray(case.facts["action"][name], np.float64) for name in ("low", "high"))
    else:
        return None
    bounds = np.stack([low, high])
    return bounds if case.log.shape is not None and bounds.shape[1] == case.log.shape[1] else None


def unit(case: Case) -> Iterator[Finding]:
    """Actions that use a small part of [-1, 1] only: perhaps the environment's own unit, if its bounds are small."""
    log = case.log
    if log.shape is None or log.acted.count < 100:
        return
    largest = np.maximum(np.abs(log.acted.least), np.abs(log.acted.most))
    small = np.flatnonzero((largest < SMALL) & (log.acted.least < log.acted.most))
    if not len(small):
        return
    bounds = _bounds(case)
    own = bounds is not None and bool(np.allclose(np.abs(bounds[:, small]).max(0), largest[small], rtol=0.05))
    yield Finding(
        "warning" if own else "note",
        f"{len(small)} actions never exceed {largest[small].max():.3g} in absolute value"
        + (", which is the environment's own bound: they are not in [-1, 1]" if own else ""),
        "Agents act in [-1, 1]: in another unit, an action has a smaller or larger effect online than in the log.",
        "Scale them from the environment's bounds: 2 (action - low) / (high - low) - 1."
        if own
        else "Check that they were scaled from the environment's bounds.",
        len(small),
        "columns",
        numbers={"columns": small, "largest": largest[small]},
    )


class _Saturated:
    """Actions at the bounds."""

    def __init__(self, case: Case) -> None:
        self.rows, self.any = 0, 0
        self.columns = np.zeros(case.log.shape[1] if case.log.shape is not None else 0, np.int64)

    def see(self, number: int, episode: Recorded) -> None:
        at = np.abs(episode.action) > BOUND
        self.rows += len(at)
        self.any += int(at.any(1).sum())
        self.columns += at.sum(0)

    def judge(self) -> Iterator[Finding]:
        share = self.columns / max(self.rows, 1)
        if not len(share) or (share.mean() <= MANY and share.max() <= STUCK):
            return
        stuck = np.flatnonzero(share > STUCK)
        yield Finding(
            "warning" if share.mean() > MOST or len(stuck) else "note",
            f"{share.mean():.0%} of all action values are at a bound (beyond {BOUND:g})"
            + (f"; columns {', '.join(map(str, stuck))} nearly always" if len(stuck) else ""),
            "The density of a squashed policy is not finite at a bound, and cloning such actions moves the policy "
            "where its gradients vanish.",
            "This is usual for a policy whose noise was clipped.  Keep actions inside the bounds (readers do), and "
            "watch the actor's loss.",
            self.any,
            "rows",
            numbers={"share": share.mean(), "share by column": share, "rows": self.any / max(self.rows, 1)},
        )


class _Held:
    """Actions that are held over several rows."""

    def __init__(self, case: Case) -> None:
        self.pairs, self.same = 0, 0

    def see(self, number: int, episode: Recorded) -> None:
        action = episode.action
        # At the bounds two actions are the same without being held.
        same = (action[1:] == action[:-1]) & (np.abs(action[1:]) <= BOUND)
        self.pairs += len(same)
        self.same += int(same.all(1).sum())

    def judge(self) -> Iterator[Finding]:
        share = self.same / max(self.pairs, 1)
        if share > HELD:
            yield Finding(
                "warning",
                f"{share:.0%} of the rows repeat the previous action exactly",
                "The log was written faster than the policy acted, so a step spans several rows and values are wrong.",
                "Keep one row for each decision, and add up the rewards between them.",
                self.same,
                "rows",
                numbers={"share": share},
            )


CHECKS: dict[str, Make] = {
    "action-range": _Outside,
    "action-unit": summary(unit),
    "saturated-actions": _Saturated,
    "repeated-actions": _Held,
}
