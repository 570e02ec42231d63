"""The mazes that Segue makes logs of: their tasks, the sizes of their logs, and how they look from above."""

from __future__ import annotations

from dataclasses import dataclass

from segue.core.types import Part

Cell = tuple[int, int]  # row and column of the maze's map

REPEAT = 5  # steps of the simulator (0.01 s) that an action is held for
PIXELS, VELOCITY = "pixels", "velocity"


@dataclass(frozen=True)
class Maze:
    """One maze's evaluation task and the default size of its log."""

    env: str
    horizon: int
    reset_cell: Cell
    goal_cell: Cell
    steps: int


MAZES = {
    "umaze": Maze("PointMaze_UMaze-v3", 300, (3, 1), (1, 1), 50_000),
    "medium": Maze("PointMaze_Medium-v3", 600, (1, 1), (6, 6), 100_000),
    "large": Maze("PointMaze_Large-v3", 800, (1, 1), (3, 10), 200_000),  # D4RL's (7, 10) is passed in 4 % of episodes
}


@dataclass(frozen=True)
class View:
    """Pictures of one maze: their height and width, and the steps of its log."""

    size: int
    steps: int

    @property
    def parts(self) -> tuple[Part, ...]:
        """What an observation is made of."""
        return Part(PIXELS, (self.size, self.size, 3), "uint8"), Part(VELOCITY, (2,), "float32")


VIEWS = {"umaze": View(32, 10_000)}


def env_id(maze: str) -> str:
    """Gymnasium's name of a maze in pictures; `segue.tasks` registers it."""
    return f"segue/PointMazePixels-{maze}-v0"


def horizon(maze: str) -> int:
    """Longest episode, in actions."""
    return MAZES[maze].horizon // REPEAT
