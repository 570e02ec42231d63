"""Statistics over seeds: interquartile means, bootstrap intervals, improvement, the two regrets, the dip.

Seeds are the leading axis, NaN means "not measured", and every random choice comes from a generator that the caller
gives.  The aggregates are those that Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", argue for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Generator = np.random.Generator

RESAMPLING_SEED = 0  # the same folders give the same report, to the letter
CELLS = 2_000_000  # numbers held at once by a bootstrap; bounds its memory, not its result


class Interval(NamedTuple):
    """An estimate and the ends of its interval."""

    point: float
    low: float
    high: float


class Dip(NamedTuple):
    """What the hand-over cost, in the curve's units and in environment steps."""

    value: float  # at the switch
    depth: float  # value minus the minimum before recovery; 0 where the curve does not fall
    length: float | None  # environment steps from the switch until back at `value`; None: never within the run


def resampling() -> Generator:
    """Return a new generator, for each interval of a report: equal data then show equal intervals."""
    return np.random.default_rng(RESAMPLING_SEED)


def interquartile_mean(values: ArrayLike, axis: int = 0) -> Floats:
    """Mean of what is left after cutting floor(n / 4) values from each end of the n finite ones along `axis`.

    Shape: `values` without `axis`; NaN where nothing is finite.  With three seeds or fewer it is the mean.
    """
    ordered = np.sort(np.moveaxis(np.asarray(values, np.float64), axis, 0), axis=0)  # NaN goes last
    count = np.sum(~np.isnan(ordered), axis=0)
    cut = count // 4
    rank = np.arange(len(ordered)).reshape((-1,) + (1,) * (ordered.ndim - 1))
    kept = (rank >= cut) & (rank < count - cut)
    total = np.sum(np.where(kept, ordered, 0.0), axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count - 2 * cut, 1), np.nan))


