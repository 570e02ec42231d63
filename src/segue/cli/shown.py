"""`segue report`, `segue list` and `segue explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table

from segue.agents import AGENTS
from segue.bonuses import BONUSES
from segue.cli.app import Folders, RecipeName, Rules, Settings, TaskName, app
from segue.cli.tables import console, show_table
from segue.cli.words import split_settings
from segue.core.types import SegueError
from segue.recipes import RECIPES, SYSTEMS
from segue.recipes.rules import RULES, usage, words_of

Part = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PART")]]
ListName = tyro.conf.Positional[Literal["all", "recipes", "tasks", "agents", "bonuses", "rules", "runs"]]
Where = tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="[FOLDER]")]]
NAMED = {
    "data:NAME": "an imported dataset, and the packages of its environment",
    "hdf5:PATH": "a file in D4RL's layout, and the packages of its environment; ?env=ID replaces it",
    "minari:DATASET": "the extra minari; a dataset on this machine or on Minari's server",
    "gym:ID": "the packages of the environment; there is no log, so only for recipes without offline phase",
    "gym:NAME": "the packages of a task above, without its log",
}
"""Tasks named by their data or environment, and what they need."""


@app.command(name="report")
def report_command(runs: Folders, /, out: Path | None = None, files: Path | None = None) -> None:
    """Write one self-contained HTML report: of one run, of runs of one task side by side, or over several tasks.

    Args:
        runs: Folders of runs; duplicates count once.  Runs of the same configuration become one with all their seeds.
        out: File to write; in the first run's folder by default: report.html, comparison.html for several runs of one
            task, study.html for runs of several.
        files: Folder for the numbers as CSV, the tables as Markdown and LaTeX, and the figures as SVG, PDF and PNG.
    """
    from segue.report import write_report

    if not runs:
        raise SegueError("segue report: name at least one run's folder")
    distinct = list({run.resolve(): run for run in runs}.values())
    print(f"report: {write_report(distinct, out or distinct[0])}")
    if files is not None:
        from segue.report.saved import write_files
        from segue.report.study import study_of

        for line in write_files(study_of(distinct), files):
            print(f"files: {line}")
        print(f"files: {files}")


@app.command(name="list")
def list_command(what: ListName = "all", folder: Where = None, /) -> None:
    """Show what there is.

    Args:
        what: recipes, tasks, agents, bonuses, rules, or the runs in a folder.
        folder: For runs: where they are; runs/ by default.
    """
    if what == "runs":
        from segue.report.listed import HEAD, runs_below

        if folder is None and not Path("runs").is_dir():
            print("no runs/ here; segue list runs FOLDER lists the runs in another folder")
            return
        found = runs_below(folder or Path("runs"))
        table = Table(title=f"Runs in {folder or 'runs'}: {len(found)}", title_justify="left")
        for name in HEAD:
            table.add_column(name, overflow="fold")
        for run in found:
            table.add_row(*run)
        console().print(table)
        return
    if folder is not None:
        raise SegueError(f"segue list {what} {folder}: only `segue list runs` takes a folder")
    if what in ("all", "recipes"):
        show_table("Recipes", ("recipe", "paper", "aims at"), ((r.name, r.paper, r.aim) for r in RECIPES.values()))
        around = ((system.example, system.says, system.paper) for system in SYSTEMS.values())
        show_table("Systems", ("around recipes", "what it does", "paper"), around)
    if what in ("all", "tasks"):
        from segue.tasks.catalogue import listing

        table = Table(title="Tasks", title_justify="left")
        table.add_column("task", overflow="fold")
        table.add_column("log")
        for family, rows in listing().items():
            table.add_section()
            table.add_row(family, style="italic")
            for row in rows:
                table.add_row(*row)
        console().print(table)
        print("download a published log that is not here: segue data import NAME")
        show_table("Tasks named by their data or environment", ("task", "needs"), NAMED.items())
    if what in ("all", "agents"):
        agents = ((name, entry.kind, entry.paper, entry.parity) for name, entry in AGENTS.items())
        show_table("Agents", ("agent", "kind", "paper", "tested against"), agents)
    if what in ("all", "bonuses"):
        bonuses = ((f"RECIPE+{name}", bonus.when, bonus.paper, bonus.parity) for name, bonus in BONUSES.items())
        show_table("Bonuses", ("bonus", "where", "paper", "tested against"), bonuses)
    if what in ("all", "rules"):
        known = ((usage(rule), str(rule.__doc__).splitlines()[0]) for rule in RULES.values())
        show_table("Hand-over rules", ("rule", "what it does"), known)


@app.command(name="explain")
def explain_command(
    recipe: RecipeName,
    task: TaskName = "pointmaze-umaze",
    part: Part = "",
    /,
    settings: Settings = (),
    rules: Rules = (),
    changed: bool = False,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Show a recipe's phases, and every option with its value, source and meaning.

    Args:
        recipe: One of `segue list recipes`.
        task: The task whose preset applies.
        part: Show only options whose path contains this text: learning_rate, online., scaling.
        settings: Options to change, as for `segue run`.
        rules: Hand-over rules, as for `segue run`.
        changed: Show only options whose value is not the default.
        json_output: Print JSON.
    """
    from segue.cli import plans

    plans.explain(recipe, task, part, split_settings(settings), words_of(rules), changed, json_output)
