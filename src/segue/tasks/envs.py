"""Gymnasium environments with flat observations and actions in [-1, 1].

world.reset(seed)                  observation 0
world.step(action 0)  ->  observation 1, reward 0, terminated 0, truncated 0, success up to step 0
...
after terminated or truncated only reset() is allowed: nothing resets by itself
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from segue.core.observations import is_image, pack, width
from segue.core.types import EnvError, Part, SegueError
from segue.data.extras import need, robotics
from segue.tasks import d4rl, own

for _id, _world in {**own.WORLDS, **d4rl.WORLDS}.items():
    gymnasium.register(_id, _world.entry_point, max_episode_steps=_world.horizon, kwargs=_world.kwargs)


def _share(terminated: bool, info: Mapping[str, Any]) -> float:
    """Share of FrankaKitchen's tasks that have been done in this episode: D4RL's score of it."""
    done = set(info.get("episode_task_completions", ()))
    return len(done) / max(1, len(done.union(info.get("tasks_to_complete", ()))))


Success = Callable[[bool, Mapping[str, Any]], float]
SUCCESS: dict[str, Success] = {  # (terminated, info) -> success in 0..1, where info has no "success"
    "never": lambda terminated, info: 0.0,
    "terminated": lambda terminated, info: float(terminated),
    "tasks": _share,
}
REWARDS: dict[str, Callable[[float, float], float]] = {  # (environment's reward, success of this step) -> raw reward
    "env": lambda reward, success: reward,
    "success-1": lambda reward, success: success - 1.0,
}
PACKAGES = {"ogbench": "ogbench"}  # module in "module:id" -> the extra that installs it


def make_env(
    env: str | Callable[..., gymnasium.Env],
    kwargs: Mapping[str, object] | None = None,
    horizon: int | None = None,
    exact_goal: bool = False,
) -> gymnasium.Env:
    """Make an environment from its Gymnasium id and keywords, or by calling `env`.

    `horizon` replaces the registered time limit of an id (None keeps it).  `exact_goal`: see `ExactGoal`.
    Raises `SegueError` if the id is not known, a package is missing, or the environment refuses.
    """
    where = env if isinstance(env, str) else getattr(env, "__name__", "the environment")
    if isinstance(env, str) and (module := env.partition(":")[0]) in PACKAGES:
        need(module, PACKAGES[module], where)
    # Where somebody else has registered its environments already, `robotics` still has to mend them.
    if (
        isinstance(env, str)
        and ":" not in env
        and (env not in gymnasium.registry or "gymnasium_robotics" in sys.modules)
    ):
        robotics()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of versions that are out of date: a dataset names the one it was logged in
            if isinstance(env, str):
                made = gymnasium.make(env, max_episode_steps=horizon, disable_env_checker=True, **(kwargs or {}))
            else:
                made = env(**(kwargs or {}))
    except Exception as error:  # an environment raises what it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SegueError(
            f"{where}: cannot be made with {dict(kwargs or {})} ({reason}); check the id and keywords"
        ) from error
    return ExactGoal(made) if exact_goal else made


def registered(env: str) -> EnvSpec | None:
    """What Gymnasium's registry knows of an id, or of "module:id", without making the environment; None: nothing."""
    module, _, name = env.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
    except Exception:  # not installed, or broken: `make_env` says so
        return None
    return gymnasium.registry.get(name)


def is_real(env: str | Callable[..., gymnasium.Env]) -> bool:
    """Whether an environment's class says `metadata = {"real": True}`; none is made, so nothing is reached."""
    made: object = env
    if isinstance(env, str):
        found = registered(env)
        made = None if found is None else found.entry_point
        if isinstance(made, str):
            try:
                made = load_env_creator(made)
            except Exception:  # not installed: `make_env` says so
                return False
    if not (isinstance(made, type) and issubclass(made, gymnasium.Env)):
        return False
    said = made.metadata  # a property, where only a made environment can say
    return isinstance(said, Mapping) and bool(said.get("real"))


class ExactGoal(gymnasium.Wrapper):
    """A maze whose goal is the centre of the cell asked for.

    Gymnasium-robotics moves even a commanded goal by up to a quarter of a cell (AntMaze: 1 m, with a radius of
    0.45 m) and the agent is not told.  D4RL-style datasets are labelled for the centre, so the world must be as well.
    The start keeps its noise.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Reset with options that name a "goal_cell"."""
        observation, info = self.env.reset(seed=seed, options=options)
        maze: Any = self.env.unwrapped
        maze.goal = np.array(maze.maze.cell_rowcol_to_xy(np.asarray((options or {})["goal_cell"])), np.float64)
        maze.update_target_site_pos()
        return {**observation, "desired_goal": maze.goal.copy()}, info


