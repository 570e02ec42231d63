"""A user's own arrays and episodes as `Data`, and the ends that success gives a binary task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from segue.core.log import Data
from segue.core.scaling import BLOCK
from segue.core.types import SegueError
from segue.data.recorded import data_of, numbered

ROWS = ("observation", "action", "reward", "terminated", "next_observation")
SUCCESS_REWARD = 0.0  # raw reward of a step at which a binary task is achieved


def from_arrays(
    observation: np.ndarray,
    action: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    next_observation: np.ndarray,
    truncated: np.ndarray | None = None,
    source: str = "arrays",
) -> Data:
    """Checked `Data` of transitions in the order of time.

    Shapes: `observation`, `next_observation` (N, ...), `action` (N, A) in [-1, 1], the others (N,); rewards are raw.
    `truncated` marks the last row of an episode that was cut.  The very last row always ends an episode.  Without
    `truncated`, an episode also ends wherever `next_observation` differs from the next row's observation.
    Raises `SegueError` that names the array and the row that does not fit.
    """
    action, reward = np.asarray(action, np.float32), np.asarray(reward, np.float32)
    seen, then, ended = np.asarray(observation), np.asarray(next_observation), np.asarray(terminated).astype(bool)
    n = len(reward) if reward.ndim == 1 else -1
    if n < 0 or action.ndim != 2 or ended.ndim != 1:
        names = ("observation", "action", "reward", "terminated", "next_observation")
        shapes = ", ".join(f"{name} {x.shape}" for name, x in zip(names, (seen, action, reward, ended, then)))
        raise SegueError(f"{source}: need action (N, A), reward (N,) and terminated (N,); have {shapes}")
    if seen.shape != then.shape:
        raise SegueError(f"{source}: observation is {seen.shape} and next_observation {then.shape}; they must agree")
    if truncated is None:
        truncated = np.zeros(n, bool)
        if len(seen) == n and n > 1:
            jumps = (seen[1:] != then[:-1]).reshape(n - 1, -1).any(axis=1)
            truncated[:-1] = jumps & ~ended[:-1]
    seen, then = (x.astype(np.float32, copy=False) if x.dtype.kind == "f" else x for x in (seen, then))
    return Data(seen, action, reward, ended, np.asarray(truncated).astype(bool), then, source).check()


def from_episodes(episodes: Iterable[Mapping[str, object]], source: str = "episodes") -> Data:
    """Checked `Data` of complete episodes, each a mapping with T steps.

    Keys: `action` (T, A), `reward` (T,), `observation` (T + 1, ...) with the final one, or (T, ...) beside
    `next_observation` (T, ...); `terminated`, one bool for the episode's end or (T,) flags of which only the last may
    be set, False unless given.  An episode that does not end terminated is truncated at its last step.
    """
    return data_of(numbered(episodes, source), source)


def end_at_success(data: Data, success_reward: float = SUCCESS_REWARD) -> Data:
    """Mark every row of reward `success_reward` terminal and drop nothing: Cal-QL's `done` on Adroit.

    Monte-Carlo returns then restart at each success, and no value lies above that of succeeding once.
    """
    hit = data.reward == success_reward
    return replace(data, terminated=data.terminated | hit, truncated=data.truncated & ~hit, digest=None)


def without(data: Data, place: tuple[float, float], radius: float) -> Data:
    """The log without the rows that begin or end within `radius` metres of `place`, x and y; episodes are cut there.

    Positions are the first two numbers of observations.  As in OOO's goal-missing AntMaze (Mark et al. 2023, arXiv
    2310.08558, radius 2.5).  The result may be empty: `check()` says so.
    """
    keep = ~(_near(data.observation, place, radius) | _near(data.next_observation, place, radius))
    if keep.all():
        return data
    cut = np.append(~keep[1:], False) & ~data.terminated
    kept = np.flatnonzero(keep)
    rows = {name: getattr(data, name)[kept] for name in ROWS}
    return replace(data, **rows, truncated=(data.truncated | cut)[kept], digest=None)


def _near(positions: np.ndarray, place: tuple[float, float], radius: float) -> np.ndarray:
    blocks = (positions[start : start + BLOCK][:, :2] for start in range(0, len(positions), BLOCK))  # may be on disk
    return np.concatenate([np.linalg.norm(block.astype(np.float64) - place, axis=1) <= radius for block in blocks])


def demonstrations(data: Data, success_reward: float = SUCCESS_REWARD) -> Data:
    """Cal-QL's rule for Adroit's demonstrations (parity fixture `mc_returns`, `adroit.*`).

    It drops episodes of `data` without a success, cuts the others after their last success, and makes every success
    step terminal.  The result may be empty: `check()` says so.
    """
    keep = np.zeros(len(data), bool)
    starts = np.concatenate([[0], data.ends()[:-1]])
    for start, stop in zip(starts, data.ends()):
        hits = np.flatnonzero(data.reward[start:stop] == success_reward)
        if len(hits):
            keep[start : start + hits[-1] + 1] = True
    rows = {name: getattr(data, name)[keep] for name in (*ROWS, "truncated")}
    return end_at_success(replace(data, **rows), success_reward)
