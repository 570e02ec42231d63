"""Evaluation on separate simulators; it does not use the run's random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from segue.core.scaling import Scaling
from segue.core.types import Agent, Array, Drawing, EnvError, SegueError, Slot, State, Task, valued
from segue.engine.envs import EVALUATION, Simulator, answers, episode_seed, here

ENVS = 10  # simulators that share the episodes of an evaluation


class Trajectory(NamedTuple):
    """One evaluation episode unscaled: observations (T, ...), actions (T, A), rewards and terminals (T,).

    An episode whose last row is not terminal was cut by a time limit; `last` is the observation after its last row.
    `plan` (D, A) is what the policy decided at rows 0, h, 2h, ..: chunks of h actions, or the actions themselves.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    success: float
    last: np.ndarray
    plan: np.ndarray


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


@partial(jax.jit, static_argnames=("agent", "scaling"))
def _best(agent: Agent, scaling: Scaling, state: State, seed: Array, observation: Array) -> Array:
    return agent.act(of_seed(state, seed), scaling.see(observation), jax.random.key(0), False)


@partial(jax.jit, static_argnames=("agent", "scaling"))
def _valued(agent: Agent, scaling: Scaling, state: State, seed: Array, observation: Array, number: Array) -> Any:
    key = jax.random.fold_in(jax.random.key(0), number)
    return valued(agent, of_seed(state, seed), scaling.see(observation), key)


def of_seed(state: State, seed: Array) -> State:
    """One seed's part of a state."""
    return jax.tree.map(lambda x: x[seed], state)


def best_action(slot: Slot, seed: int, observation: np.ndarray) -> np.ndarray:
    """Actions (B, A) of one seed's policy without exploration noise, for raw observations (B, ...)."""
    agent: Any = slot.learner
    return np.asarray(_best(agent, slot.scaling, slot.state, np.int32(seed), observation))


def valued_action(slot: Slot, seed: int, observation: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """What a backup takes at raw observations (B, ...): actions (B, A), and what it adds to their values (B,).

    `number` numbers the draw: the same one gives the same noise.
    """
    agent: Any = slot.learner
    action, added = _valued(agent, slot.scaling, slot.state, np.int32(seed), observation, np.uint32(number))
    return np.asarray(action), np.asarray(added)


class Evaluator:
    """Evaluates slots on its own simulators: a seed has the same start states at every evaluation."""

    def __init__(
        self,
        task: Task,
        seeds: tuple[int, ...],
        episodes: int,
        stream: int = EVALUATION,
        simulators: Callable[[], Simulator] | None = None,
    ) -> None:
        self.task, self.seeds, self.episodes, self.stream = task, seeds, episodes, stream
        self._make = simulators or here(task.make_env)
        self._envs: list[Simulator] = []

    def __call__(self, slot: Slot, first: int = 0) -> Evaluation:
        """Roll out the policy without exploration noise, `episodes` times for each seed; `first` numbers the first.

        Raises `SegueError` where an environment fails.
        """
        new = [self._make() for _ in range(min(ENVS, self.episodes) - len(self._envs))]
        self._envs += new
        for env in new:
            env.answer()
        return self._of(slot, first, False)

    def lived(self, slot: Slot, evaluation: Evaluation) -> Evaluation:
        """Episodes of the policy that the critics evaluate, from the start states of the last evaluation.

        If the backup takes the best action, they are the episodes of that evaluation.  If it samples actions (SAC and
        agents built on it, AWAC), the critics include the cost of the noise, so the policy is rolled out with noise.
        """
        if not isinstance(slot.learner, Drawing):
            return evaluation
        return self._of(slot, 0, True)

    def _of(self, slot: Slot, first: int, drawing: bool) -> Evaluation:
        try:
            trajectories = tuple(self._one_seed(slot, s, first, drawing) for s in range(len(self.seeds)))
        except EnvError as error:  # training has not failed, and stands where the last checkpoint was taken
            raise SegueError(f"in an evaluation, {error}; fix it, then `segue resume` the run") from error
        table = lambda f: np.asarray([[f(t) for t in ts] for ts in trajectories], np.float64)  # noqa: E731
        total, success = table(lambda t: t.reward.sum()), table(lambda t: t.success)
        return Evaluation(
            total, table(lambda t: len(t.reward)), success, np.asarray(self.task.score(total, success)), trajectories
        )

    def _one_seed(self, slot: Slot, s: int, first: int, drawn: bool) -> tuple[Trajectory, ...]:
        waiting = list(range(self.episodes))
        done: dict[int, Trajectory] = {}
        current: list[int | None] = [None] * len(self._envs)
        rows: list[list[Any]] = [[] for _ in self._envs]
        plans: list[list[np.ndarray]] = [[] for _ in self._envs]
        observation = np.zeros((len(self._envs), *self.task.spec.observation), self.task.spec.dtype)

        def begin(over: Sequence[int]) -> None:
            for w in over:
                current[w] = waiting.pop(0) if waiting else None
                rows[w], plans[w] = [], []
            begun = [(w, episode) for w in over if (episode := current[w]) is not None]
            where = f"seed {self.seeds[s]}, reset of evaluation episode "
            seed = lambda episode: episode_seed(self.seeds[s], self.stream, first + episode)  # noqa: E731
            asked = ((self._envs[w], seed(episode), f"{where}{episode}") for w, episode in begun)
            for (w, _), observed in zip(begun, answers("reset", asked)):
                observation[w] = observed

        begin(range(len(self._envs)))
        number = 0
        while any(c is not None for c in current):
            if any(c is not None and len(r) % slot.chunk == 0 for c, r in zip(current, rows)):
                plan = valued_action(slot, s, observation, number)[0] if drawn else best_action(slot, s, observation)
            number += 1
            moving = [(w, episode) for w, episode in enumerate(current) if episode is not None]
            actions, over = {}, []
            for w, _ in moving:
                step = len(rows[w]) % slot.chunk
                if step == 0:
                    plans[w].append(plan[w])
                actions[w] = plans[w][-1].reshape(slot.chunk, -1)[step]
            where = f"seed {self.seeds[s]}, evaluation episode "
            asked = ((self._envs[w], actions[w], f"{where}{episode}") for w, episode in moving)
            for (w, episode), (following, reward, terminated, truncated, success) in zip(
                moving, answers("step", asked)
            ):
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
                        np.array(following),
                        np.stack(plans[w]),
                    )
                    over.append(w)
            begin(over)
        return tuple(done[e] for e in range(self.episodes))

    def close(self) -> None:
        """Release the simulators."""
        for env in self._envs:
            env.close()
        self._envs.clear()
