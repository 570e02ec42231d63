"""One HTML file per report: opens without a network, reads without JavaScript, prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segue.core import files
from segue.core.types import SegueError
from segue.report import sections, tables
from segue.report.figures import colour, legend
from segue.report.markup import Markup, element
from segue.report.read import read_run
from segue.report.run import Run
from segue.report.sections import Member, section
from segue.report.style import STYLE
from segue.report.summary import quantity_of, summarise, verdict


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
    colours = {label: place for place, label in enumerate(dict.fromkeys(labels))}  # a recipe keeps its own on all tasks
    groups: list[list[Member]] = []
    for task in dict.fromkeys(run.task for run in runs):
        chosen = [index for index, run in enumerate(runs) if run.task == task]
        quantity = quantity_of([runs[index] for index in chosen])
        groups.append(
            [Member(colours[labels[index]], labels[index], summarise(runs[index], quantity)) for index in chosen]
        )
    title = runs[0].recipe if len(runs) == 1 else f"{len(runs)} runs compared"
    where = f"{runs[0].recipe} on {runs[0].task}" if len(runs) == 1 else title
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{where} · Segue report"),
        element("style", Markup(STYLE)),
    )
    body = element(
        "body", _header(runs, labels, colours, title), element("main", _sections(groups, runs, labels)), _footer(runs)
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def labels_of(runs: Sequence[Run]) -> list[str]:
    """The shortest names that tell runs apart: recipe, or with folder, or with a number."""
    for name in (lambda run: run.recipe, lambda run: f"{run.recipe} ({run.name})"):
        labels = [name(run) for run in runs]
        if all(len({run.task for run in runs if name(run) == label}) == labels.count(label) for label in labels):
            return labels
    return [f"{run.recipe} ({run.name}, {place})" for place, run in enumerate(runs, 1)]


def _sections(groups: Sequence[Sequence[Member]], runs: Sequence[Run], labels: Sequence[str]) -> list[Markup]:
    several = len(groups) > 1
    parts, trained = [], []
    for group in groups:
        suffix = f" on {group[0].run.task}" if several else ""
        parts += [_verdict(group, suffix), sections.curves(group, suffix)]
        parts += [sections.handover(group, suffix), sections.results(group, suffix)]
        trained += [sections.bonuses(group, suffix), sections.training(group, suffix)]
    if several:
        together = tables.all_tasks([[member.summary for member in group] for group in groups], sections.generator)
        parts.append(section("All tasks together", together))
    settings = [sections.settings(run, label if len(runs) > 1 else "") for run, label in zip(runs, labels)]
    return [*parts, *trained, section("Configuration", settings)]


def _header(runs: Sequence[Run], labels: Sequence[str], colours: Mapping[str, int], title: str) -> Markup:
    if len(runs) == 1:
        run = runs[0]
        facts = {
            "task": run.task,
            "seeds": ", ".join(str(seed) for seed in run.seeds),
            "status": _status(run),
            "began": _date(run.created),
            "run": run.name,
            "Segue": run.version,
        }
        below = element(
            "dl", [element("div", element("dt", k), element("dd", v)) for k, v in facts.items()], class_="facts"
        )
    else:
        rows = [
            element(
                "tr",
                element("th", legend([(label, colours[label])]), scope="row"),
                [
                    element("td", cell)
                    for cell in (run.task, len(run.seeds), _status(run), _date(run.created), run.version)
                ],
            )
            for run, label in zip(runs, labels)
        ]
        names = [element("th", name, scope="col") for name in ("run", "task", "seeds", "status", "began", "Segue")]
        head = element("thead", element("tr", names))
        below = element("div", element("table", head, element("tbody", rows)), class_="scroll")
    return element("header", element("p", "Segue report", class_="over"), element("h1", title), below)


def _verdict(group: Sequence[Member], suffix: str) -> Markup:
    """One run: the sentence large; several: one entry each."""
    said = [(member, *verdict(member.summary)) for member in group]
    if len(said) == 1 and not suffix:
        member, headline, detail = said[0]
        body = [element("p", headline, class_="headline"), element("p", detail, class_="detail")]
        name = element("h2", "The hand-over", class_="over")
        return element("section", name, body, class_=f"verdict {colour(member.colour)}")
    items = [
        element(
            "li",
            element("p", member.label, class_="who"),
            element("p", headline),
            element("p", detail, class_="soft"),
            class_=colour(member.colour),
        )
        for member, headline, detail in said
    ]
    return section(f"The hand-over{suffix}", element("ul", items, class_="verdicts"))


def _status(run: Run) -> Markup:
    known = run.status if run.status in ("running", "finished", "interrupted", "failed") else "other"
    return element("span", run.status, class_=f"status status-{known}")


def _date(created: str) -> str:
    return created.replace("T", " ")[:16]


def _footer(runs: Sequence[Run]) -> Markup:
    return element("footer", element("p", f"Written from {len(runs)} run folder(s) by Segue."))
