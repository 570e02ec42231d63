"""Numbers that cannot be learned from: not finite, or absurd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from segue.core.observations import reals
from segue.data.doctor.case import Case, Entry
from segue.data.doctor.finding import SHOWN, Finding
from segue.data.doctor.log import finite
from segue.data.recorded import Recorded

# Defaults of ours.
SPIKE = 10.0  # widths of a column's usual range (99.8 % of the rows) beyond its edge


@dataclass
class Rows:
    """Counts rows that are at fault, and keeps the first few."""

    count: int = 0
    episodes: list[int] = field(default_factory=list)
    first: list[tuple[int, int]] = field(default_factory=list)

    def add(self, number: int, bad: np.ndarray) -> None:
        """Add flags (T,) of an episode."""
        steps = np.flatnonzero(bad)
        if len(steps):
            self.count += len(steps)
            self.episodes.append(number)
            self.first += [(number, int(s)) for s in steps[: SHOWN - len(self.first)]]

    @property
    def marked(self) -> np.ndarray:
        """The episodes, as a mend wants them."""
        return np.stack([np.asarray(self.episodes, np.int64), np.zeros(len(self.episodes), np.int64)], 1)


class NotFinite:
    """NaN, or infinity."""

    def __init__(self, code: str, title: str, test: Callable[[np.ndarray], np.ndarray]) -> None:
        self.code, self.title, self.test = code, title, test
        self.found: dict[str, Rows] = {name: Rows() for name in ("observation", "action", "reward")}

    def see(self, number: int, episode: Recorded) -> None:
        """Look at every number."""
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
        """One finding for each array."""
        for name, rows in self.found.items():
            if rows.count:
                yield Finding(
                    self.code,
                    "error",
                    f"{self.title} in '{name}'",
                    "One such number makes every weight NaN at the first batch that holds it.",
                    "Drop these episodes, or repair the log where it was written.",
                    rows.count,
                    "rows",
                    tuple(rows.first),
                    "drop-broken",
                    {"episodes": len(rows.episodes)},
                    rows.marked,
                )


def events(rows: np.ndarray) -> np.ndarray:
    """Columns (O,) of sampled rows (K, O) that mostly stand at one end, and tell of events: forces of contact."""
    few, half, many = np.quantile(rows, [0.01, 0.5, 0.99], axis=0)
    return np.asarray((half <= few) | (half >= many))


class Outliers:
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
        """Compare with the bounds."""
        if self.bounds is not None:
            seen = episode.current
            far = (seen < self.bounds[0]) | (seen > self.bounds[1])
            self.rows.add(number, far.any(1))
            self.columns += far.sum(0)

    def judge(self) -> Iterator[Finding]:
        """One finding."""
        if self.rows.count:
            yield Finding(
                "outliers",
                "warning",
                f"observations more than {SPIKE:g} times a column's usual range outside of it",
                "A network sees nothing else in such a row, and a glitch that nobody acted on teaches a wrong value.",
                "Look at these rows; drop their episodes if a sensor failed.",
                self.rows.count,
                "rows",
                tuple(self.rows.first),
                numbers={"columns": {str(c): int(self.columns[c]) for c in np.flatnonzero(self.columns)}},
            )


CHECKS: dict[str, Entry] = {
    "nan": Entry("NaN", lambda case: NotFinite("nan", "NaN", np.isnan)),
    "infinite": Entry("infinity", lambda case: NotFinite("infinite", "infinity", np.isinf)),
    "outliers": Entry("observations far outside a column's usual range", Outliers),
}
