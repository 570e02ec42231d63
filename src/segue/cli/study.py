"""`segue study`: many runs, on any number of machines; what they share is computed once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self

import tyro

from segue.cli.app import LISTS, Folder, Rules, Settings
from segue.cli.study_words import asked, begun, nothing_more
from segue.cli.words import gather, split_settings
from segue.core.files import word
from segue.core.options import unknown
from segue.core.types import Interrupted, NoRoom, SegueError

# What plans and runs cells is imported by the commands that do: help and status answer at once.

app = tyro.extras.SubcommandApp()
COMMANDS = ("run", "plan", "add", "status", "report", "rerun", "work", "cell", "choose")
What = tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="FILE|FOLDER")]]
More = tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="FILE")]]
LOOK = 0.5  # seconds between looks at the workers
AllCells = Annotated[bool, tyro.conf.arg(name="all")]
Name = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="CELL")]]
Turn = tyro.conf.Positional[Annotated[int, tyro.conf.arg(metavar="TURN")]]
Number = tyro.conf.Positional[Annotated[int, tyro.conf.arg(metavar="LEASE")]]


def main(words: Sequence[str]) -> None:
    """Run `segue study WORDS`."""
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        unknown("segue study", words[0], COMMANDS)
    given = [*words[:1], *gather(words[1:], LISTS, 2)] if words else []
    app.cli(prog="segue study", description=__doc__, args=given, config=(tyro.conf.OmitArgPrefixes,))


@app.command(name="run")
def run_command(
    what: What = None,
    /,
    recipes: str = "",
    tasks: str = "",
    seeds: str | None = None,
    settings: Settings = (),
    rules: Rules = (),
    out: Path | None = None,
    workers: int | None = None,
    gpus: str = "",
    executor: Literal["local", "slurm", "ray"] = "local",
    slurm: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = (),
    ray: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None,
    retry: bool = False,
) -> None:
    """Run a study, or go on with it: all that is done stays done.

    Args:
        what: The study's file, or the folder of one that has begun; or leave it out and name recipes and tasks.
        recipes: Recipes, with commas between them: cal-ql,iql,opt(spot).
        tasks: Tasks or patterns of them, with commas between: adroit-*-binary.
        seeds: How many (8), or which ones (3,5,9); 4 by default.
        settings: Options of all runs, for example online.utd_ratio=2.
        rules: Hand-over rules of all runs.
        out: Folder of the study; by default runs/FILE, or the next free runs/study-NNN.
        workers: Processes that work on it, with cores of their own; as many as the cores allow by default.
        gpus: GPUs, with commas between: each worker gets one of them.  With Ray: any word, and each worker gets one.
        executor: Where workers are: processes of this machine, jobs of SLURM, tasks of Ray.
        slurm: Options of sbatch; time=MINUTES is needed, for example time=240 partition=cpu mem=4G.
        ray: Address of a cluster of Ray; by default the one that is running, or else one on this machine.
        retry: Try failed cells again.
    """
    from segue.study.folder import place, read
    from segue.study.lease import lease_of, reopen

    if what is not None and what.is_dir():
        folder, study = what, read(what)
        nothing_more(recipes, tasks, seeds, settings, rules, f"{what} is a study that has begun")
    else:
        folder, study = begun(asked(what, recipes, tasks, seeds, settings, rules), what, out)
    if retry:
        for cell in study.cells:
            if lease_of(there := place(folder, cell.name)).state == "failed":
                reopen(there)
    if executor == "slurm":
        from segue.study.slurm import submit

        if workers is None:
            raise SegueError("--executor slurm: say how many jobs work on the study, with --workers")
        jobs = submit(folder, workers, {name: str(value) for name, value in split_settings(slurm).items()})
        print(f"jobs {', '.join(jobs)} submitted; `segue study status {word(folder)} --watch` shows how far they are")
    elif executor == "ray":
        from segue.study.ray import Cluster

        follow(folder, Cluster(folder, workers, ray, bool(gpus)))
    else:
        from segue.study.local import Local

        follow(folder, Local(folder, workers, [gpu for gpu in gpus.split(",") if gpu]))


@app.command(name="plan")
def plan_command(
    what: What = None,
    /,
    recipes: str = "",
    tasks: str = "",
    seeds: str | None = None,
    settings: Settings = (),
    rules: Rules = (),
) -> None:
    """Show a study's cells, the phases that they share, and what they need, and run nothing.

    Args:
        what: The study's file, or the folder of one that has begun; or leave it out and name recipes and tasks.
        recipes: Recipes, with commas between them.
        tasks: Tasks or patterns of them, with commas between.
        seeds: How many, or which ones.
        settings: Options of all runs.
        rules: Hand-over rules of all runs.
    """
    from segue.cli.studies import show_plan
    from segue.study.folder import read
    from segue.study.plan import Planner, planned

    planner = Planner()
    if what is not None and what.is_dir():
        study = read(what)
        nothing_more(recipes, tasks, seeds, settings, rules, f"{what} is a study that has begun")
    else:
        study = planned(asked(what, recipes, tasks, seeds, settings, rules), str(what or "--recipes"), planner)
    show_plan(study, planner)


@app.command(name="add")
def add_command(
    study: Folder,
    what: More = None,
    /,
    recipes: str = "",
    tasks: str = "",
    seeds: str | None = None,
    settings: Settings = (),
    rules: Rules = (),
) -> None:
    """Widen a study: more seeds, recipes, tasks or settings; nothing that is done is done again.

    What is left out is that of the study: with --seeds 8 alone all its runs get eight seeds, with --recipes alone its
    tasks get these recipes.  Workers that are at work find the new cells by themselves.

    Args:
        study: The study's folder.
        what: A file with what to add; or leave it out and name it.
        recipes: Recipes, with commas between them.
        tasks: Tasks or patterns of them, with commas between.
        seeds: How many, or which ones.
        settings: Options of the new runs.
        rules: Hand-over rules of the new runs.
    """
    from segue.study.folder import change, read
    from segue.study.plan import Planner, grown

    before = read(study)
    more = asked(what, recipes, tasks, seeds, settings, rules, before.asked)
    after = change(study, lambda known: grown(known or before, more, str(what or study), Planner()))
    count = len(after.cells) - len(before.cells)
    print(f"{count} cells added, {len(after.cells)} in all; `segue study run {word(study)}` runs them")


@app.command(name="status")
def status_command(study: Folder, /, watch: bool = False, every: AllCells = False) -> None:
    """Show how far a study is, whoever works on it.

    Args:
        study: The study's folder.
        watch: Keep showing it, until Ctrl-C.
        every: Show every cell.
    """
    from segue.cli.studies import show_status, watch_status

    if watch:
        watch_status(study)
    else:
        show_status(study, every)


@app.command(name="report")
def report_command(study: Folder, /, out: Path | None = None, files: Path | None = None) -> None:
    """Write one self-contained page on all that a study has finished: over tasks, task by task, and what failed.

    Args:
        study: The study's folder.
        out: File to write; study.html in the study's folder by default.
        files: Folder for the same as CSV, Markdown, LaTeX, SVG, PDF and PNG.
    """
    from segue.report.pages import write_study
    from segue.report.saved import write_files
    from segue.report.study import study_of
    from segue.study.folder import read
    from segue.study.status import runs

    known = read(study)
    done, others = runs(study, known)
    searched = None
    if known.asked.search is not None:
        from segue.study.searched import searched_of

        searched = searched_of(study, known)
    print(f"report: {write_study(done, out or study / 'study.html', others, searched)}")
    if files is not None:
        for line in write_files(study_of(done, others), files):
            print(f"segue: {line}")
        print(f"files: {files}")


@app.command(name="rerun")
def rerun_command(study: Folder, /, seeds: int = 10, out: Path | None = None, workers: int | None = None) -> None:
    """Run the best settings that a search has found again, with seeds that it has not seen.

    The best of many trials looks better than it is; with fresh seeds it does not.

    Args:
        study: The folder of a study with a search.
        seeds: How many fresh seeds.
        out: Folder of the new study; by default STUDY-rerun.
        workers: Processes that work on it, as for `segue study run`.
    """
    from segue.study.folder import read
    from segue.study.local import Local
    from segue.study.search import winner

    asked = winner(study, read(study), seeds)
    folder, _ = begun(asked, None, out or study.with_name(f"{study.resolve().name}-rerun"))
    follow(folder, Local(folder, workers))


@app.command(name="work")
def work_command(study: Folder, /, on: str = "") -> None:
    """Work on a study until nothing is left to do: one worker, on this machine.

    Any number of them may work at once, on any machines that see the folder.

    Args:
        study: The study's folder.
        on: Numbers of the cores to stay on, with commas between; by default wherever the system puts it.
    """
    from segue.study import leash
    from segue.study.work import Worker

    if on and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in on.split(",")})
    leash.follow()
    worker, stopped = Worker(study, lambda line: print(line, flush=True)), []

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        worker.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    worker.work()
    if stopped:
        raise Interrupted(stopped[0])


@app.command(name="cell")
def cell_command(study: Folder, cell: Name, lease: Number, /) -> None:
    """Do one run of a study: what a worker starts, under the lease that it has.

    Args:
        study: The study's folder.
        cell: The cell's name.
        lease: The lease's number.
    """
    from segue.cli.compiled import prepare
    from segue.study import begin, leash
    from segue.study.folder import read
    from segue.study.work import FULL

    leash.follow()
    prepare()
    known = read(study)
    try:
        begin.run(study, known, known.cell(cell), lease)
    except NoRoom as error:
        print(f"segue: {error}", flush=True)
        raise SystemExit(FULL) from error


@app.command(name="choose")
def choose_command(study: Folder, turn: Turn, /) -> None:
    """Choose the next trial of a search: what a worker starts, under the lease that it has.

    Args:
        study: The study's folder.
        turn: Which turn it is.
    """
    from segue.study import leash
    from segue.study.search import choose

    leash.follow()
    choose(study, turn)


class Working(Protocol):
    """Workers that this process has started; they end with the context."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def alive(self) -> bool:
        """Whether one of them still works."""


def follow(folder: Path, workers: Working) -> None:
    """Show how far a study is while workers are at it."""
    from segue.cli.studies import Shown
    from segue.runs.lock import signals

    with signals() as stopping, Shown(folder) as shown, workers:
        while workers.alive() and stopping() is None:
            shown.look()
            time.sleep(LOOK)
        if (number := stopping()) is not None:
            shown.say(f"stopped; go on with `segue study run {word(folder)}`")
            raise Interrupted(number)
    shown.end()
