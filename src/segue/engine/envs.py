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
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from segue.core.experience import Step
from segue.core.types import Env, EnvError, SegueError

TRAINING, EVALUATION, VALIDATION, BEHAVIOUR, COLLECTION, TEST = range(6)


def episode_seed(run_seed: int, stream: int, episode: int) -> int:
    """Seed of an episode's reset; `stream` keeps the streams above apart."""
    return int(np.random.SeedSequence([run_seed, stream, episode]).generate_state(1)[0] >> 1)


class Simulator(Protocol):
    """An environment (`segue.core.types.Env`) that is asked now and answers later, so that several can work at once."""

    def ask(self, method: Literal["reset", "step"], argument: Any) -> None:
        """Ask for a reset, by a seed, or for a step, by an action."""
        ...

    def answer(self) -> Any:
        """What the environment returned; the first answer is None, and says that the environment is made."""
        ...

    def close(self) -> None:
        """Release the environment."""
        ...


class Here:
    """A simulator in this process, which does what it is asked at once."""

    def __init__(self, env: Env) -> None:
        self._does: dict[str, Callable[[Any], Any]] = {"reset": env.reset, "step": env.step}
        self._answer, self.close = None, env.close

    def ask(self, method: Literal["reset", "step"], argument: Any) -> None:
        """Do it."""
        self._answer = self._does[method](argument)

    def answer(self) -> Any:
        """What it returned."""
        return self._answer


def here(make: Callable[[], Env]) -> Callable[[], Simulator]:
    """Make simulators in this process."""
    return lambda: Here(make())


def answers(method: Literal["reset", "step"], questions: Iterable[tuple[Simulator, Any, str]]) -> list[Any]:
    """Ask simulators, each with its argument and the words that name it, and wait for all.

    A question is looked at when the ones before have been asked.  Raises `EnvError`.
    """
    asked = []
    for simulator, argument, where in questions:
        with failing(where):
            simulator.ask(method, argument)
        asked.append((simulator, where))
    out = []
    for simulator, where in asked:
        with failing(where):
            out.append(simulator.answer())
    return out


class Episode(NamedTuple):
    """A finished training episode of one seed (raw rewards); `environment_step` counts the seed's own steps."""

    seed: int
    raw_return: float
    length: int
    success: float
    environment_step: int
    own: float | None = None
    """The share of its steps in which the phase's own policy acted, where others act too; None elsewhere."""


@dataclass
class Open:
    """The open episode of a simulator."""

    actions: list[np.ndarray] = field(default_factory=list)
    seen: list[np.ndarray] = field(default_factory=list)
    """What was observed before each action."""
    rewards: list[float] = field(default_factory=list)
    success: float = math.nan


class Envs:
    """Worlds in the middle of their episodes; they are made here and move for the first time when `begin` is called.

    Each seed has `each` of them, which stand together; the n-th one has its episodes n, n + each, ...  `episodes` (W,)
    numbers the first ones, where others have been before.
    """

    def __init__(
        self, make: Callable[[], Simulator], seeds: Sequence[int], each: int = 1, episodes: Sequence[int] | None = None
    ) -> None:
        self.seeds = tuple(s for s in seeds for _ in range(each))
        """The seed that each world is of (W,)."""
        self.each = each
        self.envs: list[Simulator] = []
        self.episodes = list(range(each)) * len(seeds) if episodes is None else list(episodes)
        self.open = [Open() for _ in self.seeds]
        self.over = np.ones(len(self.seeds), np.bool_)
        """Worlds whose next episode has not begun."""
        self.observation = np.zeros(0)
        self._closed = False
        try:
            for _ in self.seeds:
                self.envs.append(make())
            for env in self.envs:
                env.answer()
        except EnvError as error:  # nothing has moved yet, and there is nothing to save
            self.close()
            raise SegueError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Begin the next episode where one is over; raise `EnvError` where an environment fails."""
        over = np.flatnonzero(self.over).tolist()
        if not over:
            return
        first = self._reset(over)
        if not self.observation.size:
            self.observation = np.zeros((len(self.seeds), *first[0].shape), first[0].dtype)
        self.observation = self.observation.copy()
        self.observation[over] = first
        self.over[over] = False

    def _reset(self, worlds: Sequence[int]) -> list[np.ndarray]:
        for w in worlds:
            self.open[w] = Open()
        where = "seed {}, reset of episode {}"
        named = [(self.envs[w], self.seeds[w], self.episodes[w]) for w in worlds]
        return answers(
            "reset", ((env, episode_seed(seed, TRAINING, n), where.format(seed, n)) for env, seed, n in named)
        )

    def step(self, actions: Iterable[np.ndarray]) -> tuple[Step, dict[int, Open]]:
        """Step all environments, each with an action (A,) that is asked for when the ones before have stepped.

        Also return the episodes that ended, by environment (see `begin`).  Raises `EnvError` where an
        environment fails; then nothing of this step is kept, of no environment.
        """
        taken: list[np.ndarray] = []

        def questions() -> Iterator[tuple[Simulator, np.ndarray, str]]:
            for w, (env, one) in enumerate(zip(self.envs, actions, strict=True)):
                taken.append(one)
                where = f"seed {self.seeds[w]}, step {len(self.open[w].actions)} of episode {self.episodes[w]}"
                yield env, one, where

        following, reward, terminated, truncated, success = (list(x) for x in zip(*answers("step", questions())))
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
            self.open[w].seen.append(self.observation[w])
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
        worlds = range(len(self.seeds))
        current, taken = self._reset(worlds), [snapshot.get(f"actions.{w}", ()) for w in worlds]
        for t in range(max(map(len, taken))):
            moving = [w for w in worlds if t < len(taken[w])]
            where = "seed {}, replaying its open episode"
            asked = ((self.envs[w], taken[w][t], where.format(self.seeds[w])) for w in moving)
            for w, (observation, reward, _, _, success) in zip(moving, answers("step", asked)):
                self.open[w].seen.append(current[w])
                current[w] = observation
                self.open[w].actions.append(taken[w][t])
                self.open[w].rewards.append(float(reward))
                self.open[w].success = float(success)
        for w in np.flatnonzero(begun).tolist():
            if not np.array_equal(current[w], snapshot["observation"][w]):
                raise SegueError(
                    f"seed {self.seeds[w]}: the environment did not repeat its open episode after reset(seed) and the "
                    "same actions, so the run cannot be resumed exactly; use an environment that is deterministic "
                    "given its seed, or a task that says real=True, whose episodes are never replayed"
                )
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
