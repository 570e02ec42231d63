"""What a study will need, before anything is run."""

from __future__ import annotations

from typing import NamedTuple

from segue.core import options
from segue.engine.estimate import Costs, Estimate, duration, size
from segue.engine.phase import Phase
from segue.runs import train
from segue.runs.checks import check
from segue.study.begin import request_of
from segue.study.folder import Study
from segue.study.plan import Planner


class Needs(NamedTuple):
    """Of a whole study: bytes of the disk, and seconds of the updates of one worker after the other (least, most)."""

    disk: int
    seconds: tuple[float, float] | None

    def times(self, count: int) -> Needs:
        """What so many of it need."""
        seconds = None if self.seconds is None else (count * self.seconds[0], count * self.seconds[1])
        return Needs(count * self.disk, seconds)

    def words(self) -> str:
        """One line."""
        said = f"disk: at most about {size(self.disk)}"
        if self.seconds is None:
            return said
        least, most = map(duration, self.seconds)
        return (
            f"{said}; updates alone: between {least} and {most} of one worker, from operation counts and not measured"
        )


def needs(study: Study, planner: Planner) -> Needs:
    """Count what a study needs; cells of the same shapes are checked and counted once.  Raises `SegueError`."""
    known: dict[tuple[object, ...], Estimate] = {}
    costs: Costs = {}
    disk, least, most, timed = 0, 0.0, 0.0, True
    for cell in study.cells:
        plan, task = planner.plan(cell), planner.task(cell.task)
        key = task.spec, len(cell.seeds), plan.experience, tuple(map(_shape, plan.phases))
        if key not in known:
            request = request_of(cell, study.asked)
            check(plan, task, request)
            known[key] = train.needs(plan, task, request, timed=True, costs=costs)
        found = known[key]
        share = _rest(plan.phases, cell.shares[0][1]) if cell.shares else 1.0
        disk += found.disk
        if found.seconds is None:
            timed = False
        else:
            least, most = least + share * found.seconds[0], most + share * found.seconds[1]
    return Needs(disk, (least, most) if timed else None)


def _shape(phase: Phase) -> tuple[object, ...]:
    """What decides the operations of a phase: all its options but those that are fractions."""
    return tuple((path, value) for path, value in options.leaves(phase).items() if not isinstance(value, float))


def _rest(phases: tuple[Phase, ...], last: str) -> float:
    """The share of the updates that come after a phase."""
    each = [phase.all_updates for phase in phases]
    done = next((n for n, phase in enumerate(phases, 1) if phase.name == last), 0)
    return sum(each[done:]) / max(sum(each), 1)
