"""Sampled rows of a log, done again in the simulator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from segue.data.doctor.log import Log
from segue.data.doctor.simulator.world import SAME, Simulator

# Defaults of ours.
ROWS = 256  # of the sample
USUAL = 3.0  # widths of a column's usual range beyond which a state is not put into the simulator, which may burst
FAITHFUL = 0.9  # share of steps that must come out the same
DOUBT = 0.5  # share below which the actions of the rows beside are tried


class Replayed(NamedTuple):
    """Logged rows (K,) done again.

    `rows` are the columns of the log's samples; `kind` says where a row is from: "row", "ended", "cut" or "hit".
    `error` is the largest difference of the next observation's state columns, in standard deviations of the log's
    columns, and `worst` the column; `before`, `after` are the same differences with the action of the row before or
    after.  Differences are NaN where a row was not or could not be done.  `reward`, `terminated` are the simulator's.
    `rewarded`: whether rewards are known from the state.
    """

    rows: dict[str, np.ndarray]
    kind: np.ndarray
    error: np.ndarray
    worst: np.ndarray
    before: np.ndarray
    after: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    rewarded: bool

    @property
    def done(self) -> np.ndarray:
        """Rows (K,) that could be done again."""
        return ~np.isnan(self.error)

    @property
    def steps(self) -> np.ndarray:
        """Rows (K,) among them whose next observation can be compared; that of an episode's last row is often
        another episode's.
        """
        return self.done & (self.rows["step"] < self.rows["length"] - 1)

    @property
    def faithful(self) -> bool:
        """Whether the simulator reproduces nearly all of the log, so that what else it says can be believed."""
        return bool(self.steps.any() and np.mean(self.error[self.steps] <= SAME) >= FAITHFUL)


def replay_log(simulator: Simulator, log: Log) -> Replayed | None:
    """Do sampled rows of a log again; None, and `simulator.refusal` says why, if that cannot be done."""
    if simulator.recoverer is None:
        return None
    if not log.flat or not (sampled := log.sample.columns()):
        simulator.refusal = "observations are not rows of real numbers, or all are invalid"
        return None
    parts = {"row": log.sample, "ended": log.ended, "cut": log.cut, "hit": log.hit}
    samples = {kind: {k: v[:ROWS] for k, v in part.columns().items()} for kind, part in parts.items()}
    samples = {kind: s for kind, s in samples.items() if s}
    rows = {name: np.concatenate([s[name] for s in samples.values()]) for name in sampled}
    kind = np.concatenate([np.full(len(s["step"]), kind) for kind, s in samples.items()])

    low, high = np.quantile(sampled["observation"], [0.001, 0.999], axis=0)
    room = USUAL * (high - low) + 1e-3
    usual = ((rows["observation"] >= low - room) & (rows["observation"] <= high + room)).all(1)
    own = _done(simulator, log, rows, "action", usual)
    if not own.columns:
        simulator.refusal = "the log's observations do not determine the simulator's state"
        return None
    before = after = np.full(len(kind), np.nan)
    chosen = usual & (kind == "row") & (rows["step"] < rows["length"] - 1)
    if np.mean(own.error[chosen] <= SAME) <= DOUBT:
        before = _done(simulator, log, rows, "before_action", chosen).error
        after = _done(simulator, log, rows, "after_action", chosen).error
    rewarded = not simulator.recoverer.goal or own.columns == rows["observation"].shape[1]
    return Replayed(rows, kind, own.error, own.worst, before, after, own.reward, own.terminated, rewarded)


class _Done(NamedTuple):
    error: np.ndarray
    worst: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    columns: int


def _done(simulator: Simulator, log: Log, rows: dict[str, np.ndarray], action: str, chosen: np.ndarray) -> _Done:
    """Do chosen rows again with one of their actions."""
    count, columns = len(chosen), 0
    error, reward = np.full(count, np.nan), np.full(count, np.nan)
    worst, ended = np.zeros(count, np.int64), np.zeros(count, bool)
    scale = log.seen.std + 1e-3
    simulator.fresh()
    for i in np.flatnonzero(chosen & np.isfinite(rows[action]).all(1)):
        found = simulator.again(rows["observation"][i], rows[action][i])
        if found is not None:
            columns = found.columns
            apart = np.abs(found.following - rows["following"][i])[:columns] / scale[:columns]
            error[i] = apart.max() if np.isfinite(apart).all() else np.inf
            worst[i], reward[i], ended[i] = int(np.argmax(apart)), found.reward, found.terminated
    return _Done(error, worst, reward, ended, columns)
