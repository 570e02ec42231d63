"""Evaluation on separate simulators; it does not use the run's random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from segue.core.groups import Group, Groups
from segue.core.scaling import Scaling
from segue.core.types import Acting, Array, Drawing, EnvError, SegueError, Slot, State, Task, valued
from segue.engine.envs import EVALUATION, Simulator, answers, episode_seed, here
from segue.engine.steps import for_seeds

ENVS = 10  # simulators that share the episodes of an evaluation
RESUME = "fix it, then `segue resume` the run"


class Trajectory(NamedTuple):
    """One evaluation episode unscaled: observations (T, ...), actions (T, A), rewards and terminals (T,).

    An episode whose last row is not terminal was cut by a time limit; `last` is the observation after its last row.
    `plan` (D, A) is what the policy decided at rows 0, h, 2h, ..: chunks of h actions, or the actions themselves; with
    `Phase.replan` at rows 0, k, 2k, ...
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
def _best(agent: Acting, scaling: Scaling, state: State, first: Array, observation: Array) -> Array:
    act = lambda state, seen: agent.act(state, scaling.see(seen), jax.random.key(0), False)  # noqa: E731
    return for_seeds(act, of_seeds(state, first, len(observation)), observation)


@partial(jax.jit, static_argnames=("agent", "scaling"))
def _valued(agent: Acting, scaling: Scaling, state: State, first: Array, observation: Array, number: Array) -> Any:
    key = jax.random.fold_in(jax.random.key(0), number)
    take = lambda state, seen: valued(agent, state, scaling.see(seen), key)  # noqa: E731
    return for_seeds(take, of_seeds(state, first, len(observation)), observation)


@partial(jax.jit, static_argnames=("agent", "scaling"))
def _explored(agent: Acting, scaling: Scaling, state: State, first: Array, observation: Array, key: Array) -> Array:
    act = lambda state, seen, key: agent.act(state, scaling.see(seen), key, True)  # noqa: E731
    return for_seeds(act, of_seeds(state, first, len(observation)), observation, key)


def of_seed(state: State, seed: Array) -> State:
    """One seed's part of a state."""
    return jax.tree.map(lambda x: x[seed], state)


