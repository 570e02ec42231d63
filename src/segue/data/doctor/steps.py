"""How far a step is from what steps of a log usually are."""

from __future__ import annotations

import numpy as np

# Defaults of ours.
TAIL = 4.0  # multiple of the 99 % quantile at which the 99.9 % quantile is held, so that many jumps cannot hide
TRIMMED, NEAR = 2, 0.99  # rounds in which the rule is fitted anew to what is near it, and that share of each column
PART = 0.2  # of a usual step: less than this beside the rule is nothing, however exact the rule
WIDEST = 200  # columns for which the rule is fitted


class Steps:
    """Two measures of a step, each in multiples of what one step in a thousand exceeds, the largest of all columns.

    `plain`: how far columns move.  `away`: how far they are from a linear rule of the observation, the action and the
    other columns of the next observation, so that a position must move with its speed; `plain` again where there are
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
        """Weights (F, O) of the step, where a column's own next value is not looked at."""
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
