"""Logs of OGBench's point mazes by its own recipe (Park et al. 2024, arXiv 2410.20092): a point walks towards goals, on
the shortest way of cells, with noise on its actions.

navigate    from any cell to one goal after the other, none of them in a straight corridor
stitch      to a goal four cells away, and there it stays

Episodes are functions of the seed and their number, as in `segue.collect.oracles`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np

from segue.data.extras import need

Kind = Literal["navigate", "stitch"]
Cell = tuple[int, int]
NOISE = 0.5  # standard deviation of an action's two numbers
STITCH = 4  # cells between start and goal


class Walk(NamedTuple):
    """What is published of a log: episodes, and transitions of each."""

    episodes: int
    steps: int


_USUAL: Mapping[str, Walk] = {"navigate": Walk(1000, 1000), "stitch": Walk(5000, 200)}
WALKS: Mapping[str, Mapping[str, Walk]] = {
    "pointmaze-medium": _USUAL,
    "pointmaze-large": _USUAL,
    "pointmaze-giant": {**_USUAL, "navigate": Walk(500, 2000)},
    "pointmaze-teleport": _USUAL,
}


class Maze:
    """One simulator of a point maze."""

    def __init__(self, env: str, kind: Kind, seed: int, steps: int) -> None:
        need("ogbench", "ogbench", f"making a log of {env}")
        import_module("ogbench.locomaze")
        self.name, self.kind, self.seed = env, kind, seed
        self.env = gymnasium.make(env, disable_env_checker=True, terminate_at_goal=False, max_episode_steps=steps + 1)
        inner: Any = self.env.unwrapped
        self.inner = inner
        self.free = [(int(i), int(j)) for i, j in np.argwhere(inner.maze_map == 0)]
        self.ends = [cell for cell in self.free if not self._straight(cell)]

    def episode(self, number: int) -> dict[str, np.ndarray]:
        """Rows of one episode."""
        name = zlib.crc32(f"{self.name} {self.kind}".encode())
        world, chance, noise = np.random.SeedSequence((self.seed, name, number)).generate_state(3)
        rng = np.random.default_rng(int(noise))
        np.random.seed(int(chance))  # noqa: NPY002 - the mazes draw from NumPy's global generator
        start = self.free[rng.integers(len(self.free))]
        far = self.ends if self.kind == "navigate" else self._away(start)
        goal = far[rng.integers(len(far))]
        self.env.action_space.seed(int(world))
        observation, _ = self.env.reset(
            seed=int(world), options={"task_info": {"task_name": self.kind, "init_ij": start, "goal_ij": goal}}
        )
        rows: dict[str, list[Any]] = {name: [] for name in ("observations", "actions", "terminals", "qpos", "qvel")}
        over = False
        while not over:
            here = self.inner.get_xy()
            way = self.inner.get_oracle_subgoal(here, self.inner.cur_goal_xy)[0] - here
            action = np.clip(way / (np.linalg.norm(way) + 1e-6) + rng.normal(0.0, NOISE, 2), -1.0, 1.0)
            following, _, terminated, truncated, info = self.env.step(action)
            over = bool(terminated or truncated)
            if info["success"] and self.kind == "navigate":
                goal = self.ends[rng.integers(len(self.ends))]
                self.inner.set_goal(goal_xy=self.inner.add_noise(self.inner.ij_to_xy(goal)))
            values = (observation, action, over, info["prev_qpos"], info["prev_qvel"])
            for column, value in zip(rows.values(), values):
                column.append(value)
            observation = following
        kinds: dict[str, Any] = {"terminals": np.bool_}
        return {name: np.array(values, kinds.get(name, np.float32)) for name, values in rows.items()}

    def _neighbours(self, cell: Cell) -> list[Cell]:
        return [n for d, e in ((1, 0), (0, 1), (-1, 0), (0, -1)) if (n := (cell[0] + d, cell[1] + e)) in self.free]

    def _straight(self, cell: Cell) -> bool:
        """Whether a cell is a piece of a straight corridor: two neighbours, on opposite sides."""
        around = self._neighbours(cell)
        return len(around) == 2 and (around[0][0] + around[1][0], around[0][1] + around[1][1]) == (
            2 * cell[0],
            2 * cell[1],
        )

    def _away(self, start: Cell) -> list[Cell]:
        """Cells that are `STITCH` cells from a start; the farthest there are where the maze has none so far."""
        rings, seen = [[start]], {start}
        while rings[-1] and len(rings) <= STITCH:
            rings.append(sorted({n for cell in rings[-1] for n in self._neighbours(cell)} - seen))
            seen |= set(rings[-1])
        return rings[-1] or rings[-2]
