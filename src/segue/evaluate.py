"""Evaluation on the bare world, and the diagnostics of a hand-over.  Neither touches the run's random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segue.fleet import EVALUATION, episode_seed
from segue.replay import Data
from segue.types import Agent, Array, Slot, State, Task, World
from segue.units import Units, returns_to_go

WORLDS = 10  # simulators that share the episodes of an evaluation
PROBE = 1024  # logged rows that a hand-over looks at
POINTS = 300  # pairs of value and return that a report draws


class Trajectory(NamedTuple):
    """One evaluation episode in raw units: observations (T, ...), actions (T, A), rewards and terminals (T,)."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    success: float


@dataclass(frozen=True)
class Evaluation:
    """Results of S seeds and E episodes each: arrays (S, E), and the episodes themselves."""

    raw_return: np.ndarray
    length: np.ndarray
    success: np.ndarray
    score: np.ndarray
    trajectories: tuple[tuple[Trajectory, ...], ...]

    def values(self) -> dict[str, np.ndarray]:
        """Mean over episodes, (S,), under the names that records use."""
        named = {"return": self.raw_return, "length": self.length, "success": self.success, "score": self.score}
        return {k: v.mean(axis=1) for k, v in named.items()}


@partial(jax.jit, static_argnames=("agent", "units"))
def _best(agent: Agent, units: Units, state: State, seed: Array, observation: Array) -> Array:
    return agent.act(_of(state, seed), units.see(observation), jax.random.key(0), False)


@partial(jax.jit, static_argnames=("agent", "units"))
def _value(agent: Agent, units: Units, state: State, seed: Array, observation: Array, action: Array) -> Array:
    return agent.q(_of(state, seed), units.see(observation), action)


def _of(state: State, seed: Array) -> State:
    return jax.tree.map(lambda x: x[seed], state)


class Evaluator:
    """Evaluates slots of a task on simulators of its own: the same start states for a seed at every evaluation."""

    def __init__(self, task: Task, seeds: tuple[int, ...], episodes: int, stream: int = EVALUATION) -> None:
        self.task, self.seeds, self.episodes, self.stream = task, seeds, episodes, stream
        self._worlds: list[World] = []

    def __call__(self, slot: Slot, first: int = 0) -> Evaluation:
        """Roll out the policy without exploration noise, `episodes` times for each seed; `first` numbers the first."""
        while len(self._worlds) < min(WORLDS, self.episodes):
            self._worlds.append(self.task.world())
        trajectories = tuple(self._one_seed(slot, s, first) for s in range(len(self.seeds)))
        table = lambda f: np.asarray([[f(t) for t in ts] for ts in trajectories], np.float64)  # noqa: E731
        total, success = table(lambda t: t.reward.sum()), table(lambda t: t.success)
        return Evaluation(
            total, table(lambda t: len(t.reward)), success, np.asarray(self.task.score(total, success)), trajectories
        )

    def _one_seed(self, slot: Slot, s: int, first: int) -> tuple[Trajectory, ...]:
        agent: Any = slot.learner
        waiting = list(range(self.episodes))
        done: dict[int, Trajectory] = {}
        current: list[int | None] = [None] * len(self._worlds)
        rows: list[list[Any]] = [[] for _ in self._worlds]
        observation = np.zeros((len(self._worlds), *self.task.spec.observation), self.task.spec.dtype)

        def begin(w: int) -> None:
            current[w] = waiting.pop(0) if waiting else None
            rows[w] = []
            if (episode := current[w]) is not None:
                observation[w] = self._worlds[w].reset(episode_seed(self.seeds[s], self.stream, first + episode))

        for w in range(len(self._worlds)):
            begin(w)
        while any(c is not None for c in current):
            actions = np.asarray(_best(agent, slot.units, slot.state, np.int32(s), observation))
            for w, episode in enumerate(current):
                if episode is None:
                    continue
                following, reward, terminated, truncated, success = self._worlds[w].step(actions[w])
                rows[w].append((observation[w].copy(), actions[w], reward, terminated, success))
                observation[w] = following
                if terminated or truncated:
                    seen, acted, rewards, ends, wins = zip(*rows[w])
                    done[episode] = Trajectory(
                        np.stack(seen),
                        np.stack(acted),
                        np.asarray(rewards, np.float64),
                        np.asarray(ends, np.bool_),
                        float(wins[-1]),
                    )
                    begin(w)
        return tuple(done[e] for e in range(self.episodes))

    def close(self) -> None:
        """Release the simulators."""
        for world in self._worlds:
            world.close()
        self._worlds.clear()


def handover(
    slot: Slot, data: Data | None, evaluation: Evaluation
) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    """What a report needs to say why performance will or will not drop: (values (S,), points for a figure).

    On logged rows: Q of the logged action against its Monte-Carlo return, Q of the policy's action, the fraction of
    rows where the latter lies below the return (`bound_rate`; a calibrated critic keeps it low), and the distance
    between the two actions.  On fresh episodes: Q of what was done against the return that followed.  All in the
    units that the slot has learned in.
    """
    units = slot.units
    agent: Any = slot.learner
    seeds = range(len(evaluation.raw_return))
    values: dict[str, list[float]] = {}
    points: dict[str, list[float]] = {"q": [], "mc_return": []}

    def note(name: str, value: Any) -> None:
        values.setdefault(name, []).append(float(value))

    if data is not None:
        rows = np.random.default_rng(0).integers(0, len(data), PROBE)
        observation, action, returns = data.observation[rows], data.action[rows], data.mc_returns(units)[rows]
        for s in seeds:
            chosen = np.asarray(_best(agent, slot.units, slot.state, np.int32(s), observation))
            q_policy = np.asarray(_value(agent, slot.units, slot.state, np.int32(s), observation, chosen))
            note(
                "q_data", np.mean(_value(agent, slot.units, slot.state, np.int32(s), observation, jnp.asarray(action)))
            )
            note("mc_return_data", returns.mean())
            note("q_policy_data", q_policy.mean())
            note("bound_rate", np.mean(q_policy < returns))
            note("action_distance", np.linalg.norm(chosen - action, axis=1).mean())
    share = max(POINTS // len(seeds), 1)
    for s in seeds:
        episodes = evaluation.trajectories[s]
        observation = np.concatenate([t.observation for t in episodes])
        action = np.concatenate([t.action for t in episodes])
        returns = np.concatenate([returns_to_go(t.reward, t.terminated, units) for t in episodes])
        rows = np.random.default_rng(1).integers(0, len(returns), PROBE)
        q = np.asarray(_value(agent, slot.units, slot.state, np.int32(s), observation[rows], action[rows]))
        note("q_fresh", q.mean())
        note("mc_return_fresh", returns[rows].mean())
        points["q"] += [float(x) for x in q[:share]]
        points["mc_return"] += [float(x) for x in returns[rows][:share]]
    return {k: np.asarray(v) for k, v in values.items()}, points
