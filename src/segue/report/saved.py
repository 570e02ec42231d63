"""A study as files for a paper: columns as CSV, tables as Markdown and LaTeX, figures as SVG, PDF and PNG."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from segue.core import files
from segue.core.types import SegueError
from segue.report import study_figures, study_tables
from segue.report.columns import as_csv, curves, outcomes
from segue.report.standalone import convert, standalone
from segue.report.study import Study
from segue.report.svg import Figure
from segue.report.tables import Cell, Table

TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "→": r"$\to$",
    "∞": r"$\infty$",
    " %": r"\,\%",
}
TEX_SIGN = re.compile("|".join(re.escape(sign) for sign in sorted(TEX, key=len, reverse=True)))


def write_files(study: Study, folder: Path) -> list[str]:
    """Write a study's numbers, tables and figures into a folder; returns a line for each thing that could not be made.

    outcomes.csv has a row for each seed and quantity of the finished runs, curves.csv a row for each of their
    evaluations.  Each table is a .md and a .tex file (for the LaTeX package booktabs), each figure an .svg, .pdf and
    .png file.  Raises SegueError where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        groups = [group for one in study.tasks for group in one.groups]
        files.write(folder / "outcomes.csv", as_csv(outcomes(study)))
        files.write(folder / "curves.csv", as_csv(curves(groups)))
        for name, table in zip(_names(tables := study_tables.all_tables(study)), tables.values()):
            files.write(folder / f"{name}.md", markdown(table))
            files.write(folder / f"{name}.tex", latex(table))
        return _figures(study, folder)
    except OSError as error:
        raise SegueError(f"{folder}: cannot be written ({error.strerror}); give another place with --files") from error


def _figures(study: Study, folder: Path) -> list[str]:
    missing: dict[str, None] = {}
    drawn = all_figures(study)
    for name, (figure, legend) in zip(_names(drawn), drawn.values()):
        svg = standalone(figure, legend)
        files.write(folder / f"{name}.svg", svg)
        try:
            convert(svg, folder / f"{name}.pdf")
            convert(svg, folder / f"{name}.png")
        except SegueError as error:
            missing[str(error)] = None
    return list(missing)


def all_figures(study: Study) -> dict[str, tuple[Figure, dict[str, str]]]:
    """Every figure under a short name, with its legend: names and the classes of their colours."""
    complete = {label: study.shown[label] for label in study.complete if label in study.shown}
    found = {name: (figure, complete) for name, figure in study_figures.overview(study).items()}
    if "scores" in found:
        found["scores"] = (found["scores"][0], {})  # it has the names beside its lines
    for one in study.tasks:
        figure = study_figures.of_task(study, one)
        if figure is not None:
            legend = {member.label: member.colour for member in one.members if member.label in study.shown}
            found[f"curve {one.task}"] = (figure, legend)
    return found


def _names(things: Mapping[str, object]) -> list[str]:
    """Names for files: letters, digits, dots and dashes, a number behind those that would be the same."""
    taken: dict[str, int] = {}
    names = []
    for name in things:
        plain = re.sub(r"[^\w.]+", "-", name).strip("-")
        taken[plain.lower()] = taken.get(plain.lower(), 0) + 1
        names.append(plain if taken[plain.lower()] == 1 else f"{plain}-{taken[plain.lower()]}")
    return names


def markdown(table: Table) -> str:
    """A table as Markdown, its caption above it."""

    def written(cell: Cell) -> str:
        return " ".join(filter(None, cell)).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")

    lines = [[written(Cell(name)) for name in table.head], [":--", *["--:"] * (len(table.head) - 1)]]
    lines += [[written(row.name), *map(written, row.cells)] for row in table.rows]
    return f"{table.caption}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: Table) -> str:
    """A table as a LaTeX tabular with the rules of booktabs; its caption is a comment above it."""

    def written(cell: Cell) -> str:
        return " ".join(TEX_SIGN.sub(lambda match: TEX[match[0]], part) for part in cell if part)

    rows = [" & ".join([written(row.name), *map(written, row.cells)]) + r" \\" for row in table.rows]
    head = " & ".join(written(Cell(name)) for name in table.head) + r" \\"
    kinds = "l" + "r" * (len(table.head) - 1)
    body = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([f"% {table.caption}", f"\\begin{{tabular}}{{{kinds}}}", *body, r"\end{tabular}", ""])
