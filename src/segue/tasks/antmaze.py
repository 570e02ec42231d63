"""D4RL's AntMaze on today's MuJoCo: its ant, its coordinates, its starts and its goals.

Gymnasium-robotics' AntMaze is another task: its ant is five times as strong and acts twice as often, its contacts are
harder, and its mazes are centred on the origin with rows that grow downwards.  A policy learned from D4RL's logs would
not work there.  Here, as in D4RL (Apache-2.0, `d4rl/locomotion`: maze_env.py, ant.py, goal_reaching_env.py, ant.xml):

       x = 4 * (column - start column)      the start cell is the origin, y grows with the row
       y = 4 * (row - start row)            cells of 4 m, walls 2 m high

An episode starts at rest in (0, 0) but for noise of 0.1 on every position (uniform) and velocity (normal).  The goal
is the centre of its cell, plus up to 1 m and up to 0.5 m more in x and in y (uniform), drawn anew for each episode; the
observation does not name it.  Within 0.5 m of it the reward is 1 and the episode ends, else it is 0.  The ant is
Gymnasium's, whose body is the same, with D4RL's motors, contacts and time step.
"""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import gymnasium.envs.mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.utils import EzPickle

MAPS = {  # 1 wall, R start, G goal
    "umaze": ("11111", "1R001", "11101", "1G001", "11111"),
    "medium": ("11111111", "1R011001", "10010001", "11000111", "10010001", "10100101", "100010G1", "11111111"),
    "large": (
        "111111111111",
        "1R0001000001",
        "101101010101",
        "100000010001",
        "101111011101",
        "100101000001",
        "110101010111",
        "100100010G01",
        "111111111111",
    ),
}
CELL = 4.0  # metres
HEIGHT = 2.0  # metres, of a wall
RADIUS = 0.5  # metres
GOAL_NOISE = (1.0, 0.5)  # metres; one draw of each is added to x, and one of each to y
START_NOISE = 0.1
TORQUE = 30.0  # of a motor at action 1; Gymnasium's ant has 150
TIME_STEP = 0.02  # seconds, five to an action; Gymnasium's ant has 0.01
CONTACT = {"solref": ".02 1", "solimp": ".8 .8 .01"}


class AntMaze(AntEnv):
    """Observation (29,): positions (15) and velocities (14) of the ant, x and y first.  Action (8,) in [-1, 1].

    `maze` is a name in `MAPS`.
    """

    def __init__(self, maze: str = "umaze", render_mode: str | None = None) -> None:
        self.rows = rows = MAPS[maze]
        self._goal_centre = np.asarray(place(rows, *cell(rows, "G")))
        self.goal = self._goal_centre.copy()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "antmaze.xml"
            write_model(rows, path)
            super().__init__(
                xml_file=str(path),
                frame_skip=5,
                reset_noise_scale=START_NOISE,
                exclude_current_positions_from_observation=False,
                include_cfrc_ext_in_observation=False,
                render_mode=render_mode,
            )
        EzPickle.__init__(self, maze, render_mode)

    def reset_model(self) -> np.ndarray:
        """Start an episode and draw its goal, all from the environment's own generator."""
        observation: np.ndarray = super().reset_model()
        self.goal = self._goal_centre + sum(self.np_random.uniform(0.0, width, 2) for width in GOAL_NOISE)
        return observation

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, bool]]:  # type: ignore[override]
        """Act; `info["success"]` says whether the goal is reached."""
        observation, _, _, truncated, _ = super().step(action)
        reached = bool(np.linalg.norm(observation[:2] - self.goal) <= RADIUS)
        return observation, float(reached), reached, truncated, {"success": reached}


def cell(rows: tuple[str, ...], mark: str) -> tuple[int, int]:
    """Row and column of a mark in a map."""
    return next((i, row.index(mark)) for i, row in enumerate(rows) if mark in row)


def place(rows: tuple[str, ...], row: int, column: int) -> tuple[float, float]:
    """Centre (x, y) of a cell in metres."""
    first, left = cell(rows, "R")
    return CELL * (column - left), CELL * (row - first)


def write_model(rows: tuple[str, ...], path: Path) -> None:
    """Write Gymnasium's ant with D4RL's numbers, among the walls of a map, as MuJoCo's XML."""
    tree = ET.parse(Path(gymnasium.envs.mujoco.__file__).parent / "assets" / "ant.xml")
    root = tree.getroot()
    for option in root.iter("option"):
        option.set("timestep", str(TIME_STEP))
    for contact in root.findall("./default/geom"):
        contact.attrib.update(CONTACT)
    for motor in root.iter("motor"):
        motor.set("gear", str(TORQUE))
    for world in root.iter("worldbody"):
        for i, row in enumerate(rows):
            for j, mark in enumerate(row):
                if mark == "1":
                    x, y = place(rows, i, j)
                    wall = {
                        "name": f"wall_{i}_{j}",
                        "type": "box",
                        "pos": f"{x} {y} {HEIGHT / 2}",
                        "size": f"{CELL / 2} {CELL / 2} {HEIGHT / 2}",
                        "contype": "1",
                        "conaffinity": "1",
                        "rgba": "0.7 0.5 0.3 1",
                    }
                    ET.SubElement(world, "geom", wall)
    tree.write(path)
