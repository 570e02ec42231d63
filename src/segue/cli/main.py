"""The command line: run, resume, report, list, explain, data."""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, get_args

import tyro
from rich.table import Table

from segue.agents import AGENTS
from segue.bonuses import BONUSES
from segue.cli.tables import console, show_table
from segue.cli.words import gather, split_settings
from segue.core.named import is_own
from segue.core.options import unknown
from segue.core.types import Interrupted, SegueError
from segue.recipes import RECIPES, SYSTEMS
from segue.recipes.rules import RULES, usage, words_of

# Nothing above imports JAX: help, lists and completion answer at once.  A command imports what it runs.
app = tyro.extras.SubcommandApp()
RecipeName = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RECIPE")]]
TaskName = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TASK")]]
Part = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PART")]]
Folder = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]]
Folders = tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FOLDER ...")]]
ListName = tyro.conf.Positional[Literal["all", "recipes", "tasks", "agents", "bonuses", "rules"]]
Rules = Annotated[tuple[str, ...], tyro.conf.arg(metavar="RULE ...")]
Tracker = Literal["tensorboard", "wandb"]
Settings = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="NAME=VALUE ...")]
COMMANDS = ("run", "resume", "report", "list", "explain", "data")
LISTS = {
    "--set": lambda word: re.match(r"[A-Za-z_][\w.-]*=", word) is not None,
    "--rules": lambda word: re.split("[=,]", word)[0] in RULES,
    "--track": lambda word: word in get_args(Tracker),
}


NAMED = {
    "data:NAME": "an imported dataset, and the packages of its environment",
    "hdf5:PATH": "a file in D4RL's layout, and the packages of its environment; ?env=ID replaces it",
    "minari:DATASET": "the extra minari; a dataset on this machine or on Minari's server",
    "gym:ID": "the packages of the environment; there is no log, so only for recipes without offline phase",
    "gym:NAME": "the packages of a task above, without its log",
}
"""Tasks named by their data or environment, and what they need."""


@app.command(name="run")
def run_command(
    recipe: RecipeName,
    task: TaskName,
    /,
    seeds: str | None = None,
    settings: Settings = (),
    rules: Rules = (),
    out: Path | None = None,
    root: Path = Path("runs"),
    track: tuple[Tracker, ...] = (),
    cores: int | None = None,
    env_workers: int = 0,
    init_from: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN[@PHASE]")] = None,
    with_experience: bool = False,
    keep: int | None = None,
    dry_run: bool = False,
    untrained: bool = False,
) -> None:
    """Run a recipe on a task: pre-train, hand over, fine-tune, report.

    Args:
        recipe: One of `segue list recipes`, module:name, or composed: cal-ql+sera, opt(spot).
        task: One of `segue list tasks`, or data:NAME, hdf5:PATH, minari:DATASET, gym:ID.
        seeds: How many (8: seeds 0 to 7), or which ones (3,5,9; one alone: 5,); all learn side by side.  By default 4,
            or those of the run that `--from` names.
        settings: Options to change, for example online.utd_ratio=2 agent.target_rate=0.01; `segue explain` shows all.
        rules: Hand-over rules, for example freeze_actor=2000 warm_up=5000,policy=random; see `segue list rules`.
        out: Folder of the run; by default the next free one under `root`.
        root: Folder of runs.
        track: Trackers that get a copy of the metrics; the run goes on if one of them fails.
        cores: Cores of the CPU to use; all that this process may use by default.  Another number may change the last
            digits of results.
        env_workers: Processes that the simulators live in, where they step beside each other, for slow ones; 0 steps
            them one after the other in this process.  Results do not depend on it.
        init_from: Another run: begin at the end of its phase (by default the last before the world moves) in place of
            the recipe's own phases up to there.
        with_experience: Take that run's own experience too.
        keep: How many phases' ends to keep for `--from`, the newest ones; all by default.
        dry_run: Check everything, show the phases and an estimate of disk, memory and time, and stop.
        untrained: Allow an untrained policy, or random actions, to move a real robot.
    """
    from segue.cli import plans
    from segue.cli.compiled import prepare
    from segue.recipes import find_recipe
    from segue.runs import train
    from segue.runs.fork import find_end
    from segue.runs.request import Request, lasting
    from segue.tasks import find_task

    prepare(cores)
    chosen = find_recipe(recipe)
    found = find_task(task)
    origin = None if init_from is None else find_end(init_from).origin(with_experience)
    request = Request(
        recipe,
        lasting(task),
        train.default_seeds(origin) if seeds is None else parse_seeds(seeds),
        split_settings(settings),
        track,
        words_of(rules),
        untrained,
        origin,
        keep,
    )
    if dry_run:
        plans.try_out(chosen, found, request)
        return
    say_report(train.start(chosen, found, request, out, root, env_workers=env_workers))


