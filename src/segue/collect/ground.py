"""The maze of a task: its cells, the paths between them, and the position of the body in an observation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import gymnasium
import numpy as np

from segue.core.types import SegueError
from segue.data.extras import robotics
from segue.data.making.mazes import Cell
from segue.data.making.pointmaze import next_cells
from segue.tasks import GymEnv, GymTask

if TYPE_CHECKING:
    from gymnasium_robotics.envs.maze.maze_v4 import MazeEnv

    from segue.tasks.antmaze import AntMaze

STARTS = 1  # keeps the choice of a start apart from all else that is drawn from an episode's seed


@dataclass(frozen=True)
class Body:
    """Whose state an observation holds: the keys of x, y and of the state, and how many numbers that has.

    `ahead`: how many cells ahead, on the line to the next cell's centre, it aims.  `stride`: what a walker's actions
    are multiplied by, for bodies with legs (0: it has none).  Both are defaults of ours.
    """

    position: str
    state: str
    size: int
    ahead: float = math.inf
    stride: float = 0.0


# Sent straight to umaze's goal with noise 0.2, Gymnasium's ant lay on its back in 24 % of episodes at a stride of 1, in
# 3 % at 0.6.  D4RL's has a fifth of the torque: it arrived in 55 % at 1, in all of 109 at 2.
POINT = Body("observation", "observation", 4)
ANT = Body("achieved_goal", "observation", 27, ahead=0.4, stride=0.6)
D4RL_ANT = Body("", "", 27, ahead=0.4, stride=2.0)
DOMAINS = {"pointmaze": POINT, "maze2d": POINT, "antmaze": ANT}


@dataclass(frozen=True, eq=False)
class Ground:
    """A maze of square cells.

    `centre`: of each free cell, (2,) metres.  `toward`: by goal and cell, the cell to go to next.  `width`: of a cell,
    metres.  `body`, `position`, `state`: what an observation holds, and where.  `goal()`: the goal (2,) of the episode
    that was begun last, metres.  `place`: options of a reset that begins in a cell.  `goal_cell`: the cell of the
    task's one goal, None where it is drawn anew.  `spread`: widths (m) of the uniform noise that a goal has off its
    cell's centre, each drawn for x and for y.
    """

    centre: dict[Cell, np.ndarray]
    toward: dict[Cell, dict[Cell, Cell]]
    width: float
    body: Body
    position: slice
    state: slice
    goal: Callable[[], np.ndarray]
    place: Callable[[Cell], dict[str, object]]
    goal_cell: Cell | None
    spread: tuple[float, ...] = ()

    def cell(self, point: np.ndarray) -> Cell:
        """The free cell that holds a point (2,), or the nearest one to a point above a wall."""
        cells, centres = self._table
        return cells[int(((centres - point) ** 2).sum(axis=1).argmin())]

    @cached_property
    def _table(self) -> tuple[list[Cell], np.ndarray]:
        return list(self.centre), np.stack(list(self.centre.values()))

    def steps(self, start: Cell, goal: Cell) -> int:
        """How many cells away a goal is."""
        count = 0
        while start != goal:
            start, count = self.toward[goal][start], count + 1
        return count


class StartAnywhere(gymnasium.Wrapper):
    """Episodes that begin in any free cell but the goal's, a function of the reset's seed.

    As in D4RL's maze2d and its AntMaze logs with several starts (arXiv 2004.07219).
    """

    def __init__(self, env: gymnasium.Env, ground: Ground) -> None:
        super().__init__(env)
        self._ground, self._cells = ground, sorted(set(ground.centre) - {ground.goal_cell})

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[object, dict[str, object]]:
        """Reset in a cell that `seed` chooses."""
        rng = np.random.default_rng(None if seed is None else [seed, STARTS])
        placed = self._ground.place(self._cells[rng.integers(len(self._cells))])
        return self.env.reset(seed=seed, options={**(options or {}), **placed} or None)


def ground_of(task: GymTask, world: GymEnv) -> Ground:
    """The maze of a task that stands in `world`.

    Known are the PointMaze and AntMaze of Gymnasium-Robotics and D4RL's AntMaze (`segue.tasks.antmaze`).  Raises
    `SegueError` for a task without one of them, whose observation does not hold the body's state, or whose maze is
    open or in several parts.
    """
    if task.domain not in DOMAINS:
        raise SegueError(
            f"{task.name}: has no maze that Segue can navigate (PointMaze and AntMaze have); leave out "
            "--policy scripted and --starts anywhere"
        )
    robotics()
    from gymnasium_robotics.envs.maze.maze_v4 import MazeEnv

    from segue.tasks.antmaze import AntMaze

    inner = world.env.unwrapped
    if isinstance(inner, AntMaze):
        return _d4rl(task, inner)
    if isinstance(inner, MazeEnv):
        return _robotics(task, world, inner)
    raise SegueError(f"{task.name}: {type(inner).__name__} is not a maze that Segue can navigate; leave it out")


def _robotics(task: GymTask, world: GymEnv, inner: MazeEnv) -> Ground:
    body, layout, space = DOMAINS[task.domain], inner.maze, world.env.observation_space
    parts = space.spaces if isinstance(space, gymnasium.spaces.Dict) else {}
    sizes = {key: int(np.prod(parts[key].shape or ())) for key in task.keys}
    seen = {body.position, body.state} <= set(sizes) and sizes[body.state] >= body.size
    if not seen or world.observation_dtype != "float32":  # beside an image a row is bytes
        raise SegueError(
            f"{task.name}: observations of {dict(sizes)} do not say where the body is; it needs the keys "
            f"{body.position} and {body.state}, the latter of at least {body.size} numbers, and no images"
        )
    start = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist()))
    centre = {cell: np.asarray(layout.cell_rowcol_to_xy(np.array(cell))) for cell in _free(layout.maze_map, task.name)}
    goal = dict(task.options).get("goal_cell")
    return Ground(
        centre,
        _ways(layout.maze_map, task.name),
        float(layout.maze_size_scaling),
        body,
        slice(start[body.position], start[body.position] + 2),
        slice(start[body.state], start[body.state] + body.size),
        lambda: np.asarray(inner.goal),
        lambda cell: {"reset_cell": np.array(cell)},
        (int(goal[0]), int(goal[1])) if isinstance(goal, tuple) else None,
    )


def _d4rl(task: GymTask, inner: AntMaze) -> Ground:
    from segue.tasks.antmaze import CELL, GOAL_NOISE, cell, place

    rows = inner.rows
    grid = [[int(mark == "1") for mark in row] for row in rows]

    def put(at: Cell) -> dict[str, object]:
        inner.init_qpos[:2] = place(rows, *at)
        return {}

    return Ground(
        {at: np.asarray(place(rows, *at)) for at in _free(grid, task.name)},
        _ways(grid, task.name),
        CELL,
        D4RL_ANT,
        slice(0, 2),
        slice(2, 2 + D4RL_ANT.size),
        lambda: np.asarray(inner.goal),
        put,
        cell(rows, "G"),
        GOAL_NOISE,
    )


def _free(grid: Sequence[Sequence[object]], name: str) -> list[Cell]:
    """Free cells of a map, in order; `SegueError` for one that a body could leave."""
    edge = [*grid[0], *grid[-1], *(mark for row in grid for mark in (row[0], row[-1]))]
    if any(mark != 1 for mark in edge):
        raise SegueError(f"{name}: its maze is open at the edge; put walls (1) around it")
    return [(i, j) for i, row in enumerate(grid) for j, mark in enumerate(row) if mark != 1]


def _ways(grid: Sequence[Sequence[object]], name: str) -> dict[Cell, dict[Cell, Cell]]:
    cells = _free(grid, name)
    toward = {goal: next_cells(grid, goal) for goal in cells}
    if len(cells) < 2 or len(toward[cells[0]]) < len(cells):
        raise SegueError(f"{name}: its maze has cells that cannot be reached from others; connect them")
    return toward
