"""Columns that say nothing, say the same twice, or are of very different sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.checks.values import events
from segue.data.doctor.finding import Finding
from segue.data.doctor.sample import Moments
from segue.data.recorded import Recorded

# Defaults of ours.
APART = 1e3  # ratio of standard deviations that wants standardised observations
UNEQUAL = 1e2  # ratio that is worth a note
STANDARD = 0.05  # how near to mean 0 and deviation 1 every column is where somebody has standardised
FEWEST = 3  # columns from which that is no accident


def constant_observation(case: Case) -> Iterator[Finding]:
    """Columns that never change."""
    log = case.log
    if not log.flat or log.seen.count < 2:
        return
    still = np.flatnonzero(log.seen.least == log.seen.most)
    if not len(still):
        return
    moving = np.zeros(0, np.int64)
    if case.fits and case.simulator is not None:
        own = case.simulator.rollouts.observation[:, still]
        # A log may well have no row with a rare event, such as a contact of two parts that hardly ever touch.
        moving = still[(np.ptp(own, axis=0) > 0) & ~events(own)]
    numbers = {"columns": still, "values": log.seen.least[still], "moves in the environment": moving}
    yield Finding(
        "warning" if len(moving) else "note",
        f"{len(still)} columns of the observation never change"
        + (f", {len(moving)} of them do in the environment" if len(moving) else ""),
        "The agent learns nothing about such a column, and its first change online is outside the data.",
        "Check that the sensor was on; leave out the column if it has no meaning.",
        len(still),
        "columns",
        numbers=numbers,
    )


def constant_action(case: Case) -> Iterator[Finding]:
    """Actions that never change."""
    log = case.log
    if log.shape is None or log.acted.count < 2:
        return
    still = np.flatnonzero(log.acted.least == log.acted.most)
    if len(still):
        yield Finding(
            "warning",
            f"{len(still)} of {log.shape[1]} actions never change",
            "The log does not show the effect of any other value of such an action.",
            "Check that these are the right columns of the log; leave out actions that are not used.",
            len(still),
            "columns",
            numbers={"columns": still, "values": log.acted.least[still]},
        )


class _Twins:
    """Columns that hold the same numbers in every row; none without episodes."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.pairs: dict[str, list[tuple[int, int]] | None] = {"observation": None, "action": None}

    def see(self, number: int, episode: Recorded) -> None:
        if not self.case.log.flat:
            return
        for name, rows in (("observation", episode.current), ("action", episode.action)):
            known = self.pairs[name]
            if known is None:
                known = _alike(rows)
            elif known:
                left, right = np.asarray(known).T
                kept = (rows[:, left] == rows[:, right]).all(0)
                known = [pair for pair, keep in zip(known, kept) if keep]
            self.pairs[name] = known

    def judge(self) -> Iterator[Finding]:
        log = self.case.log
        if log.flat:
            yield from self._found("observation", log.seen)
            yield from self._found("action", log.acted)

    def _found(self, name: str, moments: Moments) -> Iterator[Finding]:
        # Columns that never change are another check's business.
        pairs = [(i, j) for i, j in self.pairs[name] or [] if moments.least[i] < moments.most[i]]
        if not pairs:
            return
        differ = []
        if name == "observation" and self.case.fits and self.case.simulator is not None:
            own = self.case.simulator.rollouts.observation
            rare = events(own)  # two such columns may be the same in the few rows that a log has of them
            differ = [(i, j) for i, j in pairs if not (rare[i] and rare[j]) and (own[:, i] != own[:, j]).any()]
        yield Finding(
            "warning" if differ or name == "action" else "note",
            f"{len(pairs)} pairs of columns of the {name} are the same"
            + (f", {len(differ)} of them are not in the environment" if differ else ""),
            "One column may have been copied over another, whose values are then lost.",
            "Check how the log's columns were written; leave out the copy.",
            len(pairs),
            "pairs",
            numbers={"pairs": pairs[:50], "differ in the environment": differ[:50]},
        )


def _alike(rows: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of equal columns: each with the first that is like it."""
    first: dict[bytes, int] = {}
    pairs = []
    for column in range(rows.shape[1]):
        at = first.setdefault(np.ascontiguousarray(rows[:, column]).tobytes(), column)
        if at != column:
            pairs.append((at, column))
    return pairs


def observation_scale(case: Case) -> Iterator[Finding]:
    """Columns of very different sizes, unless the learner standardises them."""
    log, scaling = case.log, case.scaling
    if (
        not log.flat
        or log.seen.count < 2
        or (scaling is not None and (scaling.standardise or scaling.observation_mean))
    ):
        return
    # A column of rare events has a small deviation, and dividing by it would make the events huge.
    moving = np.flatnonzero((log.seen.most > log.seen.least) & ~events(case.sampled["observation"]))
    if len(moving) < 2:
        return
    std = log.seen.std[moving]
    ratio = float(std.max() / max(std.min(), 1e-12))
    if ratio > UNEQUAL:
        small, large = int(moving[np.argmin(std)]), int(moving[np.argmax(std)])
        yield Finding(
            "warning" if ratio > APART else "note",
            f"columns of the observation differ {ratio:.0f}-fold in size (column {small} against column {large})",
            "A network hardly uses small columns next to large ones.",
            "Standardise observations (scaling.standardise), or scale these columns.",
            2,
            "columns",
            numbers={"ratio": ratio, "smallest": small, "largest": large, "std": [std.min(), std.max()]},
        )


def standardised(case: Case) -> Iterator[Finding]:
    """Observations that somebody has standardised, while the environment's are not."""
    log = case.log
    if not log.flat or log.seen.count < 100 or len(log.seen.mean) < FEWEST:
        return
    moving = log.seen.most > log.seen.least
    mean, std = log.seen.mean[moving], log.seen.std[moving]
    if moving.sum() < FEWEST or np.abs(mean).max() > STANDARD or np.abs(std - 1.0).max() > STANDARD:
        return
    numbers = {"largest mean": np.abs(mean).max(), "largest difference of std": np.abs(std - 1.0).max()}
    world = case.simulator is not None and case.fits
    if world and case.simulator is not None:
        own = case.simulator.rollouts.observation[:, moving]
        if np.abs(own.mean(0)).max() < 0.5 and np.abs(np.log2(own.std(0) + 1e-9)).max() < 1.0:
            return  # the environment itself does it
    yield Finding(
        "error" if world else "warning",
        "every column has mean 0 and standard deviation 1: the observations were standardised",
        "The environment's observations are not, so the policy would see other numbers online than in the log.",
        "Use the log's raw observations; scaling.standardise standardises both.",
        int(moving.sum()),
        "columns",
        numbers=numbers,
    )


CHECKS: dict[str, Make] = {
    "constant-observation": summary(constant_observation),
    "constant-action": summary(constant_action),
    "duplicate-columns": _Twins,
    "observation-scale": summary(observation_scale),
    "standardised-observations": summary(standardised),
}
