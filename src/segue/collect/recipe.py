"""How a log is collected, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from segue.core.options import require
from segue.core.types import SegueError

RANDOM, SCRIPTED = "random", "scripted"
Goals = Literal["diverse", "play", "task"]
Starts = Literal["usual", "task", "anywhere"]


@dataclass(frozen=True)
class Recipe:
    """How episodes are collected.

    `policies`: "random", "scripted", folders of runs, each with its first seed, or FOLDER@SEED, or policies that Segue
    did not train: FILE.onnx, module:name.  `shares`: of the
    episodes, one number for each policy; equal unless given.  `noise`: standard deviation of a Gaussian that is added
    to every action of a policy but "random" (D4RL: 0.5 in maze2d, 0.2 in AntMaze).  `epsilon`: share of
    uniform actions.  `explore`: as the runs' policies explore ("yes"), or their best actions.

    In mazes: `starts` at the task's start ("task") or in any cell but the goal's ("anywhere", as in D4RL's logs for
    stitching); "usual" is "anywhere" with the scripted policy, otherwise "task".  `goals` of the scripted policy:
    random cells ("diverse"), a few fixed cells ("play"), or the task's goal ("task").  `walker`: an npz file
    (`read_walker`), for an ant; ant_runner.npz in the folder $SEGUE_DATA unless given.
    """

    policies: tuple[str, ...]
    shares: tuple[float, ...] = ()
    noise: float = 0.0
    epsilon: float = 0.0
    explore: Literal["yes", "no"] = "no"
    starts: Starts = "usual"
    goals: Goals = "diverse"
    walker: str = ""

    def __post_init__(self) -> None:
        fits = not self.shares or (len(self.shares) == len(self.policies) and min(self.shares) > 0)
        require(
            self,
            policies=bool(self.policies),
            shares=fits,
            noise=0 <= self.noise < math.inf,
            epsilon=0 <= self.epsilon <= 1,
            starts=self.starts in get_args(Starts),
            goals=self.goals in get_args(Goals),
        )
        for name, usual in (("goals", "diverse"), ("walker", "")):
            if getattr(self, name) != usual and SCRIPTED not in self.policies:
                raise SegueError(f"{name}={getattr(self, name)}: has no effect here; it needs the policy {SCRIPTED}")

    @property
    def anywhere(self) -> bool:
        """Whether episodes start in any cell of the task's maze."""
        return self.starts == "anywhere" or (self.starts == "usual" and SCRIPTED in self.policies)
