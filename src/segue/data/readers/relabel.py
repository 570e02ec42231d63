"""Rewards for OGBench's logs, which have none: those of one of its tasks."""

from __future__ import annotations

import hashlib
import shutil
import warnings
import zipfile
from pathlib import Path

import gymnasium
import numpy as np

from segue.core.types import SegueError
from segue.data.extras import need
from segue.data.files import cache_folder, write_atomically

_INFO = ("qpos", "button_states")  # what rewards are computed from


def relabelled(path: Path, env: str) -> Path:
    """Return the cached copy of a log with a task's rewards; make it if needed.  Raises as `reward` does."""
    facts = path.stat()
    mark = hashlib.sha256(f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns} {env}".encode()).hexdigest()[:16]
    out = cache_folder() / "relabelled" / f"{mark}-{path.name}"
    if not out.exists():
        relabel(path, env, out)
    return out


def relabel(path: Path, env: str, out: Path) -> None:
    """Write a copy of an OGBench dataset with the rewards and masks of one task, by OGBench's own rules.

    `path` is a release's npz (with `qpos`, and `button_states` where there are buttons), `env` a single-task
    environment such as "cube-single-singletask-task2-v0".  `out` has `rewards` and `masks` (N,) float32 beside all
    that `path` has: a mask is 0 in rows where the task is done.  Needs the memory of those two and of `qpos`.
    Raises `SegueError` if the package is missing, or if the file lacks `qpos` or has rewards already.
    """
    need("ogbench", "ogbench", env)
    rules = need("ogbench.relabel_utils", "ogbench", env)
    with np.load(path, allow_pickle=False) as log:
        if "rewards" in log or "qpos" not in log:
            raise SegueError(f"{path}: {'has rewards already' if 'rewards' in log else 'has no qpos to make them of'}")
        columns = {name: log[name] for name in _INFO if name in log}
    try:
        world = gymnasium.make(env, disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise SegueError(f"{path}: task={env} is no single task of OGBench's: {error}") from error
    try:
        with warnings.catch_warnings():  # OGBench's arms make their action space anew, and Gymnasium warns each time
            warnings.filterwarnings("ignore", ".*precision lowered", UserWarning)
            world.reset(seed=0)
            rules.relabel_dataset(env, world, columns)
    finally:
        world.close()

    def write(temporary: Path) -> None:
        shutil.copyfile(path, temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            for name in ("rewards", "masks"):
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, columns[name], allow_pickle=False)

    write_atomically(out, write)
