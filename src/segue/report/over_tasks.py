"""Statistics over several tasks: scores and curves of many seeds on each, put together.

Source: Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical Precipice": interquartile
means over all runs of all tasks, intervals from a bootstrap that redraws seeds within each task, and performance
profiles.  A task is an array with its seeds on the leading axis; NaN means "not measured".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from segue.report.statistics import CELLS, Floats, Generator, interquartile_mean, percentiles


class Band(NamedTuple):
    """A curve and the ends of its interval at each of its points, each (K,)."""

    centre: Floats
    low: Floats
    high: Floats


def stratified_band(
    tasks: Sequence[ArrayLike], generator: Generator, resamples: int = 2000, level: float = 0.95
) -> Band:
    """Interquartile mean over all runs of all tasks at each of K points, and its percentile interval.

    `tasks`: one table (S_m, K) per task.  A resample draws whole seeds within each task, the same ones at every point.
    The interval is NaN where no task has two seeds.
    """
    tables = _tables(tasks)
    whole = np.concatenate(tables)
    centre = interquartile_mean(whole)
    if max(map(len, tables)) < 2:
        return Band(centre, np.full(len(centre), np.nan), np.full(len(centre), np.nan))
    drawn = [generator.integers(len(table), size=(resamples, len(table))) for table in tables]
    low, high = np.full(len(centre), np.nan), np.full(len(centre), np.nan)
    for part in _parts(len(centre), resamples * len(whole)):
        redrawn = np.concatenate([table[rows][:, :, part] for table, rows in zip(tables, drawn)], axis=1)
        low[part], high[part] = percentiles(interquartile_mean(redrawn, axis=1), 100 * (1 - level) / 2)
    return Band(centre, low, high)


def performance_profile(
    tasks: Sequence[ArrayLike],
    thresholds: ArrayLike,
    generator: Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Band:
    """Share of runs whose score is above each threshold (K,), each task weighing the same, with a pointwise interval.

    `tasks`: one array of scores (S_m,) per task, NaN left out.  This is the score distribution of Agarwal et al. (2021,
    section 4.2).  The curve of a method that is better everywhere lies above the others.
    """
    above = [(scores[:, None] > np.asarray(thresholds, np.float64)).astype(np.float64) for scores in _scores(tasks)]
    if not above:
        nothing = np.full(np.shape(thresholds), np.nan)
        return Band(nothing, nothing, nothing)
    centre = np.mean([table.mean(axis=0) for table in above], axis=0)
    if max(map(len, above)) < 2:
        return Band(centre, np.full(len(centre), np.nan), np.full(len(centre), np.nan))
    draws = np.zeros((resamples, len(centre)))
    for table in above:  # how often each seed is drawn, times what it has: a product of matrices
        times = generator.multinomial(len(table), np.full(len(table), 1 / len(table)), size=resamples)
        draws += times @ table / (len(table) * len(above))
    return Band(centre, *percentiles(draws, 100 * (1 - level) / 2))


def on_grid(environment_step: ArrayLike, curves: ArrayLike, grid: ArrayLike) -> Floats:
    """Curves (S, T) at other environment steps (K,), linear between evaluations, NaN outside a seed's own ones.

    Of several evaluations at one step, the last one counts.
    """
    x, points = np.asarray(environment_step, np.float64), np.asarray(grid, np.float64)
    out = np.full((len(np.asarray(curves)), len(points)), np.nan)
    for seed, row in enumerate(np.asarray(curves, np.float64)):
        known = np.flatnonzero(~np.isnan(row))
        steps, last = np.unique(x[known][::-1], return_index=True)
        if len(steps):
            out[seed] = np.interp(points, steps, row[known][::-1][last], left=np.nan, right=np.nan)
    return out


def _tables(tasks: Sequence[ArrayLike]) -> list[Floats]:
    """The tables, without seeds that have no number at all."""
    tables = [np.asarray(task, np.float64) for task in tasks]
    return [table[~np.isnan(table).all(axis=1)] for table in tables if not np.isnan(table).all()]


def _scores(tasks: Sequence[ArrayLike]) -> list[Floats]:
    found = [np.asarray(task, np.float64).ravel() for task in tasks]
    return [scores[np.isfinite(scores)] for scores in found if np.isfinite(scores).any()]


def _parts(columns: int, size: int) -> Iterator[slice]:
    """Slices of the columns that together hold at most CELLS numbers at once."""
    width = max(1, CELLS // max(size, 1))
    return (slice(start, start + width) for start in range(0, columns, width))
