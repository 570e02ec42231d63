"""The table of tasks: built-in ones that need nothing, and those that a file in D4RL's layout describes."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.data.d4rl import attributes
from segue.data.minari import read_environment
from segue.data.pointmaze import MAZES
from segue.tasks.layouts import BINARY, LAYOUTS
from segue.tasks.scores import SUCCESS
from segue.tasks.task import GymTask, pairs
from segue.types import SegueError

FOLDER = "SEGUE_DATA"  # the environment variable that names the folder of the files below
PREFIX = "hdf5:"
MINARI = "minari:"
QUERIES = {"": "env", "reward=binary": "success-1"}  # what may stand behind "?" in a task's name -> reward rule
FILES = {  # task -> (file in $SEGUE_DATA, reward rule)
    "antmaze-umaze-diverse": ("antmaze-umaze-diverse.hdf5", "env"),
    "antmaze-medium-diverse": ("antmaze-medium-diverse.hdf5", "env"),
    "hopper-medium": ("hopper-medium.hdf5", "env"),
    "hopper-mixed": ("hopper-mixed.hdf5", "env"),
    "hopper-expert": ("hopper-expert.hdf5", "env"),
    "halfcheetah-medium": ("halfcheetah-medium.hdf5", "env"),
    "halfcheetah-mixed": ("halfcheetah-mixed.hdf5", "env"),
    "halfcheetah-expert": ("halfcheetah-expert.hdf5", "env"),
    "adroit-door": ("adroit-door-expert25.hdf5", "env"),
    "adroit-pen": ("adroit-pen-expert25.hdf5", "env"),
    "adroit-door-binary": ("adroit-door-expert25.hdf5", "success-1"),
    "adroit-pen-binary": ("adroit-pen-expert25.hdf5", "success-1"),
}


def task_names() -> tuple[str, ...]:
    """Return the names `find_task` knows; those backed by files need SEGUE_DATA. "hdf5:PATH" comes on top."""
    return (*(f"pointmaze-{maze}" for maze in MAZES), *FILES)


def find_task(name: str) -> GymTask:
    """Return the task of that name, or of the file in "hdf5:PATH" or "hdf5:PATH?reward=binary".

    Raises `SegueError` with the closest names if there is none, and with what to set if its file is not here.
    """
    if name.startswith(PREFIX):
        path, _, query = name.removeprefix(PREFIX).partition("?")
        if query not in QUERIES:
            raise SegueError(f"{name}: nothing is known of '?{query}'; write '?reward=binary' or nothing")
        return task_from_file(path, reward=QUERIES[query])
    if name.startswith(MINARI):
        return _from_minari(name)
    for maze, facts in MAZES.items():
        if name == f"pointmaze-{maze}":
            options = {"reset_cell": facts.reset_cell, "goal_cell": facts.goal_cell}
            kwargs = {"continuing_task": False}
            return _from_facts(name, facts.env, facts.horizon, kwargs, options, "env", f"pointmaze:{maze}")
    if name in FILES:
        file, reward = FILES[name]
        folder = os.environ.get(FOLDER)
        if not folder:
            raise SegueError(f"{name}: set {FOLDER} to the folder that holds {file}, or give the task as hdf5:PATH")
        if not (Path(folder) / file).is_file():
            raise SegueError(f"{name}: no {file} in {folder} ({FOLDER}); put it there, or give the task as hdf5:PATH")
        return task_from_file(Path(folder) / file, name=name, reward=reward)
    close = difflib.get_close_matches(name, task_names(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(task_names())} and hdf5:PATH"
    raise SegueError(f"no task {name!r}; {hint}")


def task_from_file(path: str | Path, name: str | None = None, reward: str = "env") -> GymTask:
    """Return the task that a D4RL-layout HDF5 file describes in its attributes.

    `env_id`, `env_kwargs` (JSON) and `max_episode_steps` make the environment, `reset_cell` and `goal_cell` fix a
    maze's evaluation.  `reward="success-1"` makes a binary task of the file's `infos/success`.
    """
    attrs = attributes(path)
    missing = [key for key in ("env_id", "max_episode_steps") if key not in attrs]
    if missing:
        raise SegueError(f"{path}: no attribute {missing[0]!r}; add it, or use GymTask.custom with read_d4rl(path)")
    try:
        kwargs = json.loads(str(attrs.get("env_kwargs", "{}")))
    except json.JSONDecodeError as error:
        raise SegueError(f"{path}: attribute 'env_kwargs' is not JSON ({error}); repair it") from error
    options: dict[str, Any] = {key: attrs[key] for key in ("reset_cell", "goal_cell") if key in attrs}
    try:
        horizon = int(attrs["max_episode_steps"])
    except (TypeError, ValueError) as error:
        raise SegueError(f"{path}: attribute 'max_episode_steps' is not a whole number; repair it") from error
    return _from_facts(
        name or Path(path).stem,
        str(attrs["env_id"]),
        horizon,
        kwargs,
        options,
        reward,
        f"d4rl:{path}",
        where=f"{path}: ",
    )


def _from_minari(name: str) -> GymTask:
    """Return the task of a Minari dataset: its own environment, and all keys of a dictionary observation in order."""
    facts = read_environment(name.removeprefix(MINARI))
    return GymTask(
        name=name,
        env=facts.env,
        horizon=facts.horizon,
        env_kwargs=pairs(facts.kwargs),
        keys=facts.keys,
        source=name,
    )


def _from_facts(
    name: str,
    env: str,
    horizon: int,
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    reward: str,
    source: str,
    where: str = "",
) -> GymTask:
    """Fill in what the tables know of an environment."""
    if env not in LAYOUTS:
        raise SegueError(
            f"{where}environment {env!r} is not in the table ({', '.join(LAYOUTS)}); use GymTask.custom with its Data"
        )
    layout, binary = LAYOUTS[env], reward == "success-1"
    if binary and env not in BINARY:
        raise SegueError(f"{where}{env} has no binary task, only {', '.join(BINARY)} have; leave out '?reward=binary'")
    if layout.exact_goal and "goal_cell" not in options:
        raise SegueError(
            f"{where}{env} needs attributes 'reset_cell' and 'goal_cell', its one evaluation task; add them"
        )
    return GymTask(
        name=name,
        env=env,
        horizon=horizon,
        domain=BINARY[env] if binary else layout.domain,
        env_kwargs=pairs(kwargs),
        keys=layout.keys,
        options=pairs(options),
        exact_goal=layout.exact_goal,
        reward=reward,
        success=layout.success,
        terminal_success=binary,
        failure=-1.0 if binary else layout.failure,
        source=source,
        reference=SUCCESS if binary else layout.reference,
    )
