"""The scripted policy: through a maze from one commanded goal to the next.

    commanded goal -> cells on the way to it (breadth-first) -> the point to go to now -> the body's own controller

As in D4RL's maze2d and AntMaze (arXiv 2004.07219, section 5): goals are independent of the task's rewards, so reaching
the task's goal from its start needs stitching.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segue.collect.ground import Ground
from segue.collect.recipe import Goals
from segue.collect.walker import Steered, Walker
from segue.data.making.mazes import Cell
from segue.data.making.pointmaze import DAMPING, GAIN, REACHED

Act = Callable[[np.ndarray], np.ndarray]  # observation -> action (A,)
Drive = Callable[[np.ndarray, np.ndarray], np.ndarray]  # the body's state, metres to go (2,) -> action (A,)

HANDFUL = 5  # goals of "play"; D4RL's are picked by hand, ours lie far apart
LANE = 0.3  # cells off the line between two cells' centres beyond which a body goes to its own cell's; default of ours
NEAR = 0.4  # metres to a commanded goal at which an ant is given another; less than the 0.45 at which the task pays


def scripted(ground: Ground, goals: Goals, walker: Walker | None) -> Callable[[np.random.Generator], Act]:
    """What begins an episode of the scripted policy; call it after the world's reset.

    `goals`: "diverse" commands random cells, "play" `HANDFUL` fixed ones, "task" the goal of the task itself and no
    other.  A body with legs needs a `walker`; without legs it is pushed as by `segue.data.make_pointmaze`.
    """
    cells = {"diverse": sorted(ground.centre), "play": handful(ground), "task": []}[goals]

    def begin(rng: np.random.Generator) -> Act:
        drive = _push(rng) if walker is None else Steered(walker, ground.body.stride)
        way = Way(ground, cells, REACHED if walker is None else NEAR, rng)

        def act(observation: np.ndarray) -> np.ndarray:
            at = observation[ground.position].astype(np.float64)
            return drive(observation[ground.state].astype(np.float64), way.point(at) - at)

        return act

    return begin


class Way:
    """Where to go now, in one episode; without `cells` to choose from, to the task's own goal.

    `cell` and `goal` (2,), metres, are what is commanded.
    """

    def __init__(self, ground: Ground, cells: list[Cell], near: float, rng: np.random.Generator) -> None:
        self._ground, self._cells, self._near, self._rng = ground, cells, near, rng
        if cells:
            self._command(cells)
        else:
            self.goal = ground.goal()
            self.cell = ground.cell(self.goal)

    def point(self, at: np.ndarray) -> np.ndarray:
        """The point (2,) to go to from `at` (2,), metres; a goal that is reached is replaced by another one."""
        if self._cells and np.linalg.norm(self.goal - at) < self._near:
            self._command([cell for cell in self._cells if cell != self.cell])
        ground, here = self._ground, self._ground.cell(at)
        if here == self.cell:
            return self.goal
        centre, onward = ground.centre[here], ground.centre[ground.toward[self.cell][here]]
        along = (onward - centre) / ground.width
        done, aside = along @ (at - centre), np.array([-along[1], along[0]]) @ (at - centre)
        # From aside, straight on would meet the corner that the way goes round.
        if abs(aside) > LANE * ground.width:
            return centre
        return centre + along * min(done + ground.body.ahead * ground.width, ground.width)

    def _command(self, cells: list[Cell]) -> None:
        self.cell = cells[self._rng.integers(len(cells))]
        off = sum(self._rng.uniform(0.0, width, 2) for width in self._ground.spread)
        self.goal = self._ground.centre[self.cell] + off


def handful(ground: Ground) -> list[Cell]:
    """Up to `HANDFUL` cells of a maze: the map's first, then each as far from those before it as can be."""
    cells = sorted(ground.centre)
    chosen = cells[:1]
    while len(chosen) < min(HANDFUL, len(cells)):
        chosen.append(max(cells, key=lambda cell: min(ground.steps(cell, other) for other in chosen)))
    return chosen


def _push(rng: np.random.Generator) -> Drive:
    """D4RL's controller of a point mass, with a gain of the episode's own."""
    gain = rng.uniform(*GAIN)
    return lambda state, to_go: gain * to_go - DAMPING * state[2:4]
