"""`segue data`: logs in, what is wrong with them, and logs out."""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.table import Table

from segue.cli.data_shown import plain, progress, received, show_report, told, waiting
from segue.cli.tables import console, show_table
from segue.collect.recipe import RANDOM, Goals, Recipe, Starts
from segue.core.options import unknown
from segue.core.types import Part, SegueError
from segue.data.extras import versions
from segue.data.facts import Facts, known_of
from segue.data.files import write_atomically
from segue.data.store import Stored, datasets_folder, find_stored, place, save, stored_names

if TYPE_CHECKING:
    from segue.data.readers import Source

# Readers, simulators, reports and JAX are imported by the commands that need them: help answers at once.

app = tyro.extras.SubcommandApp()
COMMANDS = ("import", "collect", "make", "list", "show", "check", "card", "export", "sources")
SourceText = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]]
To = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="FILE.npz|minari")]]
Name = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]


def main(words: Sequence[str]) -> None:
    """Run `segue data WORDS`."""
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        unknown("segue data", words[0], COMMANDS)
    app.cli(prog="segue data", description=__doc__, args=list(words), config=(tyro.conf.OmitArgPrefixes,))


@app.command(name="import")
def import_command(source: SourceText, name: Name = "", /, env: str = "", replace: bool = False) -> None:
    """Import a log of any format into Segue's store; then it is the task data:NAME.

    Args:
        source: FORMAT:PATH, for example d4rl:hopper.hdf5, csv:"log.csv?action=a0,a1"; see `segue data sources`.
            Or the name of a task of `segue list tasks`, whose log is downloaded.
        name: Name of the dataset; for a task's log, the task's name by default.
        env: The environment of the log, if the log does not name it (a Gymnasium id).
        replace: Replace a dataset of that name.
    """
    from segue.data.readers import SOURCES, guessed
    from segue.tasks import find_gym_task, sources_of, task_names

    source = guessed(source)
    published = sources_of(source)
    if ":" not in source and published is None:
        unknown("segue data import: source", source, (*SOURCES, *task_names()))
    name = name or (source if published is not None else "")
    if not name:
        raise SegueError(
            f"segue data import {source}: give the dataset a name: segue data import {shlex.quote(source)} NAME"
        )
    folder = place(name)
    if folder.exists() and not replace:
        raise SegueError(f"dataset {name} exists; choose another name, or give --replace")
    opened = first_of(published, source) if published is not None else opened_here(source)
    facts: Facts = {**opened.facts, "versions": versions(), "imported": now()}
    if published is not None:
        from segue.collect import environment_of

        facts["environment"] = environment_of(find_gym_task(f"gym:{source}"))
    elif env:
        known = known_of(facts)
        facts["environment"] = known if known.get("env_id") == env else {"env_id": env}
    stored = save(folder, progress(opened.episodes, opened.rows), facts, replace=replace)
    said(name, stored)


@app.command(name="collect")
def collect_command(
    name: Name,
    /,
    task: str,
    policy: tuple[str, ...] = (RANDOM,),
    steps: int = 100_000,
    shares: tuple[float, ...] = (),
    noise: float = 0.0,
    epsilon: float = 0.0,
    explore: Literal["yes", "no"] = "no",
    starts: Starts = "usual",
    goals: Goals = "diverse",
    walker: str = "",
    seed: int = 0,
    replace: bool = False,
) -> None:
    """Make a new dataset by acting in a task's environment.

    Args:
        name: Name of the dataset.
        task: One of `segue list tasks`, or gym:ID.
        policy: random; scripted, from goal to goal in a maze; folders of runs (FOLDER@SEED for a seed other than the
            first); or one that Segue did not train: FILE.onnx, or module:name for a function of an observation or a
            class.  Several policies share the episodes.
        steps: Minimum number of environment steps; the last episode is finished.
        shares: Each policy's share of the episodes; equal by default.
        noise: Standard deviation of Gaussian noise on every action of a policy other than random.
        epsilon: Share of uniform actions.
        explore: Whether runs' policies act with exploration noise, or with their best action.
        starts: In mazes: the task's start, or any cell but the goal's; usual means any with a scripted policy.
        goals: Goals of the scripted policy: random cells (diverse), a few fixed cells (play), or the task's goal.
        walker: For an ant: FILE.npz of a network that runs; ant_runner.npz in the folder SEGUE_DATA by default.
        seed: Seed of starts, noise and choices.
        replace: Replace a dataset of that name.
    """
    from segue.cli.compiled import use_compilation_cache
    from segue.collect import collect, facts_of
    from segue.tasks import find_gym_task

    use_compilation_cache()
    folder, found = place(name), find_gym_task(task)
    if folder.exists() and not replace:
        raise SegueError(f"dataset {name} exists; choose another name, or give --replace")
    if found.real:
        print(f"moving {found.name}: at least {steps:,} steps, policy {', '.join(policy)}", file=sys.stderr)
    recipe = Recipe(policy, shares, noise, epsilon, explore, starts, goals, walker)
    made: Facts = {**facts_of(found, recipe, steps, seed), "versions": versions(), "imported": now()}
    said(name, save(folder, progress(collect(found, recipe, steps, seed), steps), made, replace=replace))


