"""One HTML file per report: opens without a network, reads without JavaScript, prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from segue.core import files
from segue.core.types import SegueError
from segue.report import study_figures, study_tables, tables
from segue.report.figures import colour
from segue.report.pooling import Group, pooled
from segue.report.read import read_about, read_run
from segue.report.sections import Member, of_run, of_task
from segue.report.study import OnTask, Searched, Study, study_of
from segue.report.summary import quantity_of, summarise, verdict
from segue.report.templates import fill

FEW_SEEDS = 5  # with fewer, the report warns of its intervals


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Write one page on one or several run folders to the file `out`, or under a name of its own in the folder `out`.

    Runs of one task are compared side by side (report.html for one folder, comparison.html for several); runs of
    several tasks become a study's page (study.html).  Returns the file's path.  Raises SegueError where a folder is no
    run or has no evaluation yet, and where the page cannot be written.
    """
    if not folders:
        raise SegueError("report: no run folder given; name at least one")
    folders = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    if several_tasks(folders):
        return write_study(folders, out)
    groups = pooled([read_run(folder) for folder in folders])
    return _write(render(groups), out, "report.html" if len(folders) == 1 else "comparison.html")


def several_tasks(folders: Sequence[Path]) -> bool:
    """Whether runs are of more than one task; raises SegueError where a folder is no run."""
    return len({str(read_about(folder).get("task", "?")) for folder in folders}) > 1


def write_study(
    folders: Sequence[Path],
    out: Path,
    failed: Iterable[tuple[Path | str, str]] = (),
    searched: Searched | None = None,
) -> Path:
    """Write the page of a study on finished runs of any number of tasks; `out` as for `write_report`.

    Folders that failed, have not finished or cannot be read are listed with the reason, and so are those in `failed`:
    folders or names of cells that never began, each with its reason.  `searched` is what a search has found.  Raises
    SegueError where nothing has finished, and where the page cannot be written.
    """
    return _write(render_study(study_of(folders, failed), searched), out, "study.html")


def _write(page: str, out: Path, name: str) -> Path:
    out = out / name if out.is_dir() else out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        files.write(out, page)
    except OSError as error:
        raise SegueError(f"{out}: cannot be written ({error.strerror}); give another place with --out") from error
    return out


def render(groups: Sequence[Group]) -> str:
    """Return the page of runs of one task as text."""
    quantity = quantity_of([group.run for group in groups])
    members = [Member(group.label, colour(place), summarise(group.run, quantity)) for place, group in enumerate(groups)]
    return fill(
        "report.html",
        members=[of_run(member) for member in members],
        group=of_task(members),
        folders=sum(len(group.members) for group in groups),
        left_out=[line for group in groups for line in group.left_out],
        few_seeds=FEW_SEEDS,
    )


def render_study(study: Study, searched: Searched | None = None) -> str:
    """Return the page of a study as text."""
    groups = [group for one in study.tasks for group in one.groups]
    return fill(
        "study.html",
        study=study,
        searched=searched,
        shown=[{"label": label, "colour": colour} for label, colour in study.shown.items()],
        runs=sum(len(group.run.seeds) for group in groups),
        folders=sum(len(group.members) for group in groups),
        fewest=min(len(group.run.seeds) for group in groups),
        versions=sorted({member.version for group in groups for member in group.members}),
        figures_over_tasks=list(study_figures.overview(study).values()),
        overall=study_tables.overall(study),
        improvement=study_tables.improvement(study),
        partial=[label for label in study.labels if label not in study.complete],
        tasks=[_of_task(study, one) for one in study.tasks],
        pooling=study_tables.pooling(study),
        few_seeds=FEW_SEEDS,
    )


def _of_task(study: Study, one: OnTask) -> dict[str, object]:
    summaries = [member.summary for member in one.members]
    return {
        "task": one.task,
        "measure": one.measure,
        "curve": study_figures.of_task(study, one),
        "shown": [member for member in one.members if member.label in study.shown],
        "table": study_tables.on_task(study, one.task),
        "diagnostics": tables.handover(summaries, [member.label for member in one.members]),
        "verdicts": [(member.label, *verdict(member.summary)) for member in one.members],
    }
