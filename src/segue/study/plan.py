"""From what a study asks for to its cells, and which of them share their first phases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace

from segue.core.types import SegueError, Task
from segue.recipes import Plan, find_recipe
from segue.recipes.continued import alike
from segue.runs.request import plan_of
from segue.runs.stopping import stop_when
from segue.study.asked import Asked, Runs
from segue.study.begin import request_of
from segue.study.cells import Block, Cell
from segue.study.file import matching
from segue.study.folder import Study
from segue.tasks import find_task, task_names


def planned(asked: Asked, where: str, planner: Planner) -> Study:
    """The study that is asked for.  Raises `SegueError` where a cell cannot be planned."""
    return _grown(asked, where, planner, (), ())


def grown(study: Study, more: Asked, where: str, planner: Planner) -> Study:
    """A study with more seeds, recipes, tasks or settings; its cells stay as they are.

    Its own recipes get the new seeds too.  Raises `SegueError`.
    """
    for name in ("cores", "keep", "patience"):
        mine, theirs = getattr(study.asked, name), getattr(more, name)
        if mine != theirs:
            raise SegueError(f"{where}: {name} is {mine} in this study, and cannot become {theirs}")
    if study.asked.search is not None:
        if more.search is None or replace(more, search=study.asked.search) != study.asked:
            raise SegueError(f"{where}: a search can get more trials and nothing else")
        if replace(more.search, trials=0) != replace(study.asked.search, trials=0):
            raise SegueError(f"{where}: a search can get more trials, and no other space")
        return replace(study, asked=more)
    if more.search is not None:
        raise SegueError(f"{where}: a study without a search cannot get one; make another study")
    runs = {json.dumps(asdict(part), sort_keys=True): part for part in (*study.asked.runs, *more.runs)}
    whole = replace(
        study.asked,
        runs=tuple(runs.values()),
        seeds=tuple(dict.fromkeys((*study.asked.seeds, *more.seeds))),
    )
    return _grown(whole, where, planner, study.blocks, study.cells)


def _grown(asked: Asked, where: str, planner: Planner, blocks: tuple[Block, ...], before: tuple[Cell, ...]) -> Study:
    blocks = blocks_of(asked.seeds, asked.seeds_per_cell, blocks)
    cells = shared(expand(asked.runs, blocks, where), planner, before)
    # Those of a search are of no trial: they have shown that all can be planned.
    return Study(asked, blocks, () if asked.search is not None else cells)


def blocks_of(seeds: Sequence[int], size: int, before: Sequence[Block] = ()) -> tuple[Block, ...]:
    """Seeds in blocks of at most `size`; those that stand in blocks already stay where they are."""
    known = {seed for block in before for seed in block}
    new = [seed for seed in seeds if seed not in known]
    return (*before, *(tuple(new[at : at + size]) for at in range(0, len(new), size)))


class Planner:
    """Plans cells: a task and a plan are made once, whatever the number of seeds."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}

    def task(self, name: str) -> Task:
        """A task by its name; `SegueError` where it, or its log, cannot be had."""
        if name not in self._tasks:
            task = find_task(name)
            task.dataset()
            self._tasks[name] = task
        return self._tasks[name]

    def plan(self, cell: Cell) -> Plan:
        """All numbers of a cell."""
        key = cell.recipe, cell.task, json.dumps(dict(cell.settings), sort_keys=True), cell.rules
        if key not in self._plans:
            self._plans[key] = plan_of(request_of(cell), self.task(cell.task), find_recipe)
        return self._plans[key]


def expand(runs: Iterable[Runs], blocks: Sequence[Block], where: str) -> Iterator[Cell]:
    """The cells of a study, each once, in the order of its file."""
    seen: set[str] = set()
    for part in runs:
        for task in matching(part.tasks, task_names(), where):
            for recipe in part.recipes:
                for settings, rules in part.combinations():
                    for block in blocks:
                        cell = Cell(recipe, task, settings, rules, block, part.stop_when)
                        if cell.name not in seen:
                            seen.add(cell.name)
                            yield cell


def shared(cells: Iterable[Cell], planner: Planner, before: Sequence[Cell] = ()) -> tuple[Cell, ...]:
    """The cells with what each shares with those before it; cells of `before` come first and stay as they are.

    Cells that are one before them in other words are left out.  Raises `SegueError` that names the cell which cannot be
    planned.
    """
    first: dict[tuple[object, ...], tuple[str, str]] = {}
    seen: set[tuple[object, ...]] = set()
    done: list[Cell] = []
    old = {cell.name for cell in before}
    for cell in (*before, *(cell for cell in cells if cell.name not in old)):
        try:
            plan = planner.plan(cell)
            stop_when(plan, request_of(cell))
        except SegueError as error:
            raise SegueError(f"{cell.recipe} on {cell.task}: {error}") from error
        whole = cell.stop_when, cell.task, cell.seeds, plan.experience, plan.evaluation, plan.scaling, plan.phases
        if whole in seen and cell.name not in old:
            continue
        seen.add(whole)
        phases = alike(plan.phases, plan.scaling)
        found: list[tuple[str, str]] = []
        for count in range(1, len(phases)):
            kept = plan.experience if any(phase.moves for phase in phases[:count]) else None
            key = cell.task, cell.seeds, kept, tuple(phases[:count])
            owner = first.setdefault(key, (cell.name, plan.phases[count - 1].name))
            if owner[0] != cell.name:
                found.insert(0, owner)
        done.append(cell if cell.name in old else replace(cell, shares=tuple(found)))
    return tuple(done)
