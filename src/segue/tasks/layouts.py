"""Facts of known environments by their full id; no other module interprets an id."""

from __future__ import annotations

from dataclasses import dataclass

from segue.data.making.mazes import MAZES
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


HANDS = {task: f"AdroitHand{task.capitalize()}-v1" for task in ("door", "pen", "hammer", "relocate")}
POINTMAZE = Layout("pointmaze", SUCCESS, keys=("observation",), exact_goal=True, failure=0.0, positions=(0, 1))
ANTMAZE = Layout(
    "antmaze", SUCCESS, keys=("achieved_goal", "observation"), exact_goal=True, failure=0.0, positions=(0, 1)
)
D4RL_ANTMAZE = Layout("antmaze", SUCCESS, failure=0.0, positions=(0, 1))
KITCHEN = Layout("kitchen", reference_score("kitchen-complete-v0"), keys=("observation",), success="terminated")

# Locomotion references are those of D4RL's Gym v2 environments: a score here is close to D4RL's, not the same.
LAYOUTS: dict[str, Layout] = {
    **{maze.env: POINTMAZE for maze in MAZES.values()},
    **{f"AntMaze_{size}-v{version}": ANTMAZE for size in ("UMaze", "Medium", "Large") for version in (4, 5)},
    **dict.fromkeys(ANTMAZES.values(), D4RL_ANTMAZE),
    **{
        f"{body}-v{version}": Layout("locomotion", reference_score(f"{body.lower()}-expert-v2"))
        for body in ("Hopper", "HalfCheetah", "Walker2d", "Ant")
        for version in (4, 5)
    },
    **{hand: Layout("adroit", reference_score(f"{task}-expert-v1")) for task, hand in HANDS.items()},
    "FrankaKitchen-v1": KITCHEN,
}

# Environments whose `info["success"]` makes a binary task: reward = success - 1, and the domain its presets have.
BINARY = dict.fromkeys(HANDS.values(), "adroit-binary")
