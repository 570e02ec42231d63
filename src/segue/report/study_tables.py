"""The tables of a study as plain values: over tasks, pairs of methods, pooled folders, runs that do not count."""

from __future__ import annotations

from collections.abc import Sequence

from segue.report.notation import MISSING, count
from segue.report.statistics import Interval, probability_of_improvement, resampling, stratified_bootstrap
from segue.report.study import Study
from segue.report.tables import Cell, Row, Table, comparison, estimate, texts


def overall(study: Study) -> Table:
    """Each complete method over all tasks that have a score."""
    rows = []
    for label in study.complete:
        cells = [estimate("score", over(study, label, name)) for name in ("at_switch", "final")]
        fall = estimate("score", over(study, label, "fall"))
        regret = estimate("regret", over(study, label, "regret"))
        runs = sum(len(scores) for scores in study.over_tasks(label, "final"))
        lost = sum(one.label == label for one in study.lost)
        rows.append(Row(Cell(label), [Cell(count(runs)), *cells, fall, regret, Cell(count(lost))]))
    head = ["", "runs", "score at the switch", "score at the end", "lowest after − at the switch", "regret"]
    tasks = "1 task" if len(study.scored) == 1 else f"{len(study.scored)} tasks"
    caption = f"Interquartile means over all runs of {tasks} [95 % interval; seeds redrawn within tasks]."
    return Table(caption, [*head, "folders left out"], rows)


def over(study: Study, label: str, name: str) -> Interval:
    """Interquartile mean of a quantity over all runs of a complete method, with its stratified interval."""
    return stratified_bootstrap(study.over_tasks(label, name), resampling())


def improvement(study: Study) -> Table:
    """P(a run of the row's method beats a run of the column's), for methods that figures show."""
    labels = [label for label in study.complete if label in study.shown]
    finals = {label: study.over_tasks(label, "final") for label in labels}
    found: dict[tuple[str, str], Interval] = {}
    for place, ours in enumerate(labels):
        for theirs in labels[:place]:
            point, low, high = probability_of_improvement(finals[ours], finals[theirs], resampling())
            found[ours, theirs] = Interval(point, low, high)
            found[theirs, ours] = Interval(1 - point, 1 - high, 1 - low)
    rows = [
        Row(Cell(ours), [estimate("probability", found[ours, theirs]) if ours != theirs else Cell(MISSING)
                         for theirs in labels])
        for ours in labels
    ]  # fmt: skip
    caption = (
        "P(improvement): how often a run of the row's method scores higher than one of the column's [95 % interval]."
    )
    return Table(caption, ["over", *labels], rows)


def on_task(study: Study, task: str) -> Table:
    """The groups of one task; the first is the baseline of P(improvement)."""
    (one,) = [one for one in study.tasks if one.task == task]
    return comparison([member.summary for member in one.members], [member.label for member in one.members])


def pooling(study: Study) -> Table:
    """Groups whose seeds come from several folders, and seeds that do not count."""
    groups = [group for one in study.tasks for group in one.groups if len(group.members) > 1 or group.left_out]
    rows = [
        Row(
            Cell(group.label, "; ".join(group.left_out)),
            texts([group.run.task, group.run.name, ", ".join(map(str, group.run.seeds))]),
        )
        for group in groups
    ]
    return Table("Folders with the same configuration, put together.", ["", "task", "folders", "seeds"], rows)


def lost(study: Study) -> Table:
    """Runs that failed, have not finished or never began, and why."""
    rows = [
        Row(Cell(one.name, one.label), texts([one.task, one.seeds, one.status, one.reached, one.last, one.why]))
        for one in study.lost
    ]
    caption = "Runs that do not count in the other tables."
    return Table(caption, ["", "task", "seeds", "status", "reached", "last evaluation", "why"], rows)


def all_tables(study: Study) -> dict[str, Table]:
    """Every table under a short name, those without rows left out."""
    found = {
        "overall": overall(study),
        "improvement": improvement(study),
        **{f"task {one.task}": on_task(study, one.task) for one in study.tasks},
        "pooled": pooling(study),
        "left out": lost(study),
    }
    return {name: table for name, table in found.items() if table.rows and _tells(name, table.rows)}


def _tells(name: str, rows: Sequence[Row]) -> bool:
    """A matrix of one method tells nothing."""
    return name != "improvement" or len(rows) > 1
