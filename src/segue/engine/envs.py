"""The simulators that a run collects from: one or several per seed, stepped side by side.

Every episode begins with `reset(seed)`; the seed is a function of the run's seed and the episode's number.  So an open
episode is described by its seed and its actions, and a killed run restores any simulator exactly.  Only this module
resets simulators, so there are no transitions of an autoreset.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from segue.core.experience import Step
from segue.core.types import Env, EnvError, SegueError

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


@dataclass
class Open:
    """The open episode of a simulator."""

    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    success: float = math.nan


class Envs:
    """Worlds in the middle of their episodes; they are made here and move for the first time when `begin` is called.

    Each seed has `each` of them, which stand together; the n-th one has its episodes n, n + each, ...  `episodes` (W,)
    numbers the first ones, where others have been before.
    """

    def __init__(
        self, make: Callable[[], Env], seeds: Sequence[int], each: int = 1, episodes: Sequence[int] | None = None
    ) -> None:
        self.seeds = tuple(s for s in seeds for _ in range(each))
        """The seed that each world is of (W,)."""
        self.each = each
        self.envs: list[Env] = []
        self.episodes = list(range(each)) * len(seeds) if episodes is None else list(episodes)
        self.open = [Open() for _ in self.seeds]
        self.over = np.ones(len(self.seeds), np.bool_)
        """Worlds whose next episode has not begun."""
        self.observation = np.zeros(0)
        self._closed = False
        try:
            for _ in self.seeds:
                self.envs.append(make())
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Begin the next episode where one is over; raise `EnvError` where an environment fails."""
        for w in np.flatnonzero(self.over).tolist():
            first = self._reset(w)
            if not self.observation.size:
                self.observation = np.zeros((len(self.seeds), *first.shape), first.dtype)
            self.observation = self.observation.copy()
            self.observation[w] = first
            self.over[w] = False

    def _reset(self, w: int) -> np.ndarray:
        self.open[w] = Open()
        with failing(f"seed {self.seeds[w]}, reset of episode {self.episodes[w]}"):
            return self.envs[w].reset(episode_seed(self.seeds[w], TRAINING, self.episodes[w]))

    def step(self, actions: Iterable[np.ndarray]) -> tuple[Step, dict[int, Open]]:
        """Step all environments, each with an action (A,) that is asked for when the ones before have stepped.

        Also return the episodes that ended, by environment (see `begin`).  Raises `EnvError` where an
        environment fails; then nothing of this step is kept, of no environment.
        """
        results, taken = [], []
        for w, (env, one) in enumerate(zip(self.envs, actions, strict=True)):
            where = f"seed {self.seeds[w]}, step {len(self.open[w].actions)} of episode {self.episodes[w]}"
            with failing(where):
                results.append(env.step(one))
            taken.append(one)
        following, reward, terminated, truncated, success = (list(x) for x in zip(*results))
        action = np.stack(taken)
        step = Step(
            self.observation,
            action,
            np.asarray(reward, np.float32),
            np.asarray(terminated, np.bool_),
            np.asarray(truncated, np.bool_),
            np.stack(following),
        )
        ended = {}
        for w in range(len(self.envs)):
            self.open[w].actions.append(action[w])
            self.open[w].rewards.append(float(reward[w]))
            self.open[w].success = float(success[w])
            if terminated[w] or truncated[w]:
                ended[w] = self.open[w]
                self.open[w] = Open()
                self.episodes[w] += self.each
                self.over[w] = True
        self.observation = step.next_observation
        return step, ended

    def snapshot(self) -> dict[str, np.ndarray]:
        """Arrays that `restore` needs: episode numbers and the actions of the open episodes."""
        actions = {f"actions.{w}": np.asarray(o.actions, np.float32) for w, o in enumerate(self.open) if o.actions}
        numbers = {"episodes": np.asarray(self.episodes, np.int64), "over": self.over}
        return {**numbers, "observation": self.observation, **actions}

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Go back to where `snapshot` was taken: replay the open episodes; raise if an environment does not repeat."""
        self.episodes = [int(x) for x in snapshot["episodes"]]
        begun = ~np.asarray(snapshot.get("over", np.zeros(len(self.seeds), np.bool_)))
        current = []
        for w, env in enumerate(self.envs):
            observation = self._reset(w)
            for action in snapshot.get(f"actions.{w}", ()):
                with failing(f"seed {self.seeds[w]}, replaying its open episode"):
                    observation, reward, _, _, success = env.step(action)
                self.open[w].actions.append(action)
                self.open[w].rewards.append(float(reward))
                self.open[w].success = float(success)
            if begun[w] and not np.array_equal(observation, snapshot["observation"][w]):
                raise SegueError(
                    f"seed {self.seeds[w]}: the environment did not repeat its open episode after reset(seed) and the "
                    "same actions, so the run cannot be resumed exactly; use an environment that is deterministic "
                    "given its seed, or a task that says real=True, whose episodes are never replayed"
                )
            current.append(observation)
        self.observation, self.over = np.stack(current), np.zeros(len(self.seeds), np.bool_)

    def close(self) -> None:
        """Release all simulators, once; what they raise then hides nothing."""
        envs, self._closed = [] if self._closed else self.envs, True
        for env in envs:
            with contextlib.suppress(Exception):
                env.close()


@contextlib.contextmanager
def failing(where: str) -> Iterator[None]:
    """Turn any exception of an environment into one line that names the environment."""
    try:
        yield
    except Exception as error:
        said = str(error) if isinstance(error, SegueError) else f"{type(error).__name__}: {error}"
        raise EnvError(f"the environment failed ({where}): {' '.join(said.split())}") from error
