"""Logs of OGBench's manipulation suite by its own recipe (Park et al. 2024, arXiv 2410.20092): the oracles of the
package `ogbench` solve one random sub-task after another, blind to the tasks that are tested later.

play     an oracle plans keyframes; the plan has smoothed noise on it
noisy    an oracle looks at every state; its actions have noise on them, and some are uniform

Episodes are functions of the seed and their number, so any number of processes makes the same file: with the published
number of rows it has the published distribution, not the published rows.  Differs between versions of ogbench and
MuJoCo.  Rewards come later, from a task (`segue.data.readers.relabel`).
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import warnings
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import gymnasium
import numpy as np

from segue.collect.walks import WALKS, Maze
from segue.core.options import unknown
from segue.core.types import SegueError
from segue.data.extras import need
from segue.data.files import write_atomically

ROWS = 1000  # transitions of an episode; a last row, which has no next one, comes on top


class Place(NamedTuple):
    """What is published of a place's logs."""

    episodes: int
    random: float
    """Share of uniform actions in "noisy"."""
    oracles: tuple[str, ...]
    closed: bool = False
    """The gripper stays closed."""
    stacking: tuple[float, float] | None = None
    """Bounds of an episode's probability that a cube is to be put on another."""
    loses_cube: bool = False
    """The cube may leave the middle of the table; such episodes are made anew."""


_CUBE, _BUTTON = ("cube",), ("button",)
PLACES: Mapping[str, Place] = {
    "cube-single": Place(1000, 0.1, _CUBE, stacking=(0.0, 0.0)),
    "cube-double": Place(1000, 0.1, _CUBE, stacking=(0.0, 0.25)),
    "cube-triple": Place(3000, 0.1, _CUBE, stacking=(0.05, 0.35)),
    "cube-quadruple": Place(5000, 0.1, _CUBE, stacking=(0.1, 0.5)),
    "scene": Place(1000, 0.1, ("cube", "button", "drawer", "window"), loses_cube=True),
    "puzzle-3x3": Place(1000, 0.2, _BUTTON, closed=True),
    "puzzle-4x4": Place(1000, 0.2, _BUTTON, closed=True),
    "puzzle-4x5": Place(3000, 0.2, _BUTTON, closed=True),
    "puzzle-4x6": Place(5000, 0.2, _BUTTON, closed=True),
}
NOISE, SMOOTHING, NEAREST = 0.1, 0.5, 0.4
SPREAD = np.array([1.0, 1.0, 1.0, 3.0, 10.0])  # of the noise on x, y, z, yaw and gripper
ATTEMPTS = 100
Kind = Literal["play", "noisy", "navigate", "stitch"]
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class OracleLog:
    """Which log: its place (`PLACES`), how the oracles act, the seed of everything, and the length of episodes."""

    place: str
    kind: Kind = "play"
    seed: int = 0
    steps: int = ROWS
    """Transitions of an episode."""

    @classmethod
    def named(cls, name: str, seed: int = 0) -> OracleLog:
        """The log of a name like "cube-single-play"; `SegueError` for another one."""
        known: dict[str, OracleLog] = {}
        for kind in get_args(Kind):
            for place in PLACES if kind in ("play", "noisy") else WALKS:
                steps = ROWS if place in PLACES else WALKS[place][kind].steps
                known[f"{place}-{kind}"] = cls(place, kind, seed, steps)
        if (short := name.removesuffix("-v0")) not in known:
            unknown("segue data make: ogbench", name, [*known])
        return known[short]

    @property
    def episodes(self) -> int:
        """How many are published for training."""
        return WALKS[self.place][self.kind].episodes if self.place in WALKS else PLACES[self.place].episodes

    @property
    def env(self) -> str:
        """The environment of the package."""
        return f"{self.place}-v0"

    @property
    def file(self) -> str:
        """The published name of its file."""
        return f"{self.place}-{self.kind}-v0.npz"


