"""A user's own experience: flat arrays, or episodes one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from segue.replay import Data
from segue.types import SegueError


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
    `truncated` marks the last row of an episode that was cut; the last row of all is an end whether marked or not.
    Where `truncated` is not given, an episode also ends wherever `next_observation` is not the next row's observation.
    Raises `SegueError` naming the array and the row that does not fit.
    """
    columns = {
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
    `next_observation` (T, ...); `terminated`, one bool for the episode's end or (T,) flags, False unless given.
    An episode that does not end terminated is truncated at its last step.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    for number, episode in enumerate(episodes):
        where = f"{source}, episode {number}"
        missing = [key for key in ("observation", "action", "reward") if key not in episode]
        if missing:
            raise SegueError(f"{where}: no '{missing[0]}'; it has {', '.join(sorted(episode)) or 'nothing'}")
        reward = np.asarray(episode["reward"], np.float32)
        action, seen, steps = np.asarray(episode["action"], np.float32), np.asarray(episode["observation"]), len(reward)
        if steps == 0:
            continue
        if "next_observation" in episode:
            then = np.asarray(episode["next_observation"])
        else:
            seen, then = seen[:-1], seen[1:]
        if not len(action) == len(seen) == len(then) == steps:
            raise SegueError(
                f"{where}: {steps} rewards, {len(action)} actions and {len(seen)} steps of observations; "
                "give one more observation than actions, or as many beside 'next_observation'"
            )
        given = np.asarray(episode.get("terminated", False)).astype(bool)
        terminated = given if given.ndim else np.append(np.zeros(steps - 1, bool), given)
        truncated = np.zeros(steps, bool)
        truncated[-1] = not terminated[-1]
        parts.append((seen, action, reward, terminated, then, truncated))
    if not parts:
        raise SegueError(f"{source}: no episode with at least one step; give some")
    seen, action, reward, terminated, then, truncated = (np.concatenate(column) for column in zip(*parts))
    return from_arrays(seen, action, reward, terminated, then, truncated, source=source)