class GymEnv:
    """An `Env` over one Gymnasium environment.

    `keys` name the parts of a dictionary observation to concatenate, in order; () takes a Box as it is.  With images
    (uint8) among the keys, a row is bytes: `parts` says of what, and `segue.core.observations` takes it apart.
    `options` go to every reset.  Actions in [-1, 1] are scaled to the environment's bounds.  `reward` and `success`
    name rules of `REWARDS` and `SUCCESS` (success is 0 or 1, and a share between them by the rule "tasks");
    `terminal_success` ends the episode at the first success.  An episode is truncated at `horizon` steps exactly, or
    earlier where the environment says so.

    Replayable bit for bit: `reset(seed)` and the same actions give the same observations, if the environment draws
    its random numbers from its own generator, from its action space (OGBench's resets take random steps), which is
    seeded as well, or in `reset` only from numpy's global one (OGBench's mazes do), which is seeded for that call and
    put back.  One that draws from the global one while stepping is not replayable.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        horizon: int,
        keys: tuple[str, ...] = (),
        options: Mapping[str, object] | None = None,
        reward: str = "env",
        success: str = "never",
        terminal_success: bool = False,
    ) -> None:
        for name, rules in ((reward, REWARDS), (success, SUCCESS)):
            if name not in rules:
                raise SegueError(f"{_title(env)}: no rule {name!r}; there are {', '.join(rules)}")
        self.env, self.horizon = env, horizon
        _keep_action_space(env)
        self._keys, self._options, self._terminal = keys, dict(options or {}), terminal_success
        self._reward, self._success = REWARDS[reward], SUCCESS[success]
        self._defined = success != "never"
        self._shape, self.observation_dtype, self.parts = _observation(env, keys)
        self.observation_shape = self._shape
        self.action_size, self._middle, self._half, self._dtype = _action(env)
        self._step, self._succeeded, self._over = 0, math.nan, True

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; return its first observation."""
        self.env.unwrapped.action_space.seed(seed)
        with _global_seed(seed), _named(self.env, "reset()"):
            returned = self.env.reset(seed=seed, options=dict(self._options) or None)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise EnvError(f"{_title(self.env)}: reset() must return (observation, info), as in Gymnasium; fix it")
        self._step, self._succeeded, self._over = 0, math.nan, False
        return self._flat(returned[0], "reset()")

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, float]:
        """Act (A,), clipped to [-1, 1]; return next observation, raw reward, terminated, truncated, success so far."""
        if self._over:
            raise SegueError(f"{_title(self.env)}: step() after the end of an episode; call reset(seed) first")
        action = np.asarray(action, np.float64)
        if action.shape != (self.action_size,) or not np.isfinite(action).all():
            raise SegueError(f"{_title(self.env)}: action {action} is not {self.action_size} finite numbers in [-1, 1]")
        scaled = self._middle + self._half * np.clip(action, -1.0, 1.0)
        with _named(self.env, "step()"):
            returned = self.env.step(scaled.astype(self._dtype))
        if not (isinstance(returned, tuple) and len(returned) == 5):
            found = f"{len(returned)} values" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
            raise EnvError(
                f"{_title(self.env)}: step() returned {found}; it must return five (observation, reward, "
                "terminated, truncated, info); Gym before 0.26 has four: split `done` into terminated and truncated"
            )
        observation, reward, terminated, cut, info = returned
        seen = self._flat(observation, "step()")
        if not math.isfinite(reward):
            raise EnvError(f"{_title(self.env)}: step() returned the reward {reward}; fix the environment")
        success = float(bool(info["success"])) if "success" in info else self._success(bool(terminated), info)
        self._step += 1
        if self._defined or "success" in info:
            self._succeeded = max(success, 0.0 if math.isnan(self._succeeded) else self._succeeded)
        ended = bool(terminated) or (self._terminal and success == 1.0)
        truncated = not ended and (bool(cut) or self._step >= self.horizon)
        self._over = ended or truncated
        return seen, self._reward(float(reward), success), ended, truncated, self._succeeded

    @property
    def environment_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest action (A,) of the environment itself."""
        return self._middle - self._half, self._middle + self._half

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """What an agent's actions -1 and 1 stand for (A,)."""
        return self.environment_bounds

    def draw(self) -> np.ndarray:
        """A picture of the world as it stands, (height, width, 3) of uint8; made with render_mode="rgb_array"."""
        with _named(self.env, "render()"):
            picture = np.asarray(self.env.render())
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise EnvError(
                f"{_title(self.env)}: render() returned {picture.dtype} of shape {picture.shape}; a picture is uint8 "
                'of shape (height, width, 3), and the environment must take render_mode="rgb_array"'
            )
        return picture

    @property
    def steps_per_second(self) -> float | None:
        """How fast the world moves, where the environment says so."""
        said = self.env.metadata.get("render_fps")
        return None if said is None else float(said)

    def close(self) -> None:
        """Release the simulator."""
        self.env.close()

    def _flat(self, observation: Any, where: str) -> np.ndarray:
        """Return a copy: some environments hand out the array they go on writing to.  `EnvError` if it is no such."""
        try:
            if self.parts:
                return pack(self.parts, observation)
            if self._keys:
                seen = np.concatenate([np.ravel(observation[key]) for key in self._keys], dtype=np.float32)
            else:
                seen = np.array(observation, self.observation_dtype)
        except (KeyError, IndexError, TypeError, ValueError, SegueError) as error:
            raise EnvError(
                f"{_title(self.env)}: {where} returned an observation that is not in its space ({error})"
            ) from error
        if seen.shape != self._shape:
            raise EnvError(
                f"{_title(self.env)}: {where} returned an observation of shape {seen.shape}, its space says "
                f"{self._shape}; fix one of them"
            )
        if seen.dtype.kind == "f" and not np.isfinite(seen).all():
            bad = int(np.flatnonzero(~np.isfinite(seen))[0])
            raise EnvError(
                f"{_title(self.env)}: {where} returned {seen.ravel()[bad]} as number {bad} of the observation; fix it"
            )
        return seen


