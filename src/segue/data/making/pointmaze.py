"""The dataset that needs no download: a point mass sent from cell to cell of a maze, by D4RL's maze2d recipe.

    random start cell -> commanded goal (a random cell) -> waypoints by breadth-first search -> PD controller
        -> + Gaussian noise, clipped -> simulator; a reached goal is replaced by another one

Rewards are relabelled for ONE evaluation goal that nobody was sent to on purpose: 1 within 0.45 m of it, where the
episode ends, else 0; otherwise the episode is cut at the maze's horizon.  So the log covers the maze, some episodes
pass the goal, and getting from the evaluation start to it means stitching.  Differences from D4RL: episodes (D4RL
has one endless stream) and a controller gain drawn for each episode, so that some of them are slow: fine-tuning then
has speed to gain as well (both defaults of ours).
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segue.core.log import Data
from segue.core.types import SegueError
from segue.data.card import describe
from segue.data.extras import need, robotics, versions
from segue.data.files import cache_folder, write_atomically
from segue.data.making.kept import made, write_d4rl
from segue.data.making.mazes import MAZES, Cell, Maze
from segue.data.readers.d4rl import read_d4rl
from segue.data.recorded import CLIP_ACTION

if TYPE_CHECKING:
    from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv
    from mujoco import MjData, MjModel

RECIPE = 1  # goes up whenever the same arguments would give other rows
GOAL_RADIUS = 0.45  # metres; PointMaze's own
START_NOISE = 0.25  # metres, uniform in x and y; PointMaze's own
GAIN = (1.0, 6.0)  # proportional gain, uniform per episode; D4RL's is always 10 (default of ours)
DAMPING = 1.0  # D4RL's
MAX_SPEED = 5.0  # metres per second and axis; PointMaze clips at it before each step
REACHED = 0.5  # metres to a commanded goal at which another is drawn; D4RL's
NOISE = 0.5  # standard deviation of the action noise; D4RL's


def make_pointmaze(maze: str = "umaze", steps: int | None = None, seed: int = 0, noise: float = NOISE) -> Data:
    """Checked `Data` of at least `steps` logged steps in a maze ("umaze", "medium", "large"); observation x, y, vx, vy.

    Made once and kept in `cache_folder()` as a D4RL-layout HDF5 file with a JSON card beside it; a broken cache file
    is made again with a warning.  Deterministic in the arguments and MuJoCo's version.  Needs `segue[envs]` only to
    make the file, not to read it.
    """
    if maze not in MAZES:
        raise SegueError(f"pointmaze: no maze {maze!r}; there are {', '.join(MAZES)}")
    steps = MAZES[maze].steps if steps is None else steps
    if steps < 1 or not 0.0 <= noise < math.inf:
        raise SegueError(f"pointmaze: steps={steps}, noise={noise}; give at least one step and a noise of 0 or more")
    path = cache_folder() / f"pointmaze-{maze}-{steps}-seed{seed}-noise{noise:g}-r{RECIPE}.hdf5"
    made(path, lambda: _make(path, maze, steps, seed, noise))
    return read_d4rl(path)


def _make(path: Path, name: str, steps: int, seed: int, noise: float) -> None:
    maze = MAZES[name]
    arrays = collect(maze, steps, seed, noise)
    recipe = {"maker": "segue.data.make_pointmaze", "recipe": RECIPE, "maze": name, "steps": steps, "seed": seed}
    recipe |= {"noise": noise, "gain": GAIN, "damping": DAMPING}
    task = {"env_id": maze.env, "max_episode_steps": maze.horizon}
    task |= {"reset_cell": maze.reset_cell, "goal_cell": maze.goal_cell}
    said = {"env_kwargs": {"continuing_task": False}, "recipe": recipe, "versions": versions()}
    digest = write_d4rl(path, arrays, {**task, **{name: json.dumps(value) for name, value in said.items()}})
    card = {
        "name": path.stem,
        "what": __doc__.splitlines()[0] if __doc__ else "",
        "recipe": recipe,
        **task,
        "rows_in_file": len(arrays["rewards"]),
        "file_sha256": digest,
        "as_read": describe(read_d4rl(path), failure=0.0),
        "versions": versions(),
    }
    write_atomically(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")


def collect(
    maze: Maze, steps: int, seed: int, noise: float, repeat: int = 1, mass: PointMass | None = None
) -> dict[str, np.ndarray]:
    """Arrays of a D4RL stream of whole episodes, at least `steps` rows, the last episode a timeout.

    Each action is held for `repeat` steps of the simulator, and is one row.  `mass`: the point mass to move, a new one
    unless given.
    """
    world, horizon = mass or PointMass(maze), maze.horizon // repeat
    cells = sorted(world.centre)
    toward = {goal: next_cells(world.grid, goal) for goal in cells}
    starts = [cell for cell in cells if cell != maze.goal_cell]
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, ...]] = []
    ends: list[tuple[bool, bool]] = []
    while len(rows) < steps or ends[-1][0]:  # the reader drops the very last row: let that not be a success
        start = starts[rng.integers(len(starts))]
        offset = rng.uniform(-START_NOISE, START_NOISE, 2)
        x, y, vx, vy = world.reset(world.centre[start][0] + offset[0], world.centre[start][1] + offset[1])
        gain = rng.uniform(*GAIN)
        jitter = noise * rng.standard_normal((horizon, 2))
        goal = cells[rng.integers(len(cells))]
        for t in range(horizon):
            while math.dist((x, y), world.centre[goal]) < REACHED:
                goal = cells[rng.integers(len(cells))]
            to_x, to_y = world.centre[toward[goal][world.cell(x, y)]]
            push = (gain * (to_x - x) - DAMPING * vx, gain * (to_y - y) - DAMPING * vy)
            action = np.clip(push + jitter[t], -CLIP_ACTION, CLIP_ACTION).astype(np.float32)
            before = (x, y, vx, vy)
            for _ in range(repeat):
                x, y, vx, vy = world.step(action)
                hit = math.dist((x, y), world.centre[maze.goal_cell]) <= GOAL_RADIUS
                if hit:
                    break
            rows.append((*before, *action.tolist(), float(hit), *world.centre[goal]))
            ends.append((hit, t == horizon - 1 and not hit))
            if hit:
                break
    table, flags = np.asarray(rows, np.float32), np.asarray(ends)
    return {
        "observations": table[:, :4],
        "actions": table[:, 4:6],
        "rewards": table[:, 6],
        "terminals": flags[:, 0],
        "timeouts": flags[:, 1],
        "infos/goal": table[:, 7:],
    }


class PointMass:
    """Gymnasium-robotics' PointMaze stepped on its own MuJoCo model: the same numbers, without the wrappers' cost."""

    def __init__(self, maze: Maze) -> None:
        robotics()
        import gymnasium

        self._mujoco = need("mujoco", "envs", "PointMaze")
        made = gymnasium.make(maze.env, max_episode_steps=maze.horizon, disable_env_checker=True)
        self._env: PointMazeEnv = made.unwrapped
        layout, inner = made.get_wrapper_attr("maze"), made.get_wrapper_attr("point_env")
        self._model, self._data = inner.model, inner.data
        self.grid = layout.maze_map
        self.centre: dict[Cell, tuple[float, float]] = {}
        for row, line in enumerate(self.grid):
            for column, kind in enumerate(line):
                if kind != 1:
                    x, y = layout.cell_rowcol_to_xy(np.array((row, column)))
                    self.centre[row, column] = (float(x), float(y))
        self._left, self._top = float(layout.x_map_center), float(layout.y_map_center)

    @property
    def simulator(self) -> tuple[MjModel, MjData]:
        """MuJoCo's model and data, for a camera."""
        return self._model, self._data

    def place_goal(self, cell: Cell) -> None:
        """Show the goal at the centre of a cell; nothing that moves depends on it."""
        self._env.goal = np.array(self.centre[cell])
        self._env.update_target_site_pos()

    def reset(self, x: float, y: float) -> tuple[float, float, float, float]:
        """Put the mass at rest at (x, y) metres and return x, y, vx, vy."""
        self._mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = x, y
        self._data.qvel[:] = 0.0
        self._mujoco.mj_forward(self._model, self._data)
        return x, y, 0.0, 0.0

    def step(self, action: np.ndarray) -> tuple[float, float, float, float]:
        """Push with forces (2,) in [-1, 1] for one step (0.01 s) and return x, y, vx, vy."""
        model, data = self._model, self._data
        np.clip(data.qvel, -MAX_SPEED, MAX_SPEED, out=data.qvel)
        self._mujoco.mj_forward(
            model, data
        )  # as PointMaze does; no bit depends on it in MuJoCo 4.0, but the test compares bits
        data.ctrl[:] = action
        self._mujoco.mj_step(model, data)
        (x, y), (vx, vy) = data.qpos.tolist(), data.qvel.tolist()
        return x, y, vx, vy

    def cell(self, x: float, y: float) -> Cell:
        """Return the cell that holds a point, or the nearest free one if the mass leans into a wall's cell."""
        at = (math.floor(self._top - y), math.floor(x + self._left))
        return at if at in self.centre else min(self.centre, key=lambda cell: math.dist(self.centre[cell], (x, y)))


def next_cells(grid: Sequence[Sequence[object]], goal: Cell) -> dict[Cell, Cell]:
    """For every cell that can reach `goal`, the cell to go to next (breadth-first; 1 is a wall)."""
    onward, queue = {goal: goal}, deque([goal])
    while queue:
        row, column = queue.popleft()
        for cell in ((row, column + 1), (row + 1, column), (row, column - 1), (row - 1, column)):
            if grid[cell[0]][cell[1]] != 1 and cell not in onward:
                onward[cell] = (row, column)
                queue.append(cell)
    return onward
