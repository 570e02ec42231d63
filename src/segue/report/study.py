"""Many runs as one study: groups by task, methods over tasks, and the runs that do not count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segue.core.types import SegueError
from segue.report.figures import COLOURS, colour
from segue.report.labels import labels_of
from segue.report.notation import MISSING, count
from segue.report.over_tasks import on_grid
from segue.report.pooling import Group, pooled
from segue.report.read import read_about, read_run, title_of
from segue.report.run import Run
from segue.report.sections import Member
from segue.report.statistics import Floats, interquartile_mean
from segue.report.summary import quantity_of, show, summarise
from segue.report.tables import Table

GRID = 100  # environment steps at which curves over tasks are drawn, at most
WHY = {
    "failed": "an error stopped it; its output says which",
    "stopped": "it was ended early, so that it is no whole run",
    "interrupted": "a signal stopped it; segue resume goes on",
    "running": "not finished yet, or killed; segue resume goes on with a run that was killed",
}


class Lost(NamedTuple):
    """A run that does not count, as texts."""

    name: str
    label: str
    task: str
    seeds: str
    status: str
    reached: str
    last: str
    why: str


class Searched(NamedTuple):
    """What a search over options has found."""

    trials: int
    best: Table
    """The best trials, with intervals over seeds."""
    importance: Table
    """How much of the differences between trials each option explains."""
    again: str
    """The command that runs the best settings again with fresh seeds."""


class Scores(NamedTuple):
    """One group's scores from 0 to 100, each (S,), and its curve since the switch."""

    at_switch: Floats
    final: Floats
    fall: Floats  # lowest after the switch minus the value at the switch; below 0 for a fall
    regret: Floats
    steps: Floats  # (T,) environment steps, the switch first
    curve: Floats  # (S, T)


@dataclass(frozen=True)
class OnTask:
    """The groups of one task; `scores` by label, empty where the task has no score."""

    task: str
    measure: str  # what the score is, in words; empty without one
    groups: tuple[Group, ...]
    members: tuple[Member, ...]
    scores: Mapping[str, Scores]


@dataclass(frozen=True)
class Study:
    """Finished runs by task, and the others."""

    tasks: tuple[OnTask, ...]
    labels: tuple[str, ...]
    """Of all groups with a finished run, in the order in which they were given."""
    shown: Mapping[str, str]
    """The class of the colour of each label that figures show: at most COLOURS of them."""
    scored: tuple[OnTask, ...]
    """Tasks with a score that are put together: those that most methods share, see `_together`."""
    complete: tuple[str, ...]
    """Labels with scores on all of these tasks: only they are put together."""
    lost: tuple[Lost, ...]

    def over_tasks(self, label: str, name: str) -> list[Floats]:
        """One quantity of `Scores` of a complete method: an array (S,) for each scored task."""
        return [getattr(one.scores[label], name) for one in self.scored]

    def grid(self) -> Floats:
        """Environment steps (K,) to the end of the shortest of the runs that are put together."""
        found = [one.scores[label].steps for one in self.scored for label in self.complete]
        end = min((float(steps[-1]) for steps in found if len(steps)), default=0.0)
        steps = np.unique(np.concatenate([np.zeros(0), *found]))
        steps = steps[steps <= end]
        return steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), GRID)).round().astype(int))]

    def curves(self, label: str, grid: Floats) -> list[Floats]:
        """Scores (S, K) of a complete method on the grid, for each scored task."""
        return [on_grid(one.scores[label].steps, one.scores[label].curve, grid) for one in self.scored]


def study_of(folders: Sequence[Path], failed: Iterable[tuple[Path | str, str]] = ()) -> Study:
    """Read runs and sort them.

    `failed`: further folders or names of cells, each with the reason why there is no run.  Raises SegueError where no
    run has finished.
    """
    runs, lost = read_all(folders)
    labels = labels_of(runs)
    lost += [_unfinished(run, label) for run, label in zip(runs, labels) if run.status != "finished"]
    lost += [_never_begun(Path(folder).name, why) for folder, why in failed]
    groups = pooled(*_finished(runs, labels))
    if not groups:
        raise SegueError(f"report: none of the {len(lost)} runs has finished; report one alone to see how far it is")
    names = tuple(dict.fromkeys(group.label for group in groups))
    by_task = [[group for group in groups if group.run.task == task] for task in _tasks(groups)]
    scores = [_scores(of) for of in by_task]
    complete = _together(names, [found for _, found in scores if found])
    places = [i for i, (_, found) in enumerate(scores) if complete and all(name in found for name in complete)]
    shown = _shown(names, complete, [scores[place][1] for place in places])
    tasks = [
        OnTask(of[0].run.task, measure, tuple(of), tuple(_members(of, shown)), found)
        for of, (measure, found) in zip(by_task, scores)
    ]
    return Study(tuple(tasks), names, shown, tuple(tasks[i] for i in places), complete, tuple(lost))


