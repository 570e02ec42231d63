"""The task's simulator as the doctor uses it: a few resets, a few random episodes, and logged steps done again."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import gymnasium
import numpy as np

from segue.core.types import Env, SegueError
from segue.data.doctor.simulator.recover import RECOVERERS, Recoverer

# Defaults of ours.
RESETS = 64
EPISODES = 10
STEPS = 100  # of each random episode
LONGEST = 1_000  # steps of an episode that is waited for
TRIED = 20  # own steps on which a recoverer is tried
SAME = 1e-2  # difference of a column that is no difference, in standard deviations of the log's column


@runtime_checkable
class Simulated(Protocol):
    """A world over a Gymnasium environment."""

    env: gymnasium.Env


class Rollouts(NamedTuple):
    """Random steps: `observation`, `following` (N, O), `reward`, `step` (N,), `terminated` (N,)."""

    observation: np.ndarray
    following: np.ndarray
    reward: np.ndarray
    step: np.ndarray
    terminated: np.ndarray


class Again(NamedTuple):
    """A step done again: how many leading columns are state, and what the simulator gives."""

    columns: int
    following: np.ndarray
    reward: float
    terminated: bool


class Simulator:
    """One world of the task.  Deterministic: seeds are 0, 1, ..., and actions are drawn from a seed of their own."""

    def __init__(self, world: Env, size: int) -> None:
        self._world, self._size = world, size
        self.refusal = ""

    def close(self) -> None:
        """Release the simulator."""
        self._world.close()

    @cached_property
    def resets(self) -> np.ndarray:
        """First observations (RESETS, O)."""
        return np.stack([self._world.reset(seed) for seed in range(RESETS)])

    @cached_property
    def rollouts(self) -> Rollouts:
        """A few episodes of uniformly random actions."""
        rng = np.random.default_rng(0)
        rows: list[tuple[object, ...]] = []
        for seed in range(EPISODES):
            seen = self._world.reset(seed)
            for step in range(STEPS):
                then, reward, terminated, truncated, _ = self._world.step(rng.uniform(-1.0, 1.0, self._size))
                rows.append((seen, then, reward, step, terminated))
                seen = then
                if terminated or truncated:
                    break
        return Rollouts(*(np.asarray(column) for column in zip(*rows)))

    def ends_at(self, limit: int) -> np.ndarray:
        """Whether a random episode is terminated at step `limit` (1,); empty if it does not come so far."""
        rng = np.random.default_rng(2)
        self.fresh()
        for step in range(1, min(limit, LONGEST) + 1):
            _, _, terminated, truncated, _ = self._world.step(rng.uniform(-1.0, 1.0, self._size))
            if terminated or truncated:
                return np.full(int(step >= limit - 1), terminated)
        return np.full(int(limit <= LONGEST), False)

    @cached_property
    def goal(self) -> np.ndarray | None:
        """Where the goal is, in metres; None if there is none, or if resets draw it."""
        found = []
        for seed in range(3):
            self._world.reset(seed)
            found.append(np.asarray(getattr(self.unwrapped, "goal", np.nan), np.float64))
        if not all(np.isfinite(goal).all() and np.array_equal(goal, found[0]) for goal in found):
            return None
        return found[0]

    @cached_property
    def unwrapped(self) -> gymnasium.Env | None:
        """The environment itself, or None for a world of another make."""
        return self._world.env.unwrapped if isinstance(self._world, Simulated) else None

    @cached_property
    def recoverer(self) -> Recoverer | None:
        """How to put the simulator into a logged state; None, and `refusal` says why, if that cannot be done.

        The first of the table that works on steps of the simulator's own.
        """
        known = RECOVERERS.get(type(self.unwrapped).__name__, ())
        self.refusal = f"Segue cannot set {type(self.unwrapped).__name__} to a logged state"
        for how in known:
            if self._works(how):
                self.refusal = ""
                return how
            self.refusal = "the observation does not determine the simulator's state: its own steps are not reproduced"
        return None

    def _works(self, how: Recoverer) -> bool:
        """Try on steps of the simulator's own."""
        rng, seen, steps = np.random.default_rng(1), self._world.reset(0), []
        for _ in range(TRIED):
            action = rng.uniform(-1.0, 1.0, self._size)
            then, reward, terminated, truncated, _ = self._world.step(action)
            steps.append((seen, action, then, reward, terminated))
            seen = self._world.reset(1) if terminated or truncated else then
        scale = np.std([s[0] for s in steps], axis=0) + 1e-3
        self.fresh()
        alike = []
        for seen, action, then, reward, terminated in steps:
            found = self._again(how, seen, action)
            if found is not None:
                apart = (np.abs(found.following - then) / scale)[: found.columns].max()
                paid = abs(found.reward - reward) <= SAME * (1.0 + abs(reward))
                alike.append(bool(apart <= SAME and paid and found.terminated == terminated))
        return bool(alike) and all(alike)

    def fresh(self) -> None:
        """Begin an episode, before steps are done again."""
        self._world.reset(0)

    def again(self, seen: np.ndarray, action: np.ndarray) -> Again | None:
        """Do a step again, from an observation (O,) with an action (A,); None if it cannot be done."""
        return None if self.recoverer is None else self._again(self.recoverer, seen, action)

    def _again(self, how: Recoverer, seen: np.ndarray, action: np.ndarray) -> Again | None:
        try:
            columns = how.put(self.unwrapped, np.asarray(seen, np.float64))
            if not columns:
                return None
            then, reward, terminated, truncated, _ = self._world.step(action)
        except (SegueError, AttributeError, ValueError, IndexError):
            return None
        if terminated or truncated:
            self.fresh()
        return Again(columns, then, reward, terminated)

    def same(self, seen: np.ndarray, action: np.ndarray, then: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Whether steps (K, O), (K, A), (K, O) come out the same: 1 or 0, NaN if they cannot be done.

        `std` (O,): standard deviations of the log's columns.
        """
        out = np.full(len(seen), np.nan)
        self.fresh()
        for i in range(len(seen)):
            found = self.again(seen[i], action[i])
            if found is not None:
                out[i] = float((np.abs(found.following - then[i]) <= SAME * (std + 1e-3))[: found.columns].all())
        return out