class Table:
    """One simulator with its oracles."""

    def __init__(self, log: OracleLog) -> None:
        need("ogbench", "ogbench", f"making {log.file}")
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")  # OGBench's arms make their action space anew, and Gymnasium says so
            import_module("ogbench.manipspace")
            self.log, self.place = log, PLACES[log.place]
            self.env = gymnasium.make(
                log.env,
                disable_env_checker=True,
                terminate_at_goal=False,
                mode="data_collection",
                max_episode_steps=log.steps + 1,
            )
        how: dict[str, Any] = {"noise": NOISE, "noise_smoothing": SMOOTHING} if log.kind == "play" else {}
        how |= {} if log.kind == "play" else {"min_norm": NEAREST}
        how |= {"gripper_always_closed": True} if self.place.closed else {}
        self.oracles = {name: _oracle(name, log.kind)(env=self.env, **how) for name in self.place.oracles}

    def episode(self, number: int) -> Columns:
        """Rows of one episode; where a scene's cube is lost it is made anew, as in the published script."""
        for attempt in range(ATTEMPTS):
            name = zlib.crc32(f"{self.log.env} {self.log.kind}".encode())
            world, oracle, noise = np.random.SeedSequence((self.log.seed, name, number, attempt)).generate_state(3)
            rows = self._rolled(int(world), int(oracle), np.random.default_rng(int(noise)))
            if not self.place.loses_cube or _healthy(rows["qpos"]):
                return rows
        raise SegueError(f"{self.log.file}: episode {number} lost its cube in {ATTEMPTS} attempts; take another seed")

    def _rolled(self, world: int, oracle: int, rng: np.random.Generator) -> Columns:
        np.random.seed(oracle)  # noqa: NPY002 - the oracles draw from NumPy's global generator
        observation, info = self.env.reset(seed=world)
        stack = 0.5 if self.place.stacking is None else rng.uniform(*self.place.stacking)
        noisy = self.log.kind == "noisy"
        width, share = (rng.uniform(0, NOISE), self.place.random) if noisy else (0.0, 0.0)
        acting = self._begun(observation, info)
        rows: dict[str, list[Any]] = {name: [] for name in ("observations", "actions", "terminals", "qpos", "qvel")}
        over = False
        while not over:
            if rng.random() < share:
                action = rng.uniform(-1, 1, 5)
            else:
                action = np.array(acting.select_action(observation, info))
                action = action + rng.normal(0, 1, 5) * width * SPREAD if noisy else action
            action = np.clip(action, -1, 1)
            following, _, terminated, truncated, info = self.env.step(action)
            over = bool(terminated or truncated)
            if acting.done:
                inner: Any = self.env.unwrapped
                acting = self._begun(*inner.set_new_target(p_stack=stack))
            here = {"observations": observation, "actions": action, "terminals": over}
            here |= {"qpos": info["prev_qpos"], "qvel": info["prev_qvel"]}
            if "prev_button_states" in info:
                here["button_states"] = info["prev_button_states"]
            for column, value in here.items():
                rows.setdefault(column, []).append(value)
            observation = following
        kinds: dict[str, Any] = {"terminals": np.bool_, "button_states": np.int64}
        return {name: np.array(values, kinds.get(name, np.float32)) for name, values in rows.items()}

    def _begun(self, observation: np.ndarray, info: Mapping[str, Any]) -> Any:
        """The oracle of the sub-task that is set now."""
        oracle = self.oracles[info["privileged/target_task"]]
        oracle.reset(observation, info)
        return oracle


def _oracle(name: str, kind: Kind) -> Any:
    word = "plan" if kind == "play" else "markov"
    module = import_module(f"ogbench.manipspace.oracles.{word}.{name}_{word}")
    return getattr(module, f"{name.capitalize()}{word.capitalize()}Oracle")


def _healthy(qpos: np.ndarray) -> bool:
    """Whether a scene's cube has stayed on the table's middle, or in the drawer."""
    _, y, z = qpos[:, 14:17].T.astype(np.float64)
    return not ((y >= 0.29).any() or ((y <= -0.3) & ((z < 0.06) | (z > 0.08))).any())


def episodes_of(log: OracleLog, numbers: range, workers: int = 1) -> Iterator[Columns]:
    """Some episodes of a log in order, made by so many processes; `SegueError` where the package is missing."""
    need("ogbench", "ogbench", f"making {log.file}")  # here, because a process that cannot begin says less
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (log,)) as pool:
        yield from pool.map(_one, numbers)


_table: list[Table | Maze] = []  # of a process that makes episodes


def _start(log: OracleLog) -> None:
    if log.kind == "navigate" or log.kind == "stitch":
        _table[:] = [Maze(log.env, log.kind, log.seed, log.steps)]
    else:
        _table[:] = [Table(log)]


def _one(number: int) -> Columns:
    return _table[0].episode(number)


def write_log(path: Path, episodes: Iterator[Columns]) -> int:
    """Write episodes in the published layout, whole or not at all; return how many transitions they have."""
    made = list(episodes)
    columns = {name: np.concatenate([rows[name] for rows in made]) for name in made[0]}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **columns)  # type: ignore[arg-type]

    write_atomically(path, write)
    return sum(len(rows["terminals"]) - 1 for rows in made)
