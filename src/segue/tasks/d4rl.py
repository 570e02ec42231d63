"""D4RL's tasks: its files and scores, with the most similar current environments.

Facts are from Farama-Foundation/D4RL (Apache-2.0) at commit 61b0d25: `infos.py` for files and scores, the
`__init__.py` of each family for horizons.
"""

from __future__ import annotations

from dataclasses import replace

from segue.tasks.records import Group, Record, World, group, locomotion
from segue.tasks.scores import SUCCESS

BASE = "d4rl:https://rail.eecs.berkeley.edu/datasets/offline_rl/"
ANTMAZES = {"umaze": "segue/AntMazeUMaze-v2", "medium": "segue/AntMazeMedium-v2", "large": "segue/AntMazeLarge-v2"}
HORIZONS = {"umaze": 700, "medium": 1000, "large": 1000}

WORLDS = {id: World("segue.tasks.antmaze:AntMaze", HORIZONS[maze], {"maze": maze}) for maze, id in ANTMAZES.items()}

_INFOS = "D4RL infos.py at 61b0d25"
_BODIES = {"halfcheetah": "HalfCheetah-v4", "hopper": "Hopper-v4", "walker2d": "Walker2d-v4", "ant": "Ant-v4"}
_KINDS = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
# D4RL's logs of Ant have 84 contact forces that are all 0 (its issue 143), and so has their reward.
_NO_FORCES = {"use_contact_forces": True, "contact_force_range": (0.0, 0.0)}


def _mujoco(body: str, kind: str, version: str) -> Record:
    note = "; the log's contact forces are all 0 (D4RL issue 143), so the environment's are as well"
    return Record(
        f"{body}-{kind}-{version}",
        _BODIES[body],
        1000,
        "locomotion",
        f"{_INFOS}; logged in Gym's v2 environments (mujoco-py), whose observations and rewards are those of "
        f"Gymnasium's v4{note if body == 'ant' else ''}",
        presets=locomotion(body, kind),
        env_kwargs=_NO_FORCES if body == "ant" else {},
        reference=f"{body}-{kind}-{version}",
        data=(f"{BASE}gym_mujoco_v2/{body}_{kind.replace('-', '_')}-{version}.hdf5",),
    )


_HANDS = {
    "pen": ("AdroitHandPen-v1", 100, "D4RL ends an episode when the pen is dropped, this environment never does"),
    "door": ("AdroitHandDoor-v1", 200, ""),
    "hammer": ("AdroitHandHammer-v1", 200, ""),
    "relocate": ("AdroitHandRelocate-v1", 200, ""),
}
_SIGN = "D4RL's reward has -0.1 times the distance of hand and object, this environment +0.1 (gymnasium-robotics 1.4.2)"


def _adroit(task: str, kind: str, version: str) -> Record:
    env, horizon, note = _HANDS[task]
    name = f"{task}-{kind}-{version}"
    facts = f"{_INFOS}, hand_manipulation_suite; {note or _SIGN + ' (gymnasium-robotics pull 220)'}"
    data = (f"{BASE}hand_dapg_v1/{name}.hdf5",)
    return Record(name, env, horizon, "adroit", facts, (task, f"{task}-{kind}"), reference=name, data=data)


def _binary(task: str, kind: str, version: str) -> Record:
    env, horizon, _ = _HANDS[task]
    return Record(
        f"{task}-{kind}-{version}",
        env,
        horizon,
        "adroit-binary",
        "AWAC (arXiv 2006.09359), Cal-QL: reward = success - 1; the papers' logs are AWAC's npy files, expert "
        f"demonstrations ({task}2_sparse.npy) and episodes of a cloned policy ({task}_bc_sparse4.npy): no D4RL file",
        presets=(f"{task}-binary",),
        reward="success-1",
        terminal_success=True,
        failure=-1.0,
        reference=SUCCESS,
    )


_MAZE_FILES = {  # maze, multistart, multigoal
    "umaze": ("u-maze", False, False),
    "umaze-diverse": ("u-maze", True, True),
    "medium-play": ("big-maze", True, False),
    "medium-diverse": ("big-maze", True, True),
    "large-play": ("hardest-maze", True, False),
    "large-diverse": ("hardest-maze", True, True),
}


