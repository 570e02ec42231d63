"""What is shown of a plan: its phases, its options, its needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from segue.agents import title
from segue.bonuses import Nothing, parts
from segue.cli.tables import console
from segue.core import options
from segue.core.options import unknown
from segue.core.types import Task
from segue.engine.phase import Phase, charged
from segue.recipes import Plan, Recipe, find_recipe
from segue.runs import manifest, train
from segue.runs.checks import check, notes
from segue.runs.fork import check_origin, end_of
from segue.runs.request import Request, plan_of, resolved
from segue.tasks import find_task


def try_out(recipe: Recipe, task: Task, request: Request) -> None:
    """Check everything that a run would, and print its phases and its needs (`segue run --dry-run`)."""
    decided = plan_of(request, task, find_recipe, recipe)
    if request.origin is not None:
        check_origin(end_of(request.origin), request.origin, request, task, decided)
    check(decided, task, request)
    show_phases(decided)
    print("\n".join([train.needs(decided, task, request, timed=True).words(), *notes(decided)]))
    print(f"seeds {', '.join(map(str, request.seeds))}; nothing was run")


def explain(
    recipe: str,
    task: str,
    part: str,
    settings: Mapping[str, object],
    rules: Sequence[str],
    changed: bool,
    json_output: bool,
) -> None:
    """Print a recipe's phases and those of its options whose paths contain `part` (`segue explain`)."""
    decided = resolved(find_recipe(recipe), find_task(task), settings, rules)
    for line in decided.told():
        print(f"segue: {line}", file=sys.stderr)
    rows = {k: row for k, row in decided.explained().items() if part in k}
    if not rows:
        known = {word for path in decided.explained() for word in (path, *path.split("."))}
        unknown(f"segue explain {recipe} {task} {part}: option", part, known)
    if changed:
        rows = {k: row for k, row in rows.items() if row["source"] != "default"}
    if json_output:
        print(json.dumps(manifest.plain(rows), indent=1))
        return
    screen = Console()
    if not screen.is_terminal:  # a line an option, for grep and less
        for path, row in rows.items():
            print(path, row["value"], row["source"], row["meaning"], sep="\t")
        return
    show_phases(decided)
    table = Table(title=f"{recipe} on {task}", title_justify="left")
    for column in ("option", "value", "source", "meaning"):
        table.add_column(column, overflow="fold")
    for path, row in rows.items():
        words = (path, str(row["value"]), row["source"], row["meaning"])
        table.add_row(*words, style=None if row["source"] == "default" else "bold")
    screen.print(table)


def show_phases(plan: Plan) -> None:
    """Print a recipe's phases as a table."""
    table = Table(title=plan.paper, title_justify="left")
    for column in ("phase", "learner", "slot", "length", "batch", "rewards"):
        table.add_column(column, overflow="fold")
    for p in plan.phases:
        bonuses = [type(part).__name__ for part in parts(p.bonus) if not isinstance(part, Nothing)]
        rewards = " + ".join(["as they are", *bonuses]) if bonuses else "as they are"
        table.add_row(p.name, title(p.learner), p.slot, length(p), options.brief(p.batch), rewards)
    console().print(table)
    tried = sum(p.validation.steps for p in plan.phases)
    choosing = f", {tried:,} of them to choose among checkpoints" if tried else ""
    print(f"budget: {charged(plan.phases):,} environment steps per seed{choosing}")
    print(f"learner's scaling: {plan.scaling}")


def length(phase: Phase) -> str:
    """How long a phase is, in words."""
    if not phase.collects:
        return f"{phase.gradient_steps:,} updates" if phase.gradient_steps else "nothing"
    every = f" every {phase.train_every} steps" if phase.train_every > 1 else " a step"
    updates = f"{phase.updates} update{'s' * (phase.updates != 1)}{every}" if phase.updates else "no updates"
    return f"{phase.environment_steps:,} environment steps, {updates}"
