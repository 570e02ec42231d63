"""Two episodes in one: steps inside an episode that are unlike all others of the log.

A step's score is the geometric mean of two distances: how far columns move, and how far they are from a linear rule
(`_Steps`).  A step into what looks like a start needs a lower score.  The simulator has the last word, if it can be
asked.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import Case, Make
from segue.data.doctor.finding import MARKS, Finding, shown
from segue.data.doctor.sample import Sample
from segue.data.recorded import Recorded

# Defaults of ours.
FAR = 8.0  # score of a jump; clean logs of locomotion, mazes and hands stay below 4.5
AGAIN = 1.25  # distance from the linear rule of a jump into a state that looks like a start
ROOM = 0.5  # by which the range of starts is widened, in its own widths
SPECIAL = 1e-3  # share of steps into a start above which a start is no special place
LATE = 10  # steps after which an episode has left its start
FEWEST = 1_000  # sampled steps
KEPT = 200  # jumps that are done again in the simulator
TAIL = 4.0  # multiple of the 99 % quantile at which the 99.9 % quantile is held, so that many jumps cannot hide
TRIMMED, NEAR = 2, 0.99  # rounds in which the rule is fitted anew to what is near it, and that share of each column
PART = 0.2  # of a usual step: less than this beside the rule is nothing, however exact the rule
WIDEST = 200  # columns for which the rule is fitted


class _Jumps:
    """Jumps inside episodes."""

    def __init__(self, case: Case) -> None:
        self.case, self.count = case, 0
        self.found: list[np.ndarray] = []
        self.kept = Sample(KEPT, 6)
        self.highest = 0.0
        self.steps: _Steps | None = None
        rows, log = case.sampled, case.log
        inner = rows["step"] < rows["length"] - 1 if rows else np.zeros(0, bool)
        if not log.flat or inner.sum() < FEWEST:
            return
        seen, then, action = (rows[name][inner] for name in ("observation", "following", "action"))
        self.steps = _Steps(seen, then, action, log.seen.mean, log.seen.std + 1e-6)
        starts = log.starts.columns()["observation"]
        if case.fits and case.simulator is not None:
            starts = np.concatenate([starts, case.simulator.resets])
        room = ROOM * np.ptp(starts, axis=0) + 1e-3 * log.seen.std
        self.low, self.high = starts.min(0) - room, starts.max(0) + room
        # Lost ends must not make a start look like any other place.
        usual = (rows["step"][inner] >= LATE) & (self.steps.measure(seen, then, action)[1] <= AGAIN)
        self.special = bool(usual.any()) and float(np.mean(self._start(then[usual]))) < SPECIAL

    def _start(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(((rows >= self.low) & (rows <= self.high)).all(1))

    def see(self, number: int, episode: Recorded) -> None:
        """Score every step but the last, whose next observation is `stitched`'s business."""
        if self.steps is None or len(episode) < 2:
            return
        seen, then, action = episode.current[:-1], episode.following[:-1], episode.action[:-1]
        plain, away = self.steps.measure(seen, then, action)
        with np.errstate(invalid="ignore", over="ignore"):  # of infinite numbers, which are another check's business
            # Without a rule, no distance is far: forces of contact are nearly always 0, and then huge.
            score = np.sqrt(plain * away) if self.steps.ruled else np.zeros(len(plain))
        again = (away > AGAIN) & self._start(then) & ~self._start(seen) & self.special
        bad = np.flatnonzero((score > FAR) | again)
        self.highest = max(self.highest, float(np.nan_to_num(score).max()))
        if not len(bad):
            return
        self.count += len(bad)
        marks = np.stack([np.full(len(bad), number), bad, again[bad]], 1)
        if self.count <= MARKS:
            self.found.append(marks)
        chosen = self.kept.draw(len(bad))
        rows = bad[chosen]
        self.kept.put(
            {"observation": seen[rows], "following": then[rows], "action": action[rows], "mark": marks[chosen]}
        )

    def judge(self) -> Iterator[Finding]:
        """One finding, of the jumps that the simulator does not make."""
        if not self.count:
            return
        found = np.concatenate(self.found) if self.found else self.kept.columns()["mark"]
        asked, true = self._true()
        if asked and len(true) > 0.5 * asked and self.count > KEPT:
            return
        known = {(int(e), int(s)) for e, s in true}
        found = found[[(int(e), int(s)) not in known for e, s in found[:, :2]]] if known else found
        count, starts = self.count - len(known), int(found[:, 2].sum())
        if not count:
            return
        certain = asked > 0 or starts > 0.5 * len(found)
        yield Finding(
            "error" if certain else "warning",
            f"{count} steps inside episodes are much larger than the log's usual steps"
            + (f", {starts} of them lead to a likely start state" if starts else "")
            + (", and the environment does not make them" if asked else ""),
            "Two episodes were written as one: the value of the next episode's start enters the step before it.",
            "End an episode at each of these steps, and drop the step.",
            count,
            "rows",
            shown(found[:, 0], found[:, 1]),
            "split-stitched" if certain and self.count <= MARKS else None,
            {"highest score": self.highest, "threshold": FAR, "into a start": starts, "done again": asked},
            np.concatenate([found[:, :2], np.ones((len(found), 1), np.int64)], 1),
        )

    def _true(self) -> tuple[int, np.ndarray]:
        """How many jumps the simulator was asked about, and which of them (K, 2) it makes as well."""
        case, rows = self.case, self.kept.columns()
        if case.simulator is None or case.replayed is None or not case.replayed.faithful:
            return 0, np.zeros((0, 2), np.int64)
        same = case.simulator.same(rows["observation"], rows["action"], rows["following"], case.log.seen.std)
        return int(np.isfinite(same).sum()), rows["mark"][same == 1.0, :2]