def _observation(env: gymnasium.Env, keys: tuple[str, ...]) -> tuple[tuple[int, ...], str, tuple[Part, ...]]:
    """Shape, type name and parts of what `GymEnv` returns; `SegueError` where the layout does not fit.

    Keys of vectors are put side by side.  One image is itself, and with an image among several keys, rows are bytes.
    """
    space = env.observation_space
    if isinstance(space, gymnasium.spaces.Dict):
        boxes = {key: part for key, part in space.items() if isinstance(part, gymnasium.spaces.Box)}
        missing = [key for key in keys if key not in boxes]
        if missing or not keys:
            raise SegueError(
                f"{_title(env)}: observations are a dictionary of {sorted(boxes)}, keys={keys!r}; name its keys"
            )
        kind = lambda box: "uint8" if box.dtype == np.uint8 else "float32"  # noqa: E731
        parts = tuple(Part(key, tuple(boxes[key].shape), kind(boxes[key])) for key in keys)
        if any(is_image(part) for part in parts):
            return (width(parts),), "uint8", parts
        return (sum(int(np.prod(part.shape)) for part in parts),), "float32", ()
    if not isinstance(space, gymnasium.spaces.Box):
        raise SegueError(f"{_title(env)}: observations are {space}; Segue needs a Box or a dictionary of Boxes")
    if keys:
        raise SegueError(f"{_title(env)}: observations are one array, so keys={keys!r} has no effect; leave it out")
    return tuple(space.shape), "uint8" if space.dtype == np.uint8 else "float32", ()


def _action(env: gymnasium.Env) -> tuple[int, np.ndarray, np.ndarray, np.dtype]:
    """Size, middle and half-width of the action space, and its type; [-1, 1] maps to itself exactly."""
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or not space.is_bounded():
        raise SegueError(f"{_title(env)}: actions are {space}; Segue needs a flat Box with finite bounds")
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    return space.shape[0], (low + high) / 2.0, (high - low) / 2.0, np.dtype(space.dtype)


def _title(env: gymnasium.Env) -> str:
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def _keep_action_space(env: gymnasium.Env) -> None:
    """Give an environment that makes its action space anew whenever it is looked at one that stays.

    OGBench's arms do, so the random steps of their resets could not be seeded, and Gymnasium warns at each look.
    """
    inner = env.unwrapped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*precision lowered", UserWarning)
        space = inner.action_space
        renewed = inner.action_space is not space
    if renewed:
        kind = type(inner)
        inner.__class__ = type(kind.__name__, (kind,), {"action_space": space, "__module__": kind.__module__})


@contextmanager
def _named(env: gymnasium.Env, where: str) -> Iterator[None]:
    """Say of whatever an environment raises that it is the environment's, whoever moves it."""
    try:
        yield
    except SegueError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise EnvError(f"{_title(env)}: {where} raised {said}; fix the environment") from error


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator for the time of a reset and put it back, so that no caller notices."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
