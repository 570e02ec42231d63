"""Facts of known environments by their full id; no other module interprets an id."""

from __future__ import annotations

from dataclasses import dataclass

from segue.data.making.pointmaze import MAZES
from segue.tasks.d4rl import ANTMAZES
from segue.tasks.scores import SUCCESS, reference_score


@dataclass(frozen=True)
class Layout:
    """Facts of an environment: the presets' domain, how its observations are read, and how it is scored.

    `keys`: parts of a dictionary observation, concatenated in this order.  `exact_goal`: a maze whose goal is put on
    the centre of its cell.  `failure`: raw reward of a step without success (None: dense).  `reference`: (random,
    expert) raw returns (None: a score is the raw return).  `success`: the rule where `info` has no "success".
    `positions`: the columns of an observation that are x and y.
    """

    domain: str
    reference: tuple[float, float] | None
    keys: tuple[str, ...] = ()
    exact_goal: bool = False
    failure: float | None = None
    success: str = "never"
    positions: tuple[int, int] | None = None


def _dense(domain: str, reference: str) -> Layout:
    return Layout(domain, reference_score(reference))


POINTMAZE = Layout("pointmaze", SUCCESS, keys=("observation",), exact_goal=True, failure=0.0, positions=(0, 1))
ANTMAZE = Layout(
    "antmaze", SUCCESS, keys=("achieved_goal", "observation"), exact_goal=True, failure=0.0, positions=(0, 1)
)
D4RL_ANTMAZE = Layout("antmaze", SUCCESS, failure=0.0, positions=(0, 1))
KITCHEN = Layout("kitchen", reference_score("kitchen-complete-v0"), keys=("observation",), success="terminated")

# Locomotion references are those of D4RL's Gym v2 environments: a score here is close to D4RL's, not the same.
LAYOUTS: dict[str, Layout] = {
    **{maze.env: POINTMAZE for maze in MAZES.values()},
    "AntMaze_UMaze-v4": ANTMAZE,
    "AntMaze_Medium-v4": ANTMAZE,
    "AntMaze_Large-v4": ANTMAZE,
    "AntMaze_UMaze-v5": ANTMAZE,
    "AntMaze_Medium-v5": ANTMAZE,
    "AntMaze_Large-v5": ANTMAZE,
    **dict.fromkeys(ANTMAZES.values(), D4RL_ANTMAZE),
    "Hopper-v4": _dense("locomotion", "hopper-expert-v2"),
    "Hopper-v5": _dense("locomotion", "hopper-expert-v2"),
    "HalfCheetah-v4": _dense("locomotion", "halfcheetah-expert-v2"),
    "HalfCheetah-v5": _dense("locomotion", "halfcheetah-expert-v2"),
    "Walker2d-v4": _dense("locomotion", "walker2d-expert-v2"),
    "Walker2d-v5": _dense("locomotion", "walker2d-expert-v2"),
    "Ant-v4": _dense("locomotion", "ant-expert-v2"),
    "Ant-v5": _dense("locomotion", "ant-expert-v2"),
    "AdroitHandDoor-v1": _dense("adroit", "door-expert-v1"),
    "AdroitHandPen-v1": _dense("adroit", "pen-expert-v1"),
    "AdroitHandHammer-v1": _dense("adroit", "hammer-expert-v1"),
    "AdroitHandRelocate-v1": _dense("adroit", "relocate-expert-v1"),
    "FrankaKitchen-v1": KITCHEN,
}

# Environments whose `info["success"]` makes a binary task: reward = success - 1, and the domain its presets have.
BINARY: dict[str, str] = {
    "AdroitHandDoor-v1": "adroit-binary",
    "AdroitHandPen-v1": "adroit-binary",
    "AdroitHandHammer-v1": "adroit-binary",
    "AdroitHandRelocate-v1": "adroit-binary",
}
