"""What a run was asked for, in the words of the command line and of Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segue.core.options import parts_first
from segue.core.parts import describe, is_part, name_of
from segue.core.types import SegueError, Task
from segue.recipes import Plan, Recipe, TaskFacts, resolve
from segue.recipes.rules import rule_of
from segue.tasks.table import PREFIX


@dataclass(frozen=True)
class Request:
    """What was asked for: enough to build the same run again."""

    recipe: str
    task: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    trackers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    untrained: bool = False
    """Whether a real world may be moved by a policy that has learned nothing."""


MOST_SEEDS = 1000  # more is a seed's name taken for a count


def seeds_of(asked: Any, where: str) -> tuple[int, ...]:
    """(0, ..., n - 1) for a number, else the seeds that are named; `SegueError` for what is neither."""
    whole = lambda x: isinstance(x, (int, np.integer)) and not isinstance(x, bool)  # noqa: E731
    if not (whole(asked) or (isinstance(asked, (Sequence, np.ndarray)) and not isinstance(asked, str))):
        raise SegueError(f"{where}: give how many (8), or which ones ([3, 5, 9])")
    if whole(asked) and asked > MOST_SEEDS:
        raise SegueError(
            f"{where}: that is how many, {MOST_SEEDS} at most; the one seed {asked} is '{asked},' or [{asked}]"
        )
    named = range(int(asked)) if whole(asked) else list(asked)
    if not all(whole(x) for x in named):
        raise SegueError(f"{where}: seeds are whole numbers; give [3, 5, 9]")
    seeds = tuple(int(x) for x in named)
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**31 or len(set(seeds)) < len(seeds):
        raise SegueError(f"{where}: give at least one seed, none negative or above 2147483647, none twice")
    return seeds


def listed(given: Any) -> tuple[Any, ...]:
    """Several words or one: track="wandb" is ["wandb"]."""
    return (given,) if isinstance(given, str) else tuple(given)


def settings_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options by path, as run.json can hold them: whole parts are described.  `SegueError` for what is no mapping."""
    if given is not None and not isinstance(given, Mapping):
        raise SegueError(f"settings={given!r}: give a mapping, for example {{'online.utd_ratio': 2}}")
    return {path: _written(value) for path, value in (given or {}).items()}


def _written(value: Any) -> Any:
    if isinstance(value, type):
        return name_of(value)
    return describe(value) if is_part(value) else value


def lasting(task: str) -> str:
    """Return a task's name that means the same in every working folder: the path in "hdf5:PATH" becomes absolute."""
    if not task.startswith(PREFIX):
        return task
    path, mark, query = task.removeprefix(PREFIX).partition("?")
    return PREFIX + os.path.abspath(os.path.expanduser(path)) + mark + query


def resolved(recipe: Recipe, task: Task, settings: Mapping[str, Any], rules: Sequence[str] = ()) -> Plan:
    """Decide all of a recipe's numbers for a task, with hand-over rules by their words."""
    named = {word: rule_of(word) for word in rules}
    return resolve(recipe, TaskFacts.of(task), parts_first(settings), named)
