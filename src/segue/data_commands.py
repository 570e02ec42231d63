"""`segue data`: import, list, show, check, card, export, delete."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import DownloadColumn, Progress
from rich.table import Table

from segue.collect import RANDOM, Recipe, collect, facts_of
from segue.data.extras import versions
from segue.data.recorded import Recorded
from segue.data.sources import SOURCES, open_source
from segue.data.store import write_atomically
from segue.data.stored import Stored, datasets_folder, find_stored, stored_names
from segue.data.storing import place, save
from segue.data.summary import numbers, summarise
from segue.options import unknown
from segue.report.card import card_page
from segue.tasks import find_task
from segue.tasks.layouts import LAYOUTS
from segue.types import SegueError

app = tyro.extras.SubcommandApp()
COMMANDS = ("import", "collect", "list", "show", "card", "sources")
SourceText = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]]
Name = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]


def main(words: Sequence[str]) -> None:
    """Run `segue data WORDS`."""
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        unknown("segue data", words[0], COMMANDS)
    app.cli(prog="segue data", description=__doc__, args=list(words), config=(tyro.conf.OmitArgPrefixes,))


@app.command(name="import")
def import_command(source: SourceText, name: Name, /, env: str = "", replace: bool = False) -> None:
    """Bring a log into Segue's own store, whatever its format; then it is the task data:NAME.

    Args:
        source: FORMAT:PATH, for example d4rl:hopper.hdf5, csv:"log.csv?action=a0,a1"; see `segue data sources`.
        name: What to call it.
        env: The environment that it was logged in, where the log does not say (a Gymnasium id).
        replace: Replace a dataset of that name.
    """
    folder = place(name)
    if folder.exists() and not replace:
        raise SegueError(f"dataset {name} exists; choose another name, or give --replace")
    with received() as told:
        opened = open_source(source, told)
    facts = {**opened.facts, "versions": versions(), "imported": now()}
    if env:
        known = facts.get("environment") or {}
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
    seed: int = 0,
    replace: bool = False,
) -> None:
    """Make a new dataset by acting in a task's environment.

    Args:
        name: What to call it.
        task: One of `segue list tasks`, or gym:ID.
        policy: random, or folders of runs (FOLDER@SEED for another seed than the first); several share the episodes.
        steps: Environment steps, at least; the last episode is finished.
        shares: Each policy's share of the episodes; equal by default.
        noise: Standard deviation of Gaussian noise on every action of a run's policy.
        epsilon: Share of uniform actions.
        explore: Whether runs' policies act as they explore, or with their best action.
        seed: Of starts, noise and choices.
        replace: Replace a dataset of that name.
    """
    folder, found = place(name), find_task(task)
    if folder.exists() and not replace:
        raise SegueError(f"dataset {name} exists; choose another name, or give --replace")
    recipe = Recipe(policy, shares, noise, epsilon, explore)
    made = facts_of(found, recipe, steps, seed) | {"versions": versions(), "imported": now()}
    said(name, save(folder, progress(collect(found, recipe, steps, seed), steps), made, replace=replace))


@app.command(name="list")
def list_command() -> None:
    """Show the datasets that were imported."""
    table = Table("dataset", "transitions", "episodes", "observation", "environment", "source")
    for name in stored_names():
        facts = find_stored(name).facts
        row = facts["columns"]["observation"]
        shape = f"{tuple(row['row'])} {row['dtype'].lstrip('<|')}"
        environment = (facts.get("environment") or {}).get("env_id", "not named")
        numbers = [f"{facts[k]:,}" for k in ("transitions", "episodes")]
        table.add_row(name, *numbers, shape, environment, str(facts.get("source", "")))
    if table.row_count:
        console().print(table)
    else:
        print(f"no datasets in {datasets_folder()}; import one with `segue data import SOURCE NAME`")


@app.command(name="show")
def show_command(name: Name, /, json_output: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """Show what a dataset is, in numbers.

    Args:
        name: One of `segue data list`.
        json_output: Print JSON.
    """
    stored = find_stored(name)
    described = {**stored.facts, **summarise(stored)}
    if json_output:
        print(json.dumps(described, indent=2))
        return
    table = Table(title=name, title_justify="left", show_header=False)
    for key, value in described.items():
        if key not in ("format", "name", "columns"):
            table.add_row(key.replace("_", " "), plain(value))
    console().print(table)


@app.command(name="card")
def card_command(name: Name, /, out: Path | None = None) -> None:
    """Write a dataset's card: one HTML page, and the numbers behind it as JSON.

    Args:
        name: One of `segue data list`.
        out: Folder for card.html and card.json; the dataset's own by default.
    """
    stored = find_stored(name)
    known = LAYOUTS.get((stored.facts.get("environment") or {}).get("env_id", ""))
    card = {**stored.facts, **numbers(stored, known.positions if known else None), **examined(stored)}
    folder = out or stored.folder
    for file, text in (("card.json", json.dumps(card, indent=1) + "\n"), ("card.html", card_page(card))):
        write_atomically(folder / file, lambda path, text=text: path.write_text(text))  # type: ignore[misc]
    print(f"card: {folder / 'card.html'}")


@app.command(name="sources")
def sources_command() -> None:
    """Show the formats that can be imported."""
    table = Table("source", "what it is", "options")
    for name, entry in SOURCES.items():
        table.add_row(f"{name}:...", entry.what, ", ".join(entry.options))
    console().print(table)


def examined(stored: Stored) -> dict[str, Any]:
    """What the doctor has said of a dataset, if it was asked."""
    path = stored.folder / "findings.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def said(name: str, stored: Stored) -> None:
    """Say what is in the store now."""
    rows, episodes = stored.facts["transitions"], stored.facts["episodes"]
    print(f"{name}: {rows:,} transitions in {episodes:,} episodes, sha256 {stored.facts['sha256'][:16]}")
    print(f"in {stored.folder}; look at it with `segue data check {name}`, train on it as data:{name}")


def now() -> str:
    """The time, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def progress(episodes: Iterator[Recorded], rows: int | None) -> Iterator[Recorded]:
    """The same episodes, with a bar on a terminal that says how far they are."""
    if not sys.stderr.isatty():
        yield from episodes
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=rows)
        for episode in episodes:
            yield episode
            bar.advance(task, len(episode))


@contextlib.contextmanager
def received() -> Iterator[Callable[[int, int | None], None]]:
    """What a download tells its bytes to: a bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with Progress(
        *Progress.get_default_columns(), DownloadColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("download", start=True, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def plain(value: Any) -> str:
    """A JSON value in a table's cell."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value)) if len(value) <= 12 else f"{len(value)} values"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def console() -> Console:
    """A console as wide as the terminal, and 120 columns wide where there is none."""
    made = Console()
    return made if made.is_terminal else Console(width=max(made.width, 120))
