"""One HTML file per report: opens without a network, reads without JavaScript, prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segue.core import files
from segue.core.types import SegueError
from segue.report import tables
from segue.report.figures import colour
from segue.report.read import read_run
from segue.report.run import Run
from segue.report.sections import Member, of_run, of_task
from segue.report.summary import quantity_of, summarise
from segue.report.templates import fill

FEW_SEEDS = 5  # with fewer, the report warns of its intervals


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Write one report on one or several run folders to the file `out` (or to report.html in the folder `out`).

    Returns the file's path.  Raises SegueError where a folder is no run or has no evaluation yet, and where the page
    cannot be written.
    """
    if not folders:
        raise SegueError("report: no run folder given; name at least one")
    out = out / "report.html" if out.is_dir() else out
    page = render([read_run(Path(folder)) for folder in folders])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.write(out, page)
    except OSError as error:
        raise SegueError(f"{out}: cannot be written ({error.strerror}); give another place with --out") from error
    return out


def render(runs: Sequence[Run]) -> str:
    """Return the whole page as text."""
    labels = labels_of(runs)
    colours = {label: colour(place) for place, label in enumerate(dict.fromkeys(labels))}  # a recipe keeps its own
    tasks = {task: [run for run in runs if run.task == task] for task in dict.fromkeys(run.task for run in runs)}
    quantities = {task: quantity_of(chosen) for task, chosen in tasks.items()}
    members = [Member(label, colours[label], summarise(run, quantities[run.task])) for run, label in zip(runs, labels)]
    groups = [[member for member in members if member.run.task == task] for task in tasks]
    shown = [of_run(member) for member in members]
    summaries = [member.summary for group in groups for member in group]
    return fill(
        "report.html",
        members=shown,
        groups=[
            of_task(group) | {"members": [one for one, member in zip(shown, members) if member.run.task == task]}
            for task, group in zip(tasks, groups)
        ],
        together=tables.all_tasks(summaries) if len(groups) > 1 else None,
        few_seeds=FEW_SEEDS,
    )


def labels_of(runs: Sequence[Run]) -> list[str]:
    """The shortest names that tell runs apart: recipe, or with folder, or with a number."""
    for name in (lambda run: run.recipe, lambda run: f"{run.recipe} ({run.name})"):
        labels = [name(run) for run in runs]
        if all(len({run.task for run in runs if name(run) == label}) == labels.count(label) for label in labels):
            return labels
    return [f"{run.recipe} ({run.name}, {place})" for place, run in enumerate(runs, 1)]
