"""A task as plain data: environment, log, rewards and score."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

import gymnasium
import numpy as np

from segue.core.log import Data
from segue.core.observations import plain
from segue.core.types import SegueError, Spec
from segue.data import (
    describe,
    end_at_success,
    make_pointmaze,
    make_pointmaze_pixels,
    read,
    read_d4rl,
    read_minari,
    without,
)
from segue.data.extras import versions
from segue.data.facts import RULES
from segue.data.store import find_stored
from segue.tasks.envs import GymEnv, is_real, make_env, registered
from segue.tasks.residual import Residual, ResidualEnv, corrections
from segue.tasks.scores import SUCCESS

Pairs = tuple[tuple[str, object], ...]
Bounds = tuple[np.ndarray, np.ndarray]
NOWHERE = "there is a log but no environment; name one (data:NAME?env=ID), or learn offline only"
MAKE = "give GymTask.custom its id, its class, or a function that makes one"


@dataclass(frozen=True)
class GymTask:
    """A `Task` over any Gymnasium environment.

    `env`: an id, a callable that makes one, or None for a log alone.  `domain`: the key of presets ("pointmaze",
    "pointmaze-pixels", "antmaze", "adroit-binary", "locomotion", "kitchen", "maze2d", "ogbench", "custom").  `presets`:
    more such keys, from the general to the particular ("hopper", "hopper-medium"); the task's own name comes last.
    `env_kwargs`,
    `options` (of every reset): pairs, see `pairs`.  `keys`, `reward`, `success`, `terminal_success`: as in `GymEnv`.
    `exact_goal`: as in `make_env`.  `failure`: raw reward of a step that has not succeeded (None: dense rewards).
    `source`: "stored:NAME", "pointmaze:MAZE", "pointmaze-pixels:MAZE", "d4rl:PATH", "ogbench:PATH?task=ENV",
    "minari:ID", "data" (the field `data`), "none", or "absent:CURE" for a log that is not here.  `reference`: (random,
    expert) raw returns; (0, 1) scores by success.  `real`: the environment exists once and cannot be replayed (a
    robot): one connection, moved only in phases that collect.  `away`: x, y and a radius in metres; rows of the log
    that come so near to it are left out (`segue.data.without`).  `residual`: a policy that the agent corrects.
    """

    name: str
    env: str | Callable[..., gymnasium.Env] | None
    horizon: int
    domain: str = "custom"
    presets: tuple[str, ...] = ()
    env_kwargs: Pairs = ()
    keys: tuple[str, ...] = ()
    options: Pairs = ()
    exact_goal: bool = False
    reward: str = "env"
    success: str = "never"
    terminal_success: bool = False
    failure: float | None = None
    source: str = "none"
    reference: tuple[float, float] | None = None
    real: bool = False
    away: tuple[float, float, float] | None = None
    residual: Residual | None = None
    data: Data | None = field(default=None, compare=False, repr=False)

    @classmethod
    def custom(
        cls,
        env: str | Callable[..., gymnasium.Env] | None,
        data: Data | None = None,
        *,
        name: str | None = None,
        horizon: int | None = None,
        domain: str = "custom",
        presets: tuple[str, ...] = (),
        env_kwargs: Mapping[str, object] | None = None,
        keys: tuple[str, ...] = (),
        options: Mapping[str, object] | None = None,
        exact_goal: bool = False,
        reward: str = "env",
        success: str = "never",
        terminal_success: bool = False,
        failure: float | None = None,
        reference: tuple[float, float] | None = None,
        real: bool | None = None,
    ) -> GymTask:
        """Make a task of your own environment and, optionally, its log as `Data` with the rewards of `reward`.

        `horizon` defaults to the environment's registered time limit; without either, `SegueError` is raised.  `real`
        defaults to the metadata of the environment's class.  Without an environment (None) shapes come from the log,
        actions are in [-1, 1], and a run can only learn offline.
        """
        if env is None:
            if data is None:
                raise SegueError("a task without an environment needs a log; give data=")
            return cls(name or "log", None, _longest(data), domain, presets, source="data", failure=failure, data=data)
        if isinstance(env, gymnasium.Env):
            made = env.spec.id if env.spec is not None else type(env).__name__
            raise SegueError(f"{made}: each seed needs an environment of its own, and this is a single object; {MAKE}")
        if not (isinstance(env, str) or callable(env)):
            raise SegueError(f"{env!r} is not an environment; {MAKE}")
        title = env if isinstance(env, str) else getattr(env, "__name__", "custom")
        kwargs = pairs(env_kwargs or {})
        known = registered(env) if horizon is None and isinstance(env, str) else None
        if known is not None:
            horizon = known.max_episode_steps
        elif horizon is None:
            probe = make_env(env, dict(kwargs))
            horizon = probe.spec.max_episode_steps if probe.spec is not None else None
            probe.close()
        if horizon is None:
            raise SegueError(
                f"{title}: the environment has no registered time limit; give horizon=, the longest episode"
            )
        return cls(
            name=name or title,
            env=env,
            horizon=horizon,
            domain=domain,
            presets=presets,
            env_kwargs=kwargs,
            keys=keys,
            options=pairs(options or {}),
            exact_goal=exact_goal,
            reward=reward,
            success=success,
            terminal_success=terminal_success,
            failure=failure,
            source="none" if data is None else "data",
            reference=reference,
            real=is_real(env) if real is None else real,
            data=data,
        )

    @property
    def absent(self) -> bool:
        """Whether there is no environment."""
        return self.env is None

    @property
    def spec(self) -> Spec:
        """Shapes of observations and actions, from the environment (made once and closed, never reset)."""
        return self._shapes[0]

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest action (A,) of the environment itself, float64."""
        return self._shapes[1]

    @functools.cached_property
    def _shapes(self) -> tuple[Spec, Bounds, Bounds]:
        """Shapes, the actions' bounds, and those of the environment itself."""
        if self.env is None:
            data = self._read()
            assert data is not None
            kind = "uint8" if data.observation.dtype == np.uint8 else "float32"
            size = data.action.shape[1]
            bounds = -np.ones(size), np.ones(size)
            return Spec(data.observation.shape[1:], size, kind, data.made_of), bounds, bounds
        world = self.make_env()
        world.close()
        spec = Spec(world.observation_shape, world.action_size, world.observation_dtype, world.parts)
        return spec, world.action_bounds, world.environment_bounds

    def dataset(self) -> Data | None:
        """Return the checked log, read once per task object, or None where the task has none.

        Raises `SegueError` if the log is not fit to learn from or is not one of this environment.
        """
        return self._log

    @functools.cached_property
    def _log(self) -> Data | None:
        data = self._read()
        if data is None:
            return None
        if self.reward == "success-1" and not np.isin(data.reward, (-1.0, 0.0)).all():
            raise SegueError(
                f"{self.name}: dataset {data.source} has rewards other than -1 and 0, but the task's are success - 1; "
                "import it with reward=binary"
            )
        # By the environment's own rewards a log does not say where success was, and 0 may be what a failing step pays.
        ends = self.terminal_success and self.reward == "success-1"
        data = (end_at_success(data) if ends else data).check()
        if self.residual is not None:
            data = corrections(data, self.residual, self._shapes[2])
        logged, needed = (data.observation.shape[1:], data.action.shape[1]), (self.spec.observation, self.spec.action)
        if data.made_of and data.made_of != self.spec.parts:
            raise SegueError(
                f"{self.name}: dataset {data.source} has observations of {[*data.made_of]}, but the environment "
                f"{self._env_name} of {[*self.spec.parts]}; name the same keys in the same order"
            )
        if (data.observation.dtype == np.uint8) != (self.spec.dtype == "uint8"):
            raise SegueError(
                f"{self.name}: dataset {data.source} has observations of {data.observation.dtype}, but the environment "
                f"{self._env_name} has {self.spec.dtype}; check env_kwargs and keys"
            )
        if logged != needed:
            raise SegueError(
                f"{self.name}: dataset {data.source} has observations of shape {logged[0]} and {logged[1]} actions, "
                f"but the environment {self._env_name} has {needed[0]} and {needed[1]}; check env_kwargs and keys"
            )
        return data

    def _read(self) -> Data | None:
        """Return the log as it was logged, before success ends episodes."""
        kind, _, where = self.source.partition(":")
        if kind not in SOURCES:
            raise SegueError(f"{self.name}: no source {self.source!r}; there are {', '.join(SOURCES)}")
        data = SOURCES[kind](self, where)
        if data is None or self.away is None:
            return data
        x, y, radius = self.away
        return without(data, (x, y), radius)

    def make_env(self) -> GymEnv:
        """Make one new simulator, or connect to the world that exists once."""
        if self.env is None:
            raise SegueError(f"{self.name}: {NOWHERE}")
        made = make_env(self.env, dict(self.env_kwargs), self.horizon, self.exact_goal)
        if made.unwrapped.metadata.get("real") and not self.real:
            made.close()
            raise SegueError(f"{self.name}: its environment says that it is real; give the task real=True")
        options = {key: np.asarray(value) if isinstance(value, tuple) else value for key, value in self.options}
        rules = made, self.horizon, self.keys, options, self.reward, self.success, self.terminal_success
        return GymEnv(*rules) if self.residual is None else ResidualEnv(self.residual, *rules)

    def drawn(self) -> GymTask:
        """The same task with simulators that can be drawn (`GymEnv.draw`)."""
        return replace(self, env_kwargs=pairs({**dict(self.env_kwargs), "render_mode": "rgb_array"}))

    def score(self, raw_return: np.ndarray, success: np.ndarray) -> np.ndarray:
        """Normalised scores, 100 = expert: 100 (return - random) / (expert - random), or the success percentage.

        The percentage where the reference is (0, 1); the raw return where the task has no reference.
        """
        if self.reference is None:
            return np.asarray(raw_return, np.float64)
        if self.reference == SUCCESS:
            return 100.0 * np.asarray(success, np.float64)
        random, expert = self.reference
        return 100.0 * (np.asarray(raw_return, np.float64) - random) / (expert - random)

    def rules(self) -> dict[str, object]:
        """What the task says beside its environment, as JSON (`segue.data.facts.RULES`)."""
        return {name: dict(self.options) if name == "options" else getattr(self, name) for name in RULES}

    def card(self) -> dict[str, object]:
        """Everything that defines the task and what its log holds, as JSON-ready values."""
        used = self.dataset()
        logged = self._read() if self.terminal_success else used  # whole trajectories are what a reader can judge
        dataset = None
        if used is not None and logged is not None:
            dataset = {**describe(logged, self.failure), "sha256": used.sha256()}
        return {
            "name": self.name,
            "domain": self.domain,
            "env": self._env_name,
            "env_kwargs": {key: _plain(value) for key, value in self.env_kwargs},
            "options": {key: _plain(value) for key, value in self.options},
            "horizon": self.horizon,
            "observation": {
                "keys": list(self.keys),
                "shape": list(self.spec.observation),
                "dtype": self.spec.dtype,
                "parts": plain(self.spec.parts),
            },
            "action": self.spec.action,
            "exact_goal": self.exact_goal,
            "reward": self.reward,
            "success": self.success,
            "failure": self.failure,
            "terminal_success": self.terminal_success,
            "score": "raw return" if self.reference is None else list(self.reference),
            "real": self.real,
            "source": self.source,
            "away": self.away and list(self.away),
            "residual": self.residual and asdict(self.residual),
            "dataset": dataset,
            "versions": versions(),
        }

    @property
    def _env_name(self) -> str:
        if self.env is None:
            return "none"
        return self.env if isinstance(self.env, str) else getattr(self.env, "__name__", type(self.env).__name__)


