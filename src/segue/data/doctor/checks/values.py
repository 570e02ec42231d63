"""Numbers that cannot be learned from: not finite, or absurd."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from segue.core.observations import reals
from segue.data.doctor.case import Case, Make
from segue.data.doctor.finding import Finding, Rows
from segue.data.doctor.log import finite
from segue.data.recorded import Recorded

# Defaults of ours.
SPIKE = 10.0  # widths of a column's usual range (99.8 % of the rows) beyond its edge


class _NotFinite:
    """NaN, or infinity."""

    def __init__(self, title: str, test: Callable[[np.ndarray], np.ndarray]) -> None:
        self.title, self.test = title, test
        self.found: dict[str, Rows] = {name: Rows() for name in ("observation", "action", "reward")}

    def see(self, number: int, episode: Recorded) -> None:
        seen, then = (reals(episode.made_of, rows) for rows in (episode.current, episode.following))
        arrays = (seen, episode.action, episode.reward, then)
        if all(finite(array).all() for array in arrays):
            return
        current, following = self._bad(seen), self._bad(then)
        self.found["observation"].add(number, current | following)
        self.found["action"].add(number, self._bad(episode.action))
        self.found["reward"].add(number, self._bad(episode.reward))

    def _bad(self, rows: np.ndarray) -> np.ndarray:
        if rows.dtype.kind != "f":
            return np.zeros(len(rows), bool)
        return np.asarray(self.test(rows).reshape(len(rows), -1).any(1))

    def judge(self) -> Iterator[Finding]:
        for name, rows in self.found.items():
            if rows.count:
                yield Finding(
                    "error",
                    f"{self.title} in '{name}'",
                    "One such number makes all weights NaN in the first batch with it.",
                    "Drop these episodes, or repair the log where it was written.",
                    *rows.found,
                    "drop-broken",
                    {"episodes": len(rows.episodes)},
                    rows.marked,
                )


def events(rows: np.ndarray) -> np.ndarray:
    """Columns (O,) of sampled rows (K, O) that mostly stand at one end, and tell of events: forces of contact."""
    few, half, many = np.quantile(rows, [0.01, 0.5, 0.99], axis=0)
    return np.asarray((half <= few) | (half >= many))


class _Outliers:
    """Observations far outside a column's usual range: a sensor's glitch, another unit, a placeholder such as 1e9."""

    def __init__(self, case: Case) -> None:
        self.rows, self.columns = Rows(), np.zeros(0, np.int64)
        sampled = case.sampled.get("observation")
        self.bounds = None
        if case.log.flat and sampled is not None and len(sampled) >= 1_000:
            low, high = np.quantile(sampled, [0.001, 0.999], axis=0)
            if case.fits and case.simulator is not None:
                own = case.simulator.rollouts.observation
                low, high = np.minimum(low, own.min(0)), np.maximum(high, own.max(0))
            width = np.where(events(sampled), np.inf, high - low)  # of events, no size is unusual
            self.bounds = (low - SPIKE * width, high + SPIKE * width)
            self.columns = np.zeros(sampled.shape[1], np.int64)

    def see(self, number: int, episode: Recorded) -> None:
        if self.bounds is not None:
            seen = episode.current
            far = (seen < self.bounds[0]) | (seen > self.bounds[1])
            self.rows.add(number, far.any(1))
            self.columns += far.sum(0)

    def judge(self) -> Iterator[Finding]:
        if self.rows.count:
            yield Finding(
                "warning",
                f"observations are outside their column's usual range by more than {SPIKE:g} times its width",
                "Such a value dominates the network's input, and a sensor error leads to wrong values.",
                "Look at these rows; drop their episodes if a sensor failed.",
                *self.rows.found,
                numbers={"columns": {str(c): int(self.columns[c]) for c in np.flatnonzero(self.columns)}},
            )


CHECKS: dict[str, Make] = {
    "nan": lambda case: _NotFinite("NaN", np.isnan),
    "infinite": lambda case: _NotFinite("infinity", np.isinf),
    "outliers": _Outliers,
}
