"""Which of two deserves trust at the switch: the pre-trained policy, or the dataset that it comes from.

"The Three Regimes of Offline-to-Online RL" (arXiv 2510.01460) compares the pre-trained policies' mean return with the
mean return of the dataset's episodes, by a t-test with the margin 0.05.  The paper's kind of test and unit were not to
be had, so these are defaults of ours: Welch's test, one-sided at 5 % on each side, in the unit of a normalised score
from 0 to 1 or of success.  A task with neither has a unit of ours: the dataset's best return minus its worst.

The paper calls comparable whatever is neither superior nor inferior.  Here it needs an interval within the margin;
where the interval reaches over an end of the margin, the data do not say which regime it is.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from segue.report.run import Logged, Run
from segue.report.statistics import Interval

MARGIN = 0.05
LEVEL = 0.05  # of each of the two one-sided tests: together they are a 90 % interval
NOWHERE = Interval(np.nan, np.nan, np.nan)
Name = Literal["superior", "comparable", "inferior", "unknown"]


class Spread(NamedTuple):
    """Mean and standard deviation (divided by their number) of so many independent values."""

    mean: float
    std: float
    number: int


class Regime(NamedTuple):
    """What the comparison says; `name` is the regime of the pre-trained policies."""

    name: Name
    why: str = ""  # where it is unknown
    quantity: str = ""  # success, score or return: the unit of what follows
    policy: float = np.nan  # mean over seeds
    data: float = np.nan  # mean over the dataset's episodes
    difference: Interval = NOWHERE  # policy minus data, with the ends of its 90 % interval
    margin: float = np.nan


def regime(policy_returns: ArrayLike, data: Spread, margin: float = MARGIN, shares_of: int = 0) -> Regime:
    """Compare the seeds' mean returns (S,) with the returns of a dataset's episodes.

    Seeds are the independent values: episodes of one policy are not.  `shares_of` is the number of episodes per seed
    where returns are successes.  Equal seeds then still have the spread of so many throws of a coin.
    """
    known = np.asarray(policy_returns, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return Regime("unknown", "the pre-trained policy was not evaluated at the switch")
    if data.number < 2 or not np.isfinite([data.mean, data.std]).all():
        return Regime("unknown", "the spread of the returns of the dataset's episodes is not known")
    policy, seeds = float(known.mean()), len(known)
    point = policy - data.mean
    if seeds < 2:
        said = "one seed does not say how much pre-trained policies differ"
        return Regime("unknown", said, "", policy, data.mean, Interval(point, np.nan, np.nan), margin)
    ours, theirs = float(known.var(ddof=1)) / seeds, data.std**2 / (data.number - 1)
    if shares_of:
        ours = max(ours, _throws(policy, seeds * shares_of))
        theirs = max(theirs, _throws(data.mean, data.number))
    half = _half(ours, seeds, theirs, data.number)
    low, high = point - half, point + half
    inside = -margin <= low and high <= margin
    name: Name = "superior" if low > margin else "inferior" if high < -margin else "comparable" if inside else "unknown"
    why = "" if name != "unknown" else "the interval of the difference reaches over an end of the margin"
    return Regime(name, why, "", policy, data.mean, Interval(point, low, high), margin)


def regime_of(run: Run, quantity: str, at_switch: ArrayLike, evaluated: bool) -> Regime:
    """The regime of a run from the seeds' values (S,) of success, score or return at its switch.

    `evaluated` says whether these are of the end of its last offline phase.
    """
    logged, values = run.logged, np.asarray(at_switch, np.float64)
    if logged is None:
        return Regime("unknown", "the run has no dataset, or an earlier version of Segue did not describe it")
    if not evaluated:
        return Regime("unknown", "the pre-trained policy was not evaluated at the switch")
    data, scale = logged_in(logged, quantity), 100.0 if quantity == "score" else 1.0
    width = logged.high - logged.low if quantity == "return" else 1.0
    if width <= 0:
        return Regime("unknown", "all episodes of the dataset have the same return, and the task has no score")
    found = regime(values / scale, data, MARGIN * width, run.evaluation_episodes if quantity == "success" else 0)
    return found._replace(quantity=quantity)


def logged_in(logged: Logged, quantity: str) -> Spread:
    """A dataset's episodes in the unit of a quantity, scores from 0 to 1; NaN where they are not known in it."""
    if quantity == "success":
        share = logged.success
        return Spread(share, float(np.sqrt(share * (1.0 - share))), logged.episodes)
    low, high = logged.reference if quantity == "score" and logged.reference is not None else (0.0, 1.0)
    return Spread((logged.mean - low) / (high - low), logged.std / abs(high - low), logged.episodes)


def _throws(share: float, count: int) -> float:
    """Squared standard error of a share of throws, with one more of each kind: never 0 (Agresti and Coull 1998)."""
    likely = (share * count + 1.0) / (count + 2.0)
    return likely * (1.0 - likely) / count


def _half(ours: float, seeds: int, theirs: float, episodes: int) -> float:
    """Half of Welch's interval for a difference of two means with these squared standard errors."""
    from scipy.special import stdtrit  # here, since it would be a tenth of the time of `import segue`

    if ours + theirs == 0:
        return 0.0
    freedom = (ours + theirs) ** 2 / (ours**2 / (seeds - 1) + theirs**2 / (episodes - 1))
    return float(stdtrit(freedom, 1.0 - LEVEL) * np.sqrt(ours + theirs))