def _longest(data: Data) -> int:
    """Steps of a log's longest episode."""
    return int(np.diff(np.concatenate([[0], data.ends()])).max())


def _read_file(task: GymTask, path: str) -> Data:
    return read_d4rl(path, rewards_from="infos/success" if task.reward == "success-1" else None)


def _absent(task: GymTask, cure: str) -> Data | None:
    raise SegueError(f"{task.name}: {cure}")


SOURCES: dict[str, Callable[[GymTask, str], Data | None]] = {
    "none": lambda task, where: None,
    "absent": _absent,
    "data": lambda task, where: task.data,
    "pointmaze": lambda task, maze: make_pointmaze(maze),
    "pointmaze-pixels": lambda task, maze: make_pointmaze_pixels(maze),
    "d4rl": _read_file,
    "stored": lambda task, name: find_stored(name).data(),
    "minari": lambda task, dataset: read_minari(dataset, task.keys),
    "ogbench": lambda task, where: read(f"ogbench:{where}"),
}


def pairs(mapping: Mapping[str, object]) -> Pairs:
    """Turn a mapping into sorted, hashable pairs; lists and arrays become tuples."""
    return tuple((key, _frozen(mapping[key])) for key in sorted(mapping))


def _frozen(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | tuple | None) else repr(value)
