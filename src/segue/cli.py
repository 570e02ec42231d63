"""The command line: run, resume, report, list, explain."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.console import Console
from rich.table import Table

from segue import experiment
from segue.agents import AGENTS
from segue.data import cache_folder
from segue.experiment import Interrupted, Request
from segue.options import split_settings, unknown
from segue.recipes import RECIPES, Resolved, find_recipe
from segue.report import write_report
from segue.tasks import find_task, task_names
from segue.types import SegueError

app = tyro.extras.SubcommandApp()
Word = tyro.conf.Positional[str]
Settings = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="NAME=VALUE ...")]


@app.command(name="run")
def run_command(
    recipe: Word,
    task: Word,
    /,
    seeds: str = "4",
    settings: Settings = (),
    out: Path | None = None,
    root: Path = Path("runs"),
    track: tuple[Literal["tensorboard", "wandb"], ...] = (),
    dry_run: bool = False,
) -> None:
    """Run a recipe on a task: pre-train, hand over, fine-tune, report.

    Args:
        recipe: One of `segue list recipes`.
        task: One of `segue list tasks`, or hdf5:PATH for a file in D4RL's layout.
        seeds: How many (8: seeds 0 to 7), or which ones (3,5,9); all learn side by side in this process.
        settings: Options to change, for example online.utd_ratio=2 agent.gap=0.4; `segue explain` shows all.
        out: Folder of the run; by default the next free one under `root`.
        root: Folder of runs.
        track: Trackers to log to as well; the run goes on if one of them fails.
        dry_run: Check everything, show the phases, and stop.
    """
    chosen = find_recipe(recipe)
    found = find_task(task)
    request = Request(recipe, task, parse_seeds(seeds), split_settings(settings), track)
    decided = experiment.resolved(chosen, found, request.settings)
    if dry_run:
        found.dataset()
        show_phases(decided)
        print(f"{len(request.seeds)} seeds, nothing was run")
        return
    folder = experiment.start(chosen, found, request, out, root)
    print(f"report: {folder / 'report.html'}")


@app.command(name="resume")
def resume_command(run: tyro.conf.Positional[Path], /) -> None:
    """Continue a run that was stopped or killed; the result is the one it would have had.

    Args:
        run: Folder of the run.
    """
    folder = experiment.resume(run, find_task)
    print(f"report: {folder / 'report.html'}")


@app.command(name="report")
def report_command(runs: tyro.conf.Positional[tuple[Path, ...]], /, out: Path | None = None) -> None:
    """Write one self-contained HTML report of one run, or of several side by side.

    Args:
        runs: Folders of runs.
        out: File to write; report.html in the first run's folder (comparison.html for several) by default.
    """
    if not runs:
        raise SegueError("segue report: name at least one run's folder")
    name = "report.html" if len(runs) == 1 else "comparison.html"
    print(f"report: {write_report(list(runs), out or runs[0] / name)}")


@app.command(name="list")
def list_command(what: tyro.conf.Positional[Literal["all", "recipes", "tasks", "agents"]] = "all", /) -> None:
    """Show what there is.

    Args:
        what: recipes, tasks or agents.
    """
    console = Console()
    if what in ("all", "recipes"):
        table = Table("recipe", "paper", "aims at", title="Recipes", title_justify="left")
        for r in RECIPES.values():
            table.add_row(r.name, r.paper, r.aim)
        console.print(table)
    if what in ("all", "tasks"):
        table = Table("task", "needs", title="Tasks", title_justify="left")
        for name in task_names():
            table.add_row(name, "nothing" if name.startswith("pointmaze") else "$SEGUE_DATA, the folder of its file")
        table.add_row("hdf5:PATH", "a file in D4RL's layout")
        console.print(table)
    if what in ("all", "agents"):
        table = Table("agent", "kind", "paper", "tested against", title="Agents", title_justify="left")
        for name, entry in AGENTS.items():
            table.add_row(name, entry.kind, entry.paper, entry.parity)
        console.print(table)


@app.command(name="explain")
def explain_command(recipe: Word, task: Word = "pointmaze-umaze", /, settings: Settings = ()) -> None:
    """Show a recipe's phases, and every option with its value and where it comes from.

    Args:
        recipe: One of `segue list recipes`.
        task: The task whose preset applies.
        settings: Options to change, as for `segue run`.
    """
    decided = experiment.resolved(find_recipe(recipe), find_task(task), split_settings(settings))
    show_phases(decided)
    table = Table("option", "value", "source", title=f"{recipe} on {task}", title_justify="left")
    for path, entry in decided.table().items():
        source = entry["source"]
        table.add_row(path, str(entry["value"]), source, style=None if source == "default" else "bold")
    Console().print(table)


def show_phases(decided: Resolved) -> None:
    """Print a recipe's phases as a table."""
    recipe = decided.recipe
    table = Table("phase", "learner", "slot", "ticks", "per tick", "batch", "rewards", title=recipe.paper)
    for p in recipe.phases:
        per_tick = f"{p.collect} environment steps, {p.updates} updates"
        rewards = type(p.augment).__name__ if type(p.augment).__name__ != "Nothing" else "as they are"
        table.add_row(p.name, type(p.learner).__name__, p.slot, f"{p.ticks:,}", per_tick, str(p.batch), rewards)
    Console().print(table)
    print(f"learner's units: {recipe.units}")


def parse_seeds(text: str) -> tuple[int, ...]:
    """(0, ..., n - 1) from "n", or the seeds named in "3,5,9"."""
    try:
        seeds = tuple(int(x) for x in text.split(",")) if "," in text else tuple(range(int(text)))
    except ValueError as error:
        raise SegueError(f"--seeds {text}: give how many (8), or which ones (3,5,9)") from error
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise SegueError(f"--seeds {text}: give at least one seed, none negative, none twice")
    return seeds


def command(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code: 0, 1 for a mistake, 2 for wrong words, 130/143 when stopped."""
    use_compilation_cache()
    words = list(arguments)
    try:
        known = ("run", "resume", "report", "list", "explain")
        if words and not words[0].startswith("-") and words[0] not in known:
            unknown("segue", words[0], known)
        app.cli(prog="segue", description=__doc__, args=words, config=(tyro.conf.OmitArgPrefixes,))
    except SegueError as error:
        print(f"segue: {error}", file=sys.stderr)
        return 1
    except Interrupted as stopped:
        return 128 + stopped.number
    except KeyboardInterrupt:
        print("segue: stopped at once; `segue resume` goes on from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as finished:
        return int(finished.code or 0)
    except MemoryError:
        print("segue: out of memory; use fewer seeds or a smaller batch", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        print("segue: this is a bug in Segue; the lines above say where", file=sys.stderr)
        return 70
    return 0


def use_compilation_cache() -> None:
    """Keep compiled programs between runs, unless the user has said otherwise (JAX_COMPILATION_CACHE_DIR)."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
