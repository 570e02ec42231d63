"""The request of a run, from the command line or from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeGuard, TypeVar

import numpy as np

from segue.core.options import parts_first
from segue.core.parts import describe, is_part, name_of
from segue.core.types import SegueError, Task
from segue.recipes import Plan, Recipe, TaskFacts, resolve
from segue.recipes.common import Settings
from segue.recipes.rules import rule_of
from segue.tasks.table import PREFIX

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What a run was asked to do, from which the same run can be built again."""

    recipe: str
    task: str
    seeds: tuple[int, ...]
    settings: Settings
    trackers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    untrained: bool = False
    """Whether an untrained policy may move a robot."""
    origin: Origin | None = None
    """Where the run's first phases come from."""
    keep: int | None = None
    """How many phases' ends are kept, the newest; None keeps all."""
    stop_when: str | None = None
    """Ends the run early, see `segue.runs.stopping`."""


@dataclass(frozen=True)
class Origin:
    """The end of a phase of another run, from which a run begins."""

    run: str
    """That run's folder; only the beginning needs it."""
    phase: str
    count: int
    """How many phases of its plan were done."""
    request: Mapping[str, Any]
    """Its request, as JSON: its phases can be built again from it."""
    seal: str
    """Of the manifest of its state there, with which all its files can be checked."""
    experience: bool
    """Whether its own experience goes on too."""


def request_of(asked: Mapping[str, Any]) -> Request:
    """Return the request that JSON describes (`dataclasses.asdict`, tuples as lists); an older run has fewer fields."""
    known = {f.name: asked[f.name] for f in fields(Request) if f.name in asked}
    values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in known.items()}
    if values.get("origin") is not None:
        values["origin"] = Origin(**values["origin"])
    return Request(**values)


MOST_SEEDS = 1000  # more is a seed's name taken for a count


def _whole(x: object) -> TypeGuard[int]:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool)


def seeds_of(asked: object, where: str) -> tuple[int, ...]:
    """(0, ..., n - 1) for a number, else the seeds that are named; `SegueError` for what is neither."""
    if _whole(asked):
        if asked > MOST_SEEDS:
            raise SegueError(
                f"{where}: a number of seeds is at most {MOST_SEEDS}; the one seed {asked} is '{asked},' or [{asked}]"
            )
        seeds = tuple(range(asked))
    elif isinstance(asked, (Sequence, np.ndarray)) and not isinstance(asked, str):
        if not all(_whole(x) for x in asked):
            raise SegueError(f"{where}: seeds are whole numbers; give [3, 5, 9]")
        seeds = tuple(int(x) for x in asked)
    else:
        raise SegueError(f"{where}: give how many (8), or which ones ([3, 5, 9])")
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**31 or len(set(seeds)) < len(seeds):
        raise SegueError(f"{where}: give at least one seed, none negative or above 2147483647, none twice")
    return seeds


def listed(given: str | Iterable[T]) -> tuple[str | T, ...]:
    """Several words or one: track="wandb" is ["wandb"]."""
    return (given,) if isinstance(given, str) else tuple(given)


def settings_of(given: Settings | None) -> dict[str, object]:
    """Options by path, as run.json can hold them: whole parts are described.  `SegueError` for what is no mapping."""
    if given is not None and not isinstance(given, Mapping):
        raise SegueError(f"settings={given!r}: give a mapping, for example {{'online.utd_ratio': 2}}")
    return {path: _written(value) for path, value in (given or {}).items()}


def _written(value: object) -> object:
    if isinstance(value, type):
        return name_of(value)
    return describe(value) if is_part(value) else value


def lasting(task: str) -> str:
    """Return a task's name that means the same in every working folder: the path in "hdf5:PATH" becomes absolute."""
    if not task.startswith(PREFIX):
        return task
    path, mark, query = task.removeprefix(PREFIX).partition("?")
    return PREFIX + os.path.abspath(os.path.expanduser(path)) + mark + query


def resolved(
    recipe: Recipe, task: Task, settings: Settings, rules: Sequence[str] = (), before: Plan | None = None
) -> Plan:
    """Decide all of a recipe's numbers for a task, with hand-over rules by their words."""
    named = {word: rule_of(word) for word in rules}
    return resolve(recipe, TaskFacts.of(task), parts_first(settings), named, before)


def plan_of(request: Request, task: Task, recipe_of: Callable[[str], Recipe], recipe: Recipe | None = None) -> Plan:
    """All numbers of a requested run, those of the phases that it inherits included; `recipe` is known already."""
    before = None
    if request.origin is not None:
        whole = plan_of(request_of(request.origin.request), task, recipe_of)
        before = replace(whole, phases=whole.phases[: request.origin.count])
    return resolved(recipe or recipe_of(request.recipe), task, request.settings, request.rules, before)