def _antmaze(_: str, kind: str, version: str) -> Record:
    file, starts, goals = _MAZE_FILES[kind]
    maze = kind.partition("-")[0]
    path = f"ant_maze_v2/Ant_maze_{file}_noisy_multistart_{starts}_multigoal_{goals}_sparse_fixed.hdf5"
    return Record(
        f"antmaze-{kind}-{version}",
        ANTMAZES[maze],
        HORIZONS[maze],
        "antmaze",
        f"{_INFOS}, locomotion; D4RL's own ant, coordinates, starts and goals (segue.tasks.antmaze) on another MuJoCo; "
        "a log may stay at its goal, each row an end with reward 1 (D4RL issue 199)",
        presets=(f"antmaze-{maze}", f"antmaze-{kind}"),
        failure=0.0,
        reference=SUCCESS,
        data=(BASE + path,),
    )


# The goal's mean, and the radius around it within which OOO's log has no row.
_GOAL_MISSING = (32.75, 24.75, 2.5)


def _goal_missing(*words: str) -> Record:
    return replace(
        _antmaze("antmaze", "large-diverse", "v2"),
        name="-".join(words),
        provenance="OOO (arXiv 2310.08558): large-diverse without its rows within 2.5 of the goal, 942,157 rows; "
        "around which point of the goal's spread, and whether next observations count, is not said: the mean, and yes",
        presets=("antmaze-large", "antmaze-large-diverse"),
        data=(),
        log="antmaze-large-diverse-v2",
        away=_GOAL_MISSING,
    )


_KITCHENS = {
    "complete": ("microwave", "kettle", "light switch", "slide cabinet"),
    "partial": ("microwave", "kettle", "light switch", "slide cabinet"),
    "mixed": ("microwave", "kettle", "bottom burner", "light switch"),
}


def _kitchen(_: str, kind: str) -> Record:
    return Record(
        f"kitchen-{kind}",
        "FrankaKitchen-v1",
        280,
        "kitchen",
        "Minari's D4RL/kitchen v2 and its script create_franka_dataset.py: the demonstrations done again in this "
        "environment, with these keywords (D4RL's own files have 60 numbers, it has 59); the reward of a step is the "
        "number of tasks that are done, no episode ends before its time, and partial and mixed have up to 450 steps; "
        "the score is D4RL's, tasks done of 4",
        # As logged.  The default pays each task once, so that own experience would be paid by another rule.
        env_kwargs={
            "tasks_to_complete": _KITCHENS[kind],
            "remove_task_when_completed": False,
            "terminate_on_tasks_completed": False,
        },
        keys=("observation",),
        success="tasks",
        reference=SUCCESS,
        data=(f"minari:D4RL/kitchen/{kind}-v2?keys=observation",),
    )


_POINTMAZES = {"umaze": ("UMaze", 300, (1, 1)), "medium": ("Medium", 600, (6, 6)), "large": ("Large", 800, (7, 9))}


def _maze2d(_: str, maze: str, kind: str) -> Record:
    env, horizon, goal = _POINTMAZES[maze]
    dense = kind == "dense-v1"
    keys = ("observation", "desired_goal")
    return Record(
        f"maze2d-{maze}-{kind}",
        f"PointMaze_{env}{'Dense' if dense else ''}-v3",
        horizon,
        "maze2d",
        "Minari's D4RL/pointmaze v2 and its script create_pointmaze_dataset.py (continuing_task and reset_target "
        "true): each goal is drawn, and rewards are for it, so it is observed; episodes are cut at it.  Evaluated "
        "for D4RL's one goal, which stays; references are of D4RL's own simulator and scale: scores are not D4RL's",
        env_kwargs={"continuing_task": True, "reset_target": False},
        keys=keys,
        options={"goal_cell": goal},
        exact_goal=True,
        failure=None if dense else 0.0,
        reference=f"maze2d-{maze}-{kind}",
        data=(f"minari:D4RL/pointmaze/{maze}-{'dense-' if dense else ''}v2?keys={','.join(keys)}",),
    )


GROUPS: tuple[Group, ...] = (
    *(group("D4RL MuJoCo", ((body,), _KINDS, ("v2",)), _mujoco) for body in _BODIES),
    group("D4RL Adroit", (tuple(_HANDS), ("human", "cloned", "expert"), ("v1",)), _adroit),
    group("D4RL Adroit", (("pen", "door", "relocate"), ("binary",), ("v0",)), _binary),
    group("D4RL AntMaze", (("antmaze",), tuple(_MAZE_FILES), ("v2",)), _antmaze),
    group("D4RL AntMaze", (("antmaze",), ("goal",), ("missing",), ("large",), ("v2",)), _goal_missing),
    group("D4RL kitchen (Minari's)", (("kitchen",), tuple(_KITCHENS)), _kitchen),
    group("D4RL maze2d (Minari's)", (("maze2d",), tuple(_POINTMAZES), ("v1", "dense-v1")), _maze2d),
)