def _together(names: Sequence[str], scored: Sequence[Mapping[str, Scores]]) -> tuple[str, ...]:
    """Methods that are put together: of the sets of tasks that a method has, that with most methods times tasks.

    (Default of ours.)  A mean over fewer tasks cannot be compared, so a method that lacks one of them is left out.
    """
    has = {name: {task for task, found in enumerate(scored) if name in found} for name in names}
    sets = [(tasks, [name for name in names if has[name] >= tasks]) for tasks in has.values() if tasks]
    return tuple(max(sets, key=lambda pair: (len(pair[0]) * len(pair[1]), len(pair[0])))[1]) if sets else ()


def read_all(folders: Sequence[Path]) -> tuple[list[Run], list[Lost]]:
    """Every run that has something to report, and why the other folders have not; a folder given twice counts once."""
    runs: list[Run] = []
    lost: list[Lost] = []
    for folder in {Path(folder).resolve(): Path(folder) for folder in folders}.values():
        try:
            runs.append(read_run(folder))
        except SegueError as error:
            lost.append(_unreadable(folder, str(error)))
    return runs, lost


def _finished(runs: Sequence[Run], labels: Sequence[str]) -> tuple[list[Run], list[str]]:
    chosen = [(run, label) for run, label in zip(runs, labels) if run.status == "finished"]
    return [run for run, _ in chosen], [label for _, label in chosen]


def _tasks(groups: Sequence[Group]) -> list[str]:
    return list(dict.fromkeys(group.run.task for group in groups))


def _members(groups: Sequence[Group], shown: Mapping[str, str]) -> list[Member]:
    quantity = quantity_of([group.run for group in groups])
    return [Member(group.label, shown.get(group.label, ""), summarise(group.run, quantity)) for group in groups]


def _shown(names: Sequence[str], complete: Sequence[str], scored: Sequence[Mapping[str, Scores]]) -> dict[str, str]:
    """Labels that figures show, with their colours: all, or the best COLOURS of the complete ones, and then others."""
    best = sorted(complete, key=lambda n: -float(interquartile_mean(np.concatenate([f[n].final for f in scored]))))
    chosen = [*best, *(name for name in names if name not in complete)][:COLOURS]
    return {name: colour(place) for place, name in enumerate(name for name in names if name in chosen)}


def _scores(groups: Sequence[Group]) -> tuple[str, dict[str, Scores]]:
    """What the score of a task is, and the scores of its groups: the normalised score, else success times 100."""
    runs = [group.run for group in groups]
    for quantity, factor, words in (("score", 1.0, "normalised score"), ("success", 100.0, "success in per cent")):
        if all(run.evaluation.known(quantity) for run in runs):
            return words, {group.label: _scores_of(group.run, quantity, factor) for group in groups}
    return "", {}


def _scores_of(run: Run, quantity: str, factor: float) -> Scores:
    found, curve = summarise(run, quantity), run.evaluation
    before, after = np.flatnonzero(~curve.online), np.flatnonzero(curve.online)
    path = np.concatenate([before[-1:], after]).astype(int)
    fall = factor * (found.lowest - found.at_switch)
    table = factor * curve.values[quantity][:, path]
    steps = curve.environment_step[path].astype(np.float64)
    return Scores(factor * found.at_switch, factor * found.final, fall, found.regret, steps, table)


def _unfinished(run: Run, label: str) -> Lost:
    phase = max(run.wall_s, default=0)
    step = max((int(c.environment_step[-1]) for c in (run.training, run.evaluation) if len(c.x)), default=0)
    name = run.phases[phase].name if phase < len(run.phases) else str(phase)
    quantity = quantity_of([run])
    last = show(quantity, float(interquartile_mean(summarise(run, quantity).final)))
    seeds, why = ", ".join(map(str, run.seeds)), WHY.get(run.status, "its status is not known")
    return Lost(run.name, label, run.task, seeds, run.status, f"{name}, step {count(step)}", last, why)


def _unreadable(folder: Path, error: str) -> Lost:
    """A folder that cannot be reported, with what its run.json says if there is one."""
    why = error.removeprefix(f"{folder}: ").removeprefix(f"{folder.name}: ")
    try:
        about = read_about(folder)
    except SegueError:
        return _never_begun(title_of(folder), why)
    seeds, status = ", ".join(map(str, about["seeds"])), str(about.get("status", "?"))
    return Lost(
        title_of(folder),
        str(about.get("recipe", "?")),
        str(about.get("task", "?")),
        seeds,
        status,
        MISSING,
        MISSING,
        why,
    )


def _never_begun(name: str, why: str) -> Lost:
    return Lost(name, MISSING, MISSING, MISSING, "not begun", MISSING, MISSING, why)