@app.command(name="resume")
def resume_command(run: Folder, /, settings: Settings = (), cores: int | None = None, env_workers: int = 0) -> None:
    """Continue a run that was stopped or killed; the result is the same as without the stop.

    Args:
        run: Folder of the run.
        settings: Options to change from here on, for example a learning rate after a divergence; run.json keeps what
            changed and when.
        cores: Cores of the CPU to use; all that this process may use by default.
        env_workers: Processes that the simulators live in; any number goes on with the same results.
    """
    from segue.cli.compiled import prepare
    from segue.runs import train
    from segue.tasks import find_task

    prepare(cores)
    say_report(train.resume(run, find_task, settings=split_settings(settings), env_workers=env_workers))


@app.command(name="report")
def report_command(runs: Folders, /, out: Path | None = None) -> None:
    """Write one self-contained HTML report of one run, or of several side by side.

    Args:
        runs: Folders of runs; duplicates count once.
        out: File to write; report.html in the first run's folder (comparison.html for several) by default.
    """
    from segue.report import write_report

    if not runs:
        raise SegueError("segue report: name at least one run's folder")
    distinct = list({run.resolve(): run for run in runs}.values())
    name = "report.html" if len(distinct) == 1 else "comparison.html"
    print(f"report: {write_report(distinct, out or distinct[0] / name)}")


@app.command(name="list")
def list_command(what: ListName = "all", /) -> None:
    """Show what there is.

    Args:
        what: recipes, tasks, agents, bonuses or rules.
    """
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


@app.command(name="data")
def data_command() -> None:
    """Logs: import, collect, check, card, export; see `segue data --help`."""


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


def say_report(folder: Path) -> None:
    """Name the report of a run, if it could be written."""
    if (folder / "report.html").exists():
        print(f"report: {folder / 'report.html'}")


def parse_seeds(text: str) -> tuple[int, ...]:
    """(0, ..., n - 1) from "n", or the seeds named in "3,5,9"."""
    from segue.runs.request import seeds_of

    try:
        numbers = [int(x) for x in text.removesuffix(",").split(",")]
    except ValueError as error:
        raise SegueError(f"--seeds {text}: give how many (8), or which ones (3,5,9)") from error
    return seeds_of(numbers if "," in text else numbers[0], f"--seeds {text}")


def command(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code.

    0, 1 for a mistake or an error in a part of one's own, 2 for wrong words, 70 for a bug of Segue's, 130 and 143 when
    SIGINT and SIGTERM stopped it.
    """
    words = list(arguments)
    try:
        if words == ["--version"]:
            print(f"segue {metadata.version('segue')}")
            return 0
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            unknown("command", words[0], COMMANDS)
        if words[:1] == ["data"]:
            from segue.cli import data

            data.main(words[1:])
            return 0
        if words[0:1] in (["run"], ["explain"], ["resume"]):
            words = [words[0], *gather(words[1:], LISTS, {"run": 2, "explain": 3, "resume": 1}[words[0]])]
        app.cli(prog="segue", description=__doc__, args=words, config=(tyro.conf.OmitArgPrefixes,))
        sys.stdout.flush()  # a reader that has gone is noticed here and not at the interpreter's exit
    except SegueError as error:
        return _fail(str(error), 1)
    except Interrupted as stopped:
        return 128 + stopped.number
    except KeyboardInterrupt as stopped:
        number = stopped.args[0] if stopped.args else signal.SIGINT
        return _fail("stopped; continue a run that has begun with `segue resume FOLDER`", 128 + number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as finished:
        return finished.code if isinstance(finished.code, int) else int(finished.code is not None)
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            return _fail("out of memory; use fewer seeds or a smaller batch, then `segue resume FOLDER`", 1)
        own = own_frames(error)
        traceback.print_exception(error.with_traceback(own[0]) if own else error)
        if own:
            code, said = own[-1].tb_frame.f_code, f"{type(error).__name__}: {error}"
            place = f"{Path(code.co_filename).name}, line {own[-1].tb_lineno}"
            return _fail(f"{code.co_qualname} of your own ({place}) raised {said}; the lines above say where", 1)
        return _fail("this is a bug in Segue; the lines above say where", 70)
    return 0


def own_frames(error: BaseException) -> list[TracebackType]:
    """Where an error came through the user's own code, the innermost last."""
    found, here = [], error.__traceback__
    while here is not None:
        found += [here] if is_own(here.tb_frame.f_code.co_filename) else []
        here = here.tb_next
    return found


def _fail(line: str, code: int) -> int:
    print("segue:", " ".join(line.split()), file=sys.stderr)
    return code
