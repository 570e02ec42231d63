"""Changes between a run and its resume: which are errors, and which options may change."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

import jax

from segue.core.parts import names_part
from segue.core.types import SegueError, Task
from segue.engine.phase import Phase
from segue.recipes import Plan, Recipe
from segue.recipes.common import Settings
from segue.runs import manifest
from segue.runs.checkpoint import Manifest
from segue.runs.manifest import Change, Described
from segue.runs.request import Request, plan_of


def refuse_changed(folder: Path, described: Described, decided: Plan) -> None:
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
    described: Described,
    request: Request,
    recipe_of: Callable[[str], Recipe],
    task: Task,
    settings: Settings,
    stands: Manifest | None,
) -> tuple[Request, Plan, Described]:
    """The request, its numbers and run.json with settings changed in the middle of a run.

    `stands` is the manifest of the checkpoint that the run goes on from.  Finished phases keep their numbers.  Raises
    `SegueError` for what has been used already: the length of phases and the capacity, which rows of experience are
    laid out for, and the scaling that returns are written in.
    """
    again = lambda chosen: plan_of(replace(request, settings=chosen), task, recipe_of)  # noqa: E731
    was = described["config"]
    slots = [phase["slot"] for phase in described["phases"]]
    parts = [path for path, value in settings.items() if names_part(value)]
    if whole := [path for path in parts if path in slots or f"{path.removesuffix('.type')}.type" in was]:
        raise SegueError(f"{whole[0]}: once a run has begun, only the options of a part can change; start a new run")
    tried = again({**request.settings, **settings})
    now = json.loads(json.dumps(manifest.plain(tried.table())))
    phases, behind, entered = tried.phases, 0, False
    if stands is not None:
        behind, entered = len(stands["history"]), stands["entered"]
        behind += behind < len(phases) and entered and stands["step"] == phases[behind].steps
    finished = [p.name for p in phases[:behind]]
    moved = {}
    # What follows from another option is judged after it: the message names what was set.
    for path in sorted(now.keys() | was.keys(), key=lambda p: (tried.source(p).startswith("from "), p)):
        phase, _, option = path.partition(".")
        if path in was and path in now and (was[path]["value"] == now[path]["value"] or phase in finished):
            continue
        if path not in was or path not in now or phase in ("scaling", "experience") or option.startswith("scaling."):
            raise SegueError(f"{path}: cannot change in a run that has begun; start a new run")
        if option in ("gradient_steps", "environment_steps", "train_every", "validation.steps"):
            raise SegueError(f"{path}: a run's length cannot change once it has begun; start a new run")
        inside = phase == phases[min(behind, len(phases) - 1)].name and entered
        if inside and (option in ("utd_ratio", "actor") or option.startswith("validation.")):
            # Its clocks and rows are told from these, and tries with others could not be compared.
            raise SegueError(f"{path}: cannot change in the middle of its phase; start a new run")
        moved[path] = tried.options()[path]
    if not moved:
        done = f" (finished: {', '.join(finished)})" if finished else ""
        raise SegueError(
            f"--set {' '.join(settings)}: changes nothing in phases that are not finished{done}; leave it out"
        )
    asked = replace(request, settings={**request.settings, **moved})
    named = {given: own for given, own in tried.aliases.items() if given in settings}
    decided = replace(again(asked.settings), aliases=named)
    for one, other in zip(again(request.settings).phases, decided.phases):
        if _shapes(one, task) != _shapes(other, task):  # carried over a hand-over, a network would keep its old shape
            changed = ", ".join(path for path in sorted(moved) if path.startswith(f"{other.name}."))
            raise SegueError(f"{changed}: changes the shape of a network; start a new run")
    change: Change = {
        "phase": phases[behind].name,
        "step": 0 if stands is None else stands["step"],
        "environment_steps": 0 if stands is None else stands["environment_steps"],
        "updates": 0 if stands is None else stands["updates"],
        "settings": {path: [was[path]["value"], now[path]["value"]] for path in sorted(moved)},
    }
    provenance = described["provenance"]
    written: Described = {
        **described,
        "request": manifest.plain(asdict(asked)),
        "config": manifest.plain(decided.table()),
        "provenance": {**provenance, "changes": [*provenance.get("changes", ()), change]},
    }
    return asked, decided, written


def _shapes(phase: Phase, task: Task) -> list[tuple[int, ...]]:
    state = jax.eval_shape(lambda: phase.learner.init(jax.random.key(0), task.spec.chunks(phase.chunk)))
    return [leaf.shape for leaf in jax.tree.leaves(state)]
