"""The simulators that a run collects from: one world per seed, stepped side by side.

Every episode begins with `reset(seed)`, the seed a function of the run's seed and the episode's number, so that an
open episode is its seed and its actions.  That is how a killed run gets its worlds back exactly, whatever the
simulator; and since a world is reset here and by nobody else, no autoreset's fake transition can exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from segue.types import SegueError, World

TRAINING, EVALUATION, VALIDATION, BEHAVIOUR, COLLECTION = range(5)


def episode_seed(run_seed: int, stream: int, episode: int) -> int:
    """Seed of an episode's reset; `stream` keeps the streams above apart."""
    return int(np.random.SeedSequence([run_seed, stream, episode]).generate_state(1)[0] >> 1)


class Episode(NamedTuple):
    """A finished training episode of one seed (raw rewards); `environment_step` counts the seed's own steps."""

    seed: int
    raw_return: float
    length: int
    success: float
    environment_step: int
    own: bool | None = None
    """Whether the phase's own policy acted, where another one shares the episodes; None elsewhere."""


class Step(NamedTuple):
    """One environment step of all worlds; arrays have a leading axis of worlds (W)."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observation: np.ndarray


@dataclass
class Open:
    """The episode that a world is in."""

    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    success: float = math.nan


class Fleet:
    """Worlds in the middle of their episodes."""

    def __init__(self, make: Callable[[], World], seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)
        self.worlds = [make() for _ in seeds]
        self.episodes = [0 for _ in seeds]
        self.open = [Open() for _ in seeds]
        self.observation = np.stack([self._reset(w) for w in range(len(seeds))])

    def _reset(self, w: int) -> np.ndarray:
        self.open[w] = Open()
        return self.worlds[w].reset(episode_seed(self.seeds[w], TRAINING, self.episodes[w]))

    def step(self, action: np.ndarray) -> tuple[Step, dict[int, Open]]:
        """Step all worlds with actions (W, A); also return the episodes that ended, by world, and begin new ones."""
        results = [world.step(a) for world, a in zip(self.worlds, action)]
        following, reward, terminated, truncated, success = (list(x) for x in zip(*results))
        step = Step(
            self.observation,
            action,
            np.asarray(reward, np.float32),
            np.asarray(terminated, np.bool_),
            np.asarray(truncated, np.bool_),
            np.stack(following),
        )
        ended = {}
        current = step.next_observation.copy()
        for w in range(len(self.worlds)):
            self.open[w].actions.append(action[w])
            self.open[w].rewards.append(float(reward[w]))
            self.open[w].success = float(success[w])
            if terminated[w] or truncated[w]:
                ended[w] = self.open[w]
                self.episodes[w] += 1
                current[w] = self._reset(w)
        self.observation = current
        return step, ended

    def snapshot(self) -> dict[str, np.ndarray]:
        """Arrays that `restore` needs: episode numbers and the actions of the open episodes."""
        actions = {f"actions.{w}": np.asarray(o.actions, np.float32) for w, o in enumerate(self.open) if o.actions}
        return {"episodes": np.asarray(self.episodes, np.int64), "observation": self.observation, **actions}

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go back to where `snapshot` was taken, by replaying the open episodes; raise if a world does not repeat."""
        self.episodes = [int(x) for x in snapshot["episodes"]]
        current = []
        for w, world in enumerate(self.worlds):
            observation = self._reset(w)
            for action in snapshot.get(f"actions.{w}", ()):
                observation, reward, _, _, success = world.step(action)
                self.open[w].actions.append(action)
                self.open[w].rewards.append(float(reward))
                self.open[w].success = float(success)
            if not np.array_equal(observation, snapshot["observation"][w]):
                raise SegueError(
                    f"seed {self.seeds[w]}: the environment did not repeat its open episode after reset(seed) and the "
                    "same actions, so the run cannot be resumed exactly; use an environment that is deterministic "
                    "given its seed, or start a new run"
                )
            current.append(observation)
        self.observation = np.stack(current)

    def close(self) -> None:
        """Release all simulators."""
        for world in self.worlds:
            world.close()