class _Steps:
    """Two measures of a step, each in multiples of what one step in a thousand exceeds, the largest of all columns.

    `plain`: how far columns move.  `away`: how far they are from a linear rule of the observation, the action and the
    other columns of the next observation, so that a position must move with its speed; `plain` again if there are
    too many columns for a rule.
    """

    def __init__(
        self, seen: np.ndarray, then: np.ndarray, action: np.ndarray, mean: np.ndarray, std: np.ndarray
    ) -> None:
        """Fit to steps (N, O), (N, O), (N, A) in a log with these means and deviations of columns (O,)."""
        self._mean, self._std = mean, std
        self._plain = _usual(np.abs(then - seen))
        self._rule: np.ndarray | None = None
        self._away = self._plain
        if seen.shape[1] > WIDEST:
            return
        self._rule = self._fit(seen, then, action)
        for _ in range(TRIMMED):
            away = self._residual(seen, then, action)
            near = (away <= np.quantile(away, NEAR, axis=0) + 1e-9).all(1)
            if near.sum() < 0.5 * len(near):
                break
            self._rule = self._fit(seen[near], then[near], action[near])
        self._away = np.maximum(_usual(self._residual(seen, then, action)), PART * self._plain / std)

    @property
    def ruled(self) -> bool:
        """Whether there is a rule."""
        return self._rule is not None

    def measure(self, seen: np.ndarray, then: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`plain` and `away` (T,) of steps; NaN where they hold NaN."""
        with np.errstate(invalid="ignore", over="ignore"):
            plain = (np.abs(then - seen) / self._plain).max(1)
            away = plain if self._rule is None else (self._residual(seen, then, action) / self._away).max(1)
        return plain, away

    def _features(self, seen: np.ndarray, then: np.ndarray, action: np.ndarray) -> np.ndarray:
        ones = np.ones((len(seen), 1))
        return np.concatenate([(seen - self._mean) / self._std, (then - self._mean) / self._std, action, ones], axis=1)

    def _fit(self, seen: np.ndarray, then: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Weights (F, O) of the step; a column's own next value has weight 0."""
        columns = np.arange(seen.shape[1])
        own = columns + len(columns)
        x, y = self._features(seen, then, action), (then - seen) / self._std
        wanted = x.T @ y / len(x)
        wanted[own, columns] = 0.0
        # The inverse without a row and column is that of the whole less one outer product: no solve for each column.
        inverse = np.linalg.inv(x.T @ x / len(x) + 1e-6 * np.eye(x.shape[1]))
        weights = inverse @ wanted
        return np.asarray(weights - inverse[:, own] * (weights[own, columns] / inverse[own, own]))

    def _residual(self, seen: np.ndarray, then: np.ndarray, action: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs((then - seen) / self._std - self._features(seen, then, action) @ self._rule))


def _usual(size: np.ndarray) -> np.ndarray:
    """What one step in a thousand exceeds, for each column; infinite for a column that nearly never moves."""
    usual = np.minimum(np.quantile(size, 0.999, axis=0), TAIL * np.quantile(size, 0.99, axis=0))
    return np.where(usual > 0, usual, np.inf)


CHECKS: dict[str, Make] = {"jumps": _Jumps}