@app.command(name="make")
def make_command(
    source: SourceText,
    /,
    rows: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    out: Path | None = None,
    replace: bool = False,
) -> None:
    """Make a log of OGBench's arms or point mazes by its own recipe, as its published files were made.

    Its tasks find it where it is written: `segue run iql cube-single-play-singletask-v0`.

    Args:
        source: ogbench:PLACE-play or ogbench:PLACE-noisy, for example ogbench:cube-single-play; of a point maze
            ogbench:PLACE-navigate or ogbench:PLACE-stitch.
        rows: Transitions, rounded up to whole episodes (of 1,000 steps for arms); as many as are published by default.
        seed: Seed of everything.
        workers: Processes; as many as there are cores by default.  The file is the same for any number.
        out: Folder; the one that SEGUE_DATA names by default, or else that of imported datasets.
        replace: Replace a file of that name.
    """
    from segue.collect.oracles import OracleLog, episodes_of, write_log
    from segue.core.groups import cores

    kind, _, name = source.partition(":")
    if kind != "ogbench":
        raise SegueError(f"segue data make {source}: write ogbench:PLACE-play, -noisy, -navigate or -stitch")
    log = OracleLog.named(name, seed)
    if rows is not None and not 1 <= rows < math.inf:
        raise SegueError(f"segue data make {source}: --rows {rows:g} makes no episode; give {log.steps} or more")
    count = log.episodes if rows is None else math.ceil(rows / log.steps)
    path = (out or Path(os.environ.get("SEGUE_DATA") or datasets_folder())) / log.file
    if path.exists() and not replace:
        raise SegueError(f"{path} exists; give another --out, or --replace")
    if not os.access(next(p for p in (path.parent, *path.parent.parents) if p.exists()), os.W_OK):
        raise SegueError(f"{path.parent} cannot be written; give another --out")
    checked = max(1, count // 10)  # episodes of their own for validation, a tenth as published
    made = told(episodes_of(log, range(count + checked), workers or cores()), count + checked, log.file)
    for file, wanted in ((path, count), (path.with_name(f"{path.stem}-val.npz"), checked)):
        print(f"{file}: {write_log(file, itertools.islice(made, wanted)):,} transitions in {wanted:,} episodes")


@app.command(name="list")
def list_command() -> None:
    """Show the datasets that were imported."""
    table = Table("dataset", "transitions", "episodes", "observation", "environment", "source")
    for name in stored_names():
        stored = find_stored(name)
        facts = stored.facts
        row = facts["columns"]["observation"]
        parts = stored.made_of or (Part("", tuple(row["row"]), row["dtype"].lstrip("<|")),)
        shape = ", ".join(f"{p.name} {p.shape} {p.dtype}".strip() for p in parts)
        environment = known_of(facts).get("env_id", "not named")
        numbers = [f"{facts[k]:,}" for k in ("transitions", "episodes")]
        table.add_row(name, *numbers, shape, environment, str(facts.get("source", "")))
    if table.row_count:
        console().print(table)
    else:
        print(f"no datasets in {datasets_folder()}; import one with `segue data import SOURCE NAME`")


@app.command(name="show")
def show_command(name: Name, /, json_output: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """Show a dataset in numbers.

    Args:
        name: One of `segue data list`.
        json_output: Print JSON.
    """
    from segue.data.card import summarise

    stored = find_stored(name)
    described = {**stored.facts, **summarise(stored)}
    if json_output:
        print(json.dumps(described, indent=2))
        return
    table = Table(title=name, title_justify="left", show_header=False)
    for key, value in described.items():
        if key not in ("format", "name", "columns", "files"):
            table.add_row(key.replace("_", " "), plain(value))
    console().print(table)


@app.command(name="check")
def check_command(
    name: Name,
    /,
    env: str = "",
    task: str = "",
    fix: str = "",
    simulate: bool = False,
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Check a log for errors before learning from it.

    The environment is not stepped without --simulate, because it may be a robot.

    Args:
        name: One of `segue data list`, or a log that was not imported: log.hdf5, csv:"log.csv?action=a0,a1".
        env: The environment to compare it with, a Gymnasium id; the dataset's own by default.
        task: A task to compare it with instead.
        fix: Write a copy under this name with all corrections that are safe.
        simulate: Reset the environment and send it random and logged actions; a line first says what will move.
        json_output: Print JSON.
    """
    from segue.data.doctor import examine, mend, movements
    from segue.data.readers import guessed, open_source
    from segue.tasks import find_task

    name = guessed(name)
    stored = None if ":" in name else find_stored(name)
    facts = open_source(name).facts if stored is None else stored.facts
    read = (lambda: open_source(name).episodes) if stored is None else stored.episodes
    against = task or _task_name(name, facts, env, stored is not None)
    found_task = find_task(against) if against else None
    if simulate and found_task is not None:
        print(f"moving {movements(found_task.name)}", file=sys.stderr)
    with waiting(f"examining {name}"):
        if stored is not None:
            stored.verify()
        report = examine(read, facts, task=found_task, simulate=simulate)
    found = {"findings": report.table(), "left_out": dict(report.left_out), "examined": now(), "against": against}
    if stored is not None:
        write_json(stored.folder / "findings.json", found)
    if json_output:
        print(json.dumps(found, indent=1))
    else:
        show_report(name, report)
    left = [f.code for f in report.findings if f.severity == "error" and f.fix is None]
    if fix and not report.fixes:
        what = f"the errors ({', '.join(left)}) need somebody who knows the log" if left else "nothing is wrong"
        raise SegueError(f"segue data check --fix: nothing can be fixed safely: {what}; {fix} was not written")
    if fix:
        digest = None if stored is None else stored.facts["sha256"]
        mended: Facts = {**facts, "mended": {"from": name, "sha256": digest, "by": report.fixes}}
        stored = save(place(fix), mend(report, read()), mended)
        if left:
            print(f"{fix}: {', '.join(report.fixes)} fixed; {', '.join(left)} remain and cannot be fixed safely")
        else:
            said(fix, stored)
    if left or (report.worst == "error" and not fix):
        raise SystemExit(1)


def _task_name(name: str, facts: Facts, env: str, imported: bool) -> str:
    """The task whose environment a log is compared with; empty where none is known."""
    if imported and (env or known_of(facts).get("env_id")):
        return f"data:{name}?env={env}" if env else f"data:{name}"
    return f"gym:{env}" if env else ""


@app.command(name="export")
def export_command(name: Name, to: To, /, minari_id: str = "") -> None:
    """Write a dataset in a common format.

    Args:
        name: One of `segue data list`.
        to: A file that ends in .npz, or the word minari.
        minari_id: With minari: the id to give it, for example robot/pour-v0.
    """
    from segue.data.export import export_minari, export_npz

    stored = find_stored(name)
    if to == "minari":
        export_minari(progress(stored.episodes(), len(stored)), stored.facts, minari_id or f"segue/{name}-v0")
        print(f"minari dataset {minari_id or f'segue/{name}-v0'}")
    elif to.endswith(".npz"):
        export_npz(progress(stored.episodes(), len(stored)), to)
        print(to)
    else:
        raise SegueError(f"segue data export: {to} is not a format; write to a file that ends in .npz, or to minari")


@app.command(name="card")
def card_command(name: Name, /, out: Path | None = None) -> None:
    """Write a dataset's card: one HTML page, and the numbers behind it as JSON.

    Args:
        name: One of `segue data list`.
        out: Folder for card.html and card.json; the dataset's own by default.
    """
    from segue.data.card import numbers, pictures
    from segue.report.card import card_page
    from segue.tasks.layouts import LAYOUTS

    stored = find_stored(name)
    known = LAYOUTS.get(known_of(stored.facts).get("env_id", ""))
    card = {**stored.facts, **numbers(stored, known.positions if known else None), **examined(stored)}
    folder = out or stored.folder
    write_json(folder / "card.json", card)
    write_atomically(folder / "card.html", card_page(card, pictures(stored)))
    print(f"card: {folder / 'card.html'}")


@app.command(name="sources")
def sources_command() -> None:
    """Show the formats that can be imported."""
    from segue.data.readers import SOURCES

    rows = ((f"{name}:...", entry.what, ", ".join(entry.options)) for name, entry in SOURCES.items())
    show_table(None, ("source", "what it is", "options"), rows)


def examined(stored: Stored) -> dict[str, object]:
    """What the doctor has said of a dataset, if it was asked."""
    path = stored.folder / "findings.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def opened_here(source: str) -> Source:
    """An opened source; its download, if it is one, is shown."""
    from segue.data.readers import open_source

    with received() as told:
        return open_source(source, told)


def first_of(sources: Sequence[str], task: str) -> Source:
    """The first of a task's sources that can be had; `SegueError` says what is wrong with each of them."""
    wrong = []
    for source in sources:
        try:
            return opened_here(source)
        except SegueError as error:
            wrong.append(f"{source}: {error}")
    raise SegueError(
        "; ".join(wrong) or f"{task}: its log is not published; import your own: segue data import FORMAT:PATH {task}"
    )


def said(name: str, stored: Stored) -> None:
    """Say what is in the store now."""
    rows, episodes = stored.facts["transitions"], stored.facts["episodes"]
    print(f"{name}: {rows:,} transitions in {episodes:,} episodes, sha256 {stored.facts['sha256'][:16]}")
    print(f"in {stored.folder}; look at it with `segue data check {shlex.quote(name)}`, train on it as data:{name}")


def now() -> str:
    """The time, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write_json(path: Path, value: object) -> None:
    """Write JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")
