"""What a run that goes on may find changed, and what may be changed of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from segue.core.types import SegueError, Task
from segue.engine.phase import Phase
from segue.recipes import Plan, Recipe
from segue.runs import manifest
from segue.runs.request import Request, resolved

CLOCKS = ("tick", "environment_steps", "updates")


def refuse_changed(folder: Path, described: Mapping[str, Any], decided: Plan) -> None:
    """Compare values only: a number that now comes from elsewhere is the same number."""
    tables = json.loads(json.dumps(manifest.plain(decided.table()))), described["config"]
    now, was = ({(path, json.dumps(row["value"])) for path, row in table.items()} for table in tables)
    changed = sorted({path for path, _ in now ^ was})
    if changed:
        other = described["segue"] != metadata.version("segue")
        cure = f"resume with segue {described['segue']}" if other else "put the recipe's numbers back"
        raise SegueError(
            f"{folder}: this version's '{described['request']['recipe']}' differs from the run's in "
            f"{', '.join(changed[:3])}; {cure}, or start a new run"
        )


def with_settings(
    described: Mapping[str, Any],
    request: Request,
    recipe_of: Callable[[str], Recipe],
    task: Task,
    settings: Mapping[str, Any],
    stands: Mapping[str, Any],
) -> tuple[Request, Plan, dict[str, Any]]:
    """The request, its numbers and run.json with settings changed in the middle of a run.

    `stands` is the manifest of the checkpoint that the run goes on from.  Finished phases keep their numbers.  Raises
    `SegueError` for what has been used already: the length of phases, which rows of experience are laid out for, and
    the units that returns are written in.
    """
    again = lambda chosen: resolved(recipe_of(request.recipe), task, chosen, request.rules)  # noqa: E731
    was = described["config"]
    if whole := [path for path in settings if f"{path.removesuffix('.type')}.type" in was]:
        raise SegueError(f"{whole[0]}: of a part that has begun only options can change; start a new run")
    tried = again({**request.settings, **settings})
    now = json.loads(json.dumps(manifest.plain(tried.table())))
    phases, behind = tried.phases, len(stands.get("history", ()))
    behind += behind < len(phases) and stands.get("entered", False) and stands["tick"] == phases[behind].ticks
    finished = [p.name for p in phases[:behind]]
    moved = {}
    for path in now.keys() | was.keys():
        phase, _, option = path.partition(".")
        if path in was and path in now and (was[path]["value"] == now[path]["value"] or phase in finished):
            continue
        if path not in was or path not in now or phase == "units" or option.startswith("units."):
            raise SegueError(f"{path}: cannot change in a run that has begun; start a new run")
        if option in ("ticks", "collect", "validation.steps"):
            raise SegueError(f"{path}: a run's length cannot change once it has begun; start a new run")
        inside = phase == phases[min(behind, len(phases) - 1)].name and stands.get("entered", False)
        if inside and (option in ("updates", "actor") or option.startswith("validation.")):
            # Its clocks and rows are told from these, and tries with others could not be compared.
            raise SegueError(f"{path}: cannot change in the middle of its phase; start a new run")
        moved[path] = tried.options()[path]
    if not moved:
        done = f" (finished: {', '.join(finished)})" if finished else ""
        raise SegueError(f"--set {' '.join(settings)}: changes nothing in what is still to come{done}; leave it out")
    asked = replace(request, settings={**request.settings, **moved})
    decided = again(asked.settings)
    for one, other in zip(again(request.settings).phases, decided.phases):
        if _shapes(one, task) != _shapes(other, task):  # carried over a door, a network would keep its old shape
            changed = ", ".join(path for path in sorted(moved) if path.startswith(f"{other.name}."))
            raise SegueError(f"{changed}: gives a network another shape than it has; start a new run")
    change = {
        "phase": phases[behind].name,
        **{clock: stands.get(clock, 0) for clock in CLOCKS},
        "settings": {path: [was[path]["value"], now[path]["value"]] for path in sorted(moved)},
    }
    provenance = described["provenance"]
    written = {
        **described,
        "request": manifest.plain(asdict(asked)),
        "config": manifest.plain(decided.table()),
        "provenance": {**provenance, "changes": [*provenance.get("changes", ()), change]},
    }
    return asked, decided, written


def _shapes(phase: Phase, task: Task) -> list[tuple[int, ...]]:
    state = jax.eval_shape(lambda: phase.learner.init(jax.random.key(0), task.spec.chunks(phase.chunk)))
    return [leaf.shape for leaf in jax.tree.leaves(state)]
