"""A user's own arrays and episodes as `Data`, and the ends that success gives a binary task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from segue.core.log import Data
from segue.core.types import SegueError
from segue.data.recorded import data_of, numbered

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
    columns: dict[str, Any] = {
        "observation": np.asarray(observation),
        "action": np.asarray(action, np.float32),
        "reward": np.asarray(reward, np.float32),
        "terminated": np.asarray(terminated).astype(bool),
        "next_observation": np.asarray(next_observation),
    }
    n = columns["reward"].shape[0] if columns["reward"].ndim == 1 else -1
    if n < 0 or columns["action"].ndim != 2 or columns["terminated"].ndim != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in columns.items())
        raise SegueError(f"{source}: need action (N, A), reward (N,) and terminated (N,); have {shapes}")
    seen, then = columns["observation"], columns["next_observation"]
    if seen.shape != then.shape:
        raise SegueError(f"{source}: observation is {seen.shape} and next_observation {then.shape}; they must agree")
    if truncated is None:
        truncated = np.zeros(n, bool)
        if len(seen) == n and n > 1:
            jumps = (seen[1:] != then[:-1]).reshape(n - 1, -1).any(axis=1)
            truncated[:-1] = jumps & ~columns["terminated"][:-1]
    for name in ("observation", "next_observation"):
        if columns[name].dtype.kind == "f":
            columns[name] = columns[name].astype(np.float32, copy=False)
    return Data(truncated=np.asarray(truncated).astype(bool), source=source, **columns).check()


def from_episodes(episodes: Iterable[Mapping[str, Any]], source: str = "episodes") -> Data:
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
    names = ("observation", "action", "reward", "terminated", "truncated", "next_observation")
    rows: dict[str, Any] = {name: getattr(data, name)[keep] for name in names}
    return end_at_success(replace(data, **rows), success_reward)
