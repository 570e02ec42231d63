"""Segue's own tasks: mazes whose logs it makes itself, and files in the folder $SEGUE_DATA."""

from __future__ import annotations

from dataclasses import replace

from segue.data.making.mazes import MAZES, PIXELS, VELOCITY, VIEWS, env_id, horizon
from segue.tasks.records import Group, Record, World, group, locomotion
from segue.tasks.scores import SUCCESS

_SPARSE = {"hopper": "Hopper-v5", "walker2d": "Walker2d-v5", "halfcheetah": "HalfCheetah-v5"}

WORLDS = {
    **{env_id(maze): World("segue.tasks.pixels:PointMazePixels", horizon(maze), {"maze": maze}) for maze in VIEWS},
    **{f"segue/Sparse{id}": World("segue.tasks.sparse:make", 1000, {"env": id}) for id in _SPARSE.values()},
}

_FILES = "files in $SEGUE_DATA"
_FROM = "the file's attributes; its rows were logged in this environment"
_BODIES = {"hopper": "Hopper-v5", "walker2d": "Walker2d-v5", "halfcheetah": "HalfCheetah-v5"}
# The kind of D4RL's that comes closest.
_KINDS = {kind: kind for kind in ("random", "medium", "medium-replay", "expert")} | {"mixed": "medium-replay"}
_ANTMAZES = {"umaze": ("AntMaze_UMaze-v5", 700, (3, 1), (1, 1)), "medium": ("AntMaze_Medium-v5", 1000, (1, 1), (6, 6))}


def _pointmaze(_: str, name: str) -> Record:
    maze = MAZES[name]
    return Record(
        f"pointmaze-{name}",
        maze.env,
        maze.horizon,
        "pointmaze",
        "segue.data.make_pointmaze, which also makes the log (D4RL's recipe for maze2d, one goal)",
        env_kwargs={"continuing_task": False},
        keys=("observation",),
        options={"reset_cell": maze.reset_cell, "goal_cell": maze.goal_cell},
        exact_goal=True,
        failure=0.0,
        reference=SUCCESS,
        made=f"pointmaze:{name}",
    )


# Where the goals of mazes are whose logs have a form without the rows near it, in metres; and how near.
_GOALS = {
    "pointmaze": {"medium": (2.5, -2.5), "large": (4.5, 1.0)},
    "antmaze": {"umaze": (-4.0, 4.0), "medium": (10.0, -10.0)},
}
_RADIUS = 2.5
_MISSING = (("goal",), ("missing",))


def _goal_missing(body: str, _: str, __: str, maze: str) -> Record:
    whole = _pointmaze(body, maze) if body == "pointmaze" else _antmaze(body, maze, "diverse")
    return replace(
        whole,
        name=f"{body}-goal-missing-{maze}",
        provenance=f"{whole.name} without the rows that begin or end within {_RADIUS} m of the goal, as OOO's AntMaze "
        f"(arXiv 2310.08558, large, the same radius){'; a radius of two and a half cells' * (body == 'pointmaze')}",
        presets=(*whole.presets, whole.name),
        log=whole.name,  # and its file
        away=(*_GOALS[body][maze], _RADIUS),
    )


def _sparse(body: str, _: str) -> Record:
    return Record(
        f"{body}-sparse",
        f"segue/Sparse{_SPARSE[body]}",
        1000,
        "locomotion",
        "segue.tasks.sparse: Gymnasium's environment, which pays the rewards of 20 steps at once; the author of the "
        "subroutine makes tasks sparse in this way, of how many steps could not be read",
        presets=(body,),
        reference=f"{body}-expert-v2",
        made="none",
    )


def _pointmaze_pixels(_: str, name: str, __: str) -> Record:
    states = _pointmaze("pointmaze", name)
    return Record(
        f"pointmaze-{name}-pixels",
        env_id(name),
        horizon(name),
        "pointmaze-pixels",
        "segue.data.make_pointmaze_pixels, which also makes the log: the maze from above, each action held for 0.05 s",
        env_kwargs=states.env_kwargs,
        keys=(PIXELS, VELOCITY),
        options=states.options,
        failure=0.0,
        reference=SUCCESS,
        made=f"pointmaze-pixels:{name}",
    )


def _locomotion(body: str, kind: str) -> Record:
    name = f"{body}-{kind}"
    return Record(
        name,
        _BODIES[body],
        1000,
        "locomotion",
        _FROM,
        presets=locomotion(body, _KINDS[kind]),
        reference=f"{body}-expert-v2",
        file=f"{name}.hdf5",
    )


def _antmaze(_: str, maze: str, kind: str) -> Record:
    env, horizon, start, goal = _ANTMAZES[maze]
    return Record(
        f"antmaze-{maze}-{kind}",
        env,
        horizon,
        "antmaze",
        f"{_FROM} (D4RL's recipe; neither D4RL's rows nor its ant or coordinates)",
        presets=(f"antmaze-{maze}",),
        env_kwargs={"continuing_task": False, "include_cfrc_ext_in_observation": False},
        keys=("achieved_goal", "observation"),
        options={"reset_cell": start, "goal_cell": goal},
        exact_goal=True,
        failure=0.0,
        reference=SUCCESS,
        file=f"antmaze-{maze}-{kind}.hdf5",
    )


def _adroit(_: str, task: str) -> Record:
    env = {"door": "AdroitHandDoor-v1", "pen": "AdroitHandPen-v1"}[task]
    file = f"adroit-{task}-expert25.hdf5"
    presets = (task, f"{task}-cloned")  # weak episodes and demonstrations, as in D4RL's "cloned"
    name, reference = f"adroit-{task}", f"{task}-expert-v1"
    return Record(name, env, 200, "adroit", _FROM, presets, reference=reference, file=file)


def _binary(_: str, task: str, __: str) -> Record:
    dense = _adroit("adroit", task)
    return Record(
        f"adroit-{task}-binary",
        dense.env,
        dense.horizon,
        "adroit-binary",
        f"{_FROM}; reward = success - 1",
        presets=(f"{task}-binary",),
        reward="success-1",
        terminal_success=True,
        failure=-1.0,
        reference=SUCCESS,
        file=dense.file,
    )


GROUPS: tuple[Group, ...] = (
    group("Segue's own", (("pointmaze",), tuple(MAZES)), _pointmaze),
    group("Segue's own", (("pointmaze",), tuple(VIEWS), ("pixels",)), _pointmaze_pixels),
    group("Segue's own", (("pointmaze",), *_MISSING, tuple(_GOALS["pointmaze"])), _goal_missing),
    group("Segue's own", (tuple(_SPARSE), ("sparse",)), _sparse),
    group(_FILES, (("antmaze",), tuple(_ANTMAZES), ("diverse",)), _antmaze),
    group(_FILES, (("antmaze",), *_MISSING, tuple(_GOALS["antmaze"])), _goal_missing),
    group(_FILES, (tuple(_BODIES), tuple(_KINDS)), _locomotion),
    group(_FILES, (("adroit",), ("door", "pen")), _adroit),
    group(_FILES, (("adroit",), ("door", "pen"), ("binary",)), _binary),
)
