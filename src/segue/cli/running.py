"""`segue run` and `segue resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from segue.cli.app import Folder, RecipeName, Rules, Settings, TaskName, Tracker, app
from segue.cli.words import split_settings
from segue.core.types import SegueError
from segue.recipes.rules import words_of

# Nothing above imports JAX: help, lists and completion answer at once.  A command imports what it runs.


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
    stop_when: Annotated[str | None, tyro.conf.arg(metavar="CONDITION")] = None,
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    like: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None,
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
        stop_when: Save and end the run once its evaluations say so, for example 'success>=0.95,for=3'
            (three in a row; in quotes, because of the shell).
        config: A TOML file of these words; those on the command line win.
        like: Another run: ask for the same, but for what stands on the command line.
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

    del config, like  # their words stand in the others' places (segue.cli.given)
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
        stop_when,
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