def bootstrap_band(
    values: ArrayLike, generator: Generator, resamples: int = 2000, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Percentile bootstrap of the interquartile mean over seeds (Efron 1979): (low, high), each of shape (...).

    `values` (S, ...): a resample draws S whole seeds with replacement, the same ones at every time point, so that
    the band respects that a seed's curve is one thing.
    """
    table = np.asarray(values, np.float64)
    flat = table.reshape(len(table), -1)
    drawn = generator.integers(len(flat), size=(resamples, len(flat)))
    tail = 100 * (1 - level) / 2
    low, high = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
    width = max(1, CELLS // drawn.size)
    for start in range(0, flat.shape[1], width):
        part = slice(start, start + width)
        low[part], high[part] = percentiles(interquartile_mean(flat[drawn, part], axis=1), tail)
    return low.reshape(table.shape[1:]), high.reshape(table.shape[1:])


def interval(values: ArrayLike, generator: Generator, resamples: int = 2000) -> Interval:
    """Interquartile mean of `values` (S,) and its 95 % bootstrap interval over seeds."""
    return stratified_bootstrap([values], generator, resamples)


def stratified_bootstrap(
    tasks: Sequence[ArrayLike], generator: Generator, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Interquartile mean over all runs of all tasks, with seeds redrawn within each task (Agarwal et al. 2021).

    `tasks`: one array (S_m,) of normalised scores per task; the numbers of seeds may differ; NaN entries are left out.
    The interval is NaN where no task has two seeds: one run shows no spread.
    """
    strata = [stratum for stratum in (_finite(task) for task in tasks) if len(stratum)]
    if not strata:
        return Interval(np.nan, np.nan, np.nan)
    if max(map(len, strata)) < 2:
        return Interval(float(interquartile_mean(np.concatenate(strata))), np.nan, np.nan)
    draws = [stratum[generator.integers(len(stratum), size=(resamples, len(stratum)))] for stratum in strata]
    low, high = percentiles(interquartile_mean(np.concatenate(draws, axis=1), axis=1), 100 * (1 - level) / 2)
    return Interval(float(interquartile_mean(np.concatenate(strata))), float(low), float(high))


def probability_of_improvement(
    better: Sequence[ArrayLike], baseline: Sequence[ArrayLike], generator: Generator, resamples: int = 2000
) -> Interval:
    """P(a run of `better` beats a run of `baseline`), ties counted half, averaged over tasks, with 95 % interval.

    Both: one array of scores per task, in the same order of tasks; the two numbers of seeds may differ.  This is the
    Mann-Whitney statistic divided by its maximum, stratified by task (Agarwal et al. 2021, section 4.3).
    """
    points, draws = [], []
    for ours, theirs in zip(better, baseline, strict=True):
        x, y = _finite(ours), _finite(theirs)
        if not (len(x) and len(y)):
            continue
        points.append(float(_wins(x[None], y[None])[0]))
        rows = x[generator.integers(len(x), size=(resamples, len(x)))]
        columns = y[generator.integers(len(y), size=(resamples, len(y)))]
        draws.append(_wins(rows, columns))
    if not points:
        return Interval(np.nan, np.nan, np.nan)
    low, high = percentiles(np.mean(draws, axis=0), 2.5)
    return Interval(float(np.mean(points)), float(low), float(high))


def evaluation_regret(environment_step: ArrayLike, success: ArrayLike) -> Floats:
    """One minus the mean evaluation success over the online part.

    `environment_step` (T,) does not decrease, `success` (S, T) in 0..1; result (S,).  The mean is the trapezoidal
    integral over environment steps divided by their span, so that unevenly spaced evaluations are weighed rightly;
    NaN for a seed without two evaluations at different steps.  This is the cumulative regret of Nakamoto et al.
    (2023), Cal-QL, and is not the failure rate of training episodes.
    """
    x, table = np.asarray(environment_step, np.float64), np.atleast_2d(np.asarray(success, np.float64))
    regret = np.full(len(table), np.nan)
    for seed, row in enumerate(table):
        known = ~np.isnan(row)
        span = np.ptp(x[known]) if known.any() else 0.0
        if span > 0:
            regret[seed] = 1.0 - np.trapezoid(row[known], x[known]) / span
    return regret


def training_failure_rate(success: ArrayLike) -> float:
    """One minus the mean success of completed training episodes `success` (E,).

    It includes exploration noise, unlike `evaluation_regret`.  NaN where no episode was completed.
    """
    finished = _finite(success)
    return float(1.0 - finished.mean()) if len(finished) else float("nan")


def dip(environment_step: ArrayLike, curve: ArrayLike) -> Dip:
    """How deep and for how long a curve (T,) falls below its first value, the value at the switch.

        value ->  *                 *  <- first evaluation that is not below: recovered, length = its step
                    \\      _      /
                      \\__/  \\__/      <- depth = value - minimum before recovery

    The first evaluation after the switch decides whether there is a dip: a collapse after an improvement does not
    count.  The length is as coarse as the evaluations are apart.  NaN points are skipped.
    """
    x, y = np.asarray(environment_step, np.float64), np.asarray(curve, np.float64)
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    if len(y) == 0:
        return Dip(float("nan"), float("nan"), None)
    value, after = float(y[0]), y[1:]
    back = np.flatnonzero(after >= value)
    before = after[: back[0]] if len(back) else after
    if len(before) == 0:
        return Dip(value, 0.0, 0.0)
    return Dip(value, value - float(before.min()), float(x[1 + back[0]] - x[0]) if len(back) else None)


def fall(curves: ArrayLike) -> Interval:
    """Mean fall of seeds after the switch, without the bias of a minimum, with a 95 % interval over seeds.

    `curves` (S, T): column 0 is the evaluation at the switch, the others follow it.  The lowest of several noisy
    evaluations lies below the switch even where nothing has happened.  So each seed's fall is read at the evaluation
    where the mean of the *other* seeds is lowest before it recovers: the seed's own noise does not choose it.  Point:
    mean of these falls, below 0 for a rise.  Interval: Student's t over seeds; NaN with fewer than three, which cannot
    tell a fall from noise.  (Default of ours; the choice by the others is cross-fitting, Chernozhukov et al. 2018.)
    """
    table = np.asarray(curves, np.float64)
    table = table[~np.isnan(table).any(axis=1)]
    seeds = len(table)
    if seeds < 2 or table.shape[1] < 2:
        return Interval(np.nan, np.nan, np.nan)
    others = (table.sum(axis=0) - table) / (seeds - 1)
    falls = np.array([row[0] - row[_lowest_before_recovery(other)] for row, other in zip(table, others)])
    if seeds < 3:
        return Interval(float(falls.mean()), np.nan, np.nan)
    from scipy.special import stdtrit  # here, since it would be a tenth of the time of `import segue`

    point, reach = float(falls.mean()), float(stdtrit(seeds - 1, 0.975) * falls.std(ddof=1) / np.sqrt(seeds))
    return Interval(point, point - reach, point + reach)


def _lowest_before_recovery(curve: Floats) -> int:
    """Column of the lowest value before a curve is back at its first; 1 where it never is below."""
    back = np.flatnonzero(curve[1:] >= curve[0])
    stop = 1 + (int(back[0]) if len(back) else len(curve) - 1)
    return 1 if stop == 1 else 1 + int(np.argmin(curve[1:stop]))


def value_error(
    error: Sequence[ArrayLike], weight: Sequence[ArrayLike], generator: Generator, resamples: int = 2000
) -> Interval:
    """Mean error of values, above 0 where they exceed the returns, with a 99 % interval over episodes.

    `error` and `weight`: for each seed its episodes' sums over rows (E,), see `segue.engine.diagnostics`.  Point: the
    total error over the total weight, of the seeds in the middle: a quarter of them is left out at each end, as in an
    interquartile mean, so that one seed that has blown up does not speak for all.  Interval: bootstrap-t over episodes
    (Efron and Tibshirani 1993, section 12.5).  It follows the skew of sums over episodes that end by chance, for which
    Student's t at 95 % accuses an exact critic in one of ten trials.  NaN with fewer than three episodes.
    """
    pairs = [(np.asarray(e, np.float64), np.asarray(w, np.float64)) for e, w in zip(error, weight, strict=True)]
    pairs = [(e, w) for e, w in pairs if len(e) and np.isfinite(e).all() and w.sum() > 0]
    if not pairs:
        return Interval(np.nan, np.nan, np.nan)
    pairs.sort(key=lambda pair: float(pair[0].sum() / pair[1].sum()))
    cut = len(pairs) // 4
    above, weights = (np.concatenate(columns) for columns in zip(*pairs[cut : len(pairs) - cut]))
    n = len(above)
    point, spread = (float(x) for x in _ratio(above, weights))
    if n < 3:
        return Interval(point, np.nan, np.nan)
    drawn = generator.integers(n, size=(resamples, n))
    ratios, spreads = _ratio(above[drawn], weights[drawn])
    known = spreads > 0
    if not known.any():  # every episode is like the others
        return Interval(point, point, point)
    low, high = percentiles((ratios[known] - point) / spreads[known], 0.5)
    return Interval(point, point - float(high) * spread, point - float(low) * spread)


def _ratio(above: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Ratio of totals over the last axis, and its linearised standard error."""
    n, total = above.shape[-1], weights.sum(-1)
    ratio = above.sum(-1) / total
    left = above - ratio[..., None] * weights
    return np.asarray(ratio), np.sqrt(np.sum(np.square(left), -1) * n / max(n - 1, 1)) / total


def _finite(values: ArrayLike) -> Floats:
    flat = np.asarray(values, np.float64).ravel()
    return flat[np.isfinite(flat)]


def _wins(x: Floats, y: Floats) -> Floats:
    """Share of pairs (R,) that rows of `x` (R, S) win against rows of `y` (R, S')."""
    difference = x[:, :, None] - y[:, None, :]
    return np.asarray(np.mean((difference > 0) + 0.5 * (difference == 0), axis=(1, 2)))


def percentiles(draws: Floats, tail: float) -> tuple[Floats, Floats]:
    """Both ends of the middle of `draws` (R, ...), draws that are NaN left out; NaN where all are."""
    ordered = np.sort(draws, axis=0)
    last = np.sum(~np.isnan(ordered), axis=0) - 1

    def at(percent: float) -> Floats:
        position = np.maximum(last, 0) * percent / 100
        below = np.floor(position).astype(int)
        above = np.minimum(below + 1, np.maximum(last, 0))
        lower = np.take_along_axis(ordered, np.expand_dims(below, 0), axis=0)[0]
        upper = np.take_along_axis(ordered, np.expand_dims(above, 0), axis=0)[0]
        return np.asarray(lower + (upper - lower) * (position - below))

    return at(tail), at(100 - tail)