def of_seeds(state: State, first: Array, count: int) -> State:
    """The part of a state that `count` seeds from a place on have."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), state)


def best_action(slot: Slot, first: int, observation: np.ndarray) -> np.ndarray:
    """Actions (n, B, A) of the policies of n seeds from a place on without exploration noise, for raw observations
    (n, B, ...)."""
    agent: Any = slot.learner
    return np.asarray(_best(agent, slot.scaling, slot.state, np.int32(first), observation))


def valued_action(slot: Slot, first: int, observation: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """What a backup takes at raw observations (n, B, ...) of n seeds from a place on: actions (n, B, A), and what it
    adds to their values (n, B).

    `number` numbers the draw: the same one gives the same noise.
    """
    agent: Any = slot.learner
    action, added = _valued(agent, slot.scaling, slot.state, np.int32(first), observation, np.uint32(number))
    return np.asarray(action), np.asarray(added)


def best(slot: Slot, seeds: Group, observation: np.ndarray, number: tuple[int, int]) -> np.ndarray:
    """Actions of an evaluation: see `best_action`."""
    return best_action(slot, seeds.first, observation)


def drawn(slot: Slot, seeds: Group, observation: np.ndarray, number: tuple[int, int]) -> np.ndarray:
    """Actions that a backup takes: see `valued_action`."""
    return valued_action(slot, seeds.first, observation, number[1])[0]


def explored(slot: Slot, seeds: Group, observation: np.ndarray, number: tuple[int, int]) -> np.ndarray:
    """Actions (n, B, A) with exploration noise, as a phase that collects takes them; `number` numbers the draw."""
    agent: Any = slot.learner
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number[0]), number[1])
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(seeds.first, seeds.first + seeds.size))
    return np.asarray(_explored(agent, slot.scaling, slot.state, np.int32(seeds.first), observation, keys))


Choose = Callable[[Slot, Group, np.ndarray, tuple[int, int]], np.ndarray]
"""Actions of the seeds of a group; the numbers are those of the first episode and of the call."""


class Evaluator:
    """Evaluates slots on its own simulators: a seed has the same start states at every evaluation.

    Seeds that one program trains (`segue.core.groups`) are rolled out side by side; on a CPU that is one seed after the
    other, since stepping a few simulators takes longer than to ask a policy, and simulators take memory.

    The episodes of a seed share up to `each` simulators.  `cure` is what to do where one of them fails.
    """

    def __init__(
        self,
        task: Task,
        seeds: tuple[int, ...],
        episodes: int,
        stream: int = EVALUATION,
        simulators: Callable[[], Simulator] | None = None,
        each: int = ENVS,
        cure: str = RESUME,
    ) -> None:
        self.task, self.seeds, self.episodes, self.stream, self._cure = task, seeds, episodes, stream, cure
        self._make = simulators or here(task.make_env)
        self._groups = Groups.of(len(seeds)).members
        self._each = min(each, episodes)
        """Simulators of a seed."""
        self._envs: list[Simulator] = []

    def __call__(self, slot: Slot, first: int = 0, choose: Choose = best) -> Evaluation:
        """Roll out the policy without exploration noise, `episodes` times for each seed; `first` numbers the first.

        `choose` may be `explored`, with noise.  Raises `SegueError` where an environment fails.
        """
        new = [self._make() for _ in range(self._each * max(g.size for g in self._groups) - len(self._envs))]
        self._envs += new
        for env in new:
            env.answer()
        return self._of(slot, first, choose)

    def lived(self, slot: Slot, evaluation: Evaluation) -> Evaluation:
        """Episodes of the policy that the critics evaluate, from the start states of the last evaluation.

        If the backup takes the best action, they are the episodes of that evaluation.  If it samples actions (SAC and
        agents built on it, AWAC), the critics include the cost of the noise, so the policy is rolled out with noise.
        """
        if not isinstance(slot.learner, Drawing):
            return evaluation
        return self._of(slot, 0, drawn)

    def _of(self, slot: Slot, first: int, choose: Choose) -> Evaluation:
        try:
            trajectories = tuple(ts for group in self._groups for ts in self._together(slot, group, first, choose))
        except EnvError as error:  # training has not failed, and stands where the last checkpoint was taken
            raise SegueError(f"in an evaluation, {error}; {self._cure}") from error
        table = lambda f: np.asarray([[f(t) for t in ts] for ts in trajectories], np.float64)  # noqa: E731
        total, success = table(lambda t: t.reward.sum()), table(lambda t: t.success)
        return Evaluation(
            total, table(lambda t: len(t.reward)), success, np.asarray(self.task.score(total, success)), trajectories
        )

    def _together(self, slot: Slot, group: Group, first: int, choose: Choose) -> list[tuple[Trajectory, ...]]:
        """The episodes of a group's seeds, which are all rolled out at once; the simulators of a seed share its own."""
        worlds = [(s, n) for s in range(group.size) for n in range(self._each)]
        seeds, envs = self.seeds[group.lanes], dict(zip(worlds, self._envs))
        waiting = [list(range(self.episodes)) for _ in seeds]
        done: list[dict[int, Trajectory]] = [{} for _ in seeds]
        current: dict[tuple[int, int], int] = {}  # the episode of each world that has one
        rows: dict[tuple[int, int], list[Any]] = {}
        plans: dict[tuple[int, int], list[np.ndarray]] = {}
        observation = np.zeros((group.size, self._each, *self.task.spec.observation), self.task.spec.dtype)

        def begin(over: Sequence[tuple[int, int]]) -> None:
            for w in over:
                current.pop(w, None)
                if waiting[w[0]]:
                    current[w], rows[w], plans[w] = waiting[w[0]].pop(0), [], []
            begun = [w for w in over if w in current]
            number = lambda w: episode_seed(seeds[w[0]], self.stream, first + current[w])  # noqa: E731
            where = "seed {}, reset of evaluation episode {}"
            asked = ((envs[w], number(w), where.format(seeds[w[0]], current[w])) for w in begun)
            for w, observed in zip(begun, answers("reset", asked)):
                observation[w] = observed

        begin(worlds)
        number = 0
        while current:
            moving, actions, over = sorted(current), {}, []
            if any(len(rows[w]) % slot.taken == 0 for w in moving):
                plan = choose(slot, group, observation, (first, number))
            number += 1
            for w in moving:
                step = len(rows[w]) % slot.taken
                if step == 0:
                    plans[w].append(plan[w])
                actions[w] = plans[w][-1].reshape(slot.chunk, -1)[step]
            where = "seed {}, evaluation episode {}"
            asked = ((envs[w], actions[w], where.format(seeds[w[0]], current[w])) for w in moving)
            for w, (following, reward, terminated, truncated, success) in zip(moving, answers("step", asked)):
                rows[w].append((observation[w].copy(), actions[w], reward, terminated, success))
                observation[w] = following
                if terminated or truncated:
                    seen, acted, rewards, ends, wins = zip(*rows[w])
                    done[w[0]][current[w]] = Trajectory(
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
        return [tuple(found[e] for e in range(self.episodes)) for found in done]

    def close(self) -> None:
        """Release the simulators."""
        for env in self._envs:
            env.close()
        self._envs.clear()
