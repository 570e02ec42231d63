"""The examination of a log, in two passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from segue.core.scaling import Scaling
from segue.core.types import SegueError, Task
from segue.data.doctor.case import AGAIN, SIZES, Case
from segue.data.doctor.checks import CHECKS, layout, lengths
from segue.data.doctor.finding import Finding, Report, ordered
from segue.data.doctor.log import Log
from segue.data.doctor.simulator.world import EPISODES, RESETS, STEPS, Simulator
from segue.data.facts import Facts
from segue.data.recorded import Recorded

STILL = (
    f"it moves the environment, which --simulate allows: {RESETS + EPISODES} resets, up to {EPISODES * STEPS:,} "
    "random actions, and more"
)
WORLD = ("start-coverage", *layout.CHECKS, *AGAIN)  # checks that want a task


def examine(
    episodes: Callable[[], Iterator[Recorded]],
    facts: Facts,
    *,
    task: Task | None = None,
    scaling: Scaling | None = None,
    simulate: bool = False,
) -> Report:
    """Examine a log.

    `episodes` opens the log anew at each call, and yields the same episodes in the same order.  `facts` are those of
    its `Source` (may be empty).  `task`: the one that the log is for; without it, no check compares with an
    environment.  `scaling`: the learner's, for the range of values.  `simulate` moves the task's environment, see
    `movements`; nothing moves without it.  Deterministic.

    A simulator that cannot be made, or cannot be put into logged states, is no error: the report's `left_out` says
    which checks were not made, and why.  Raises `SegueError` if `episodes` does, or if the second pass does not
    find what the first one did.
    """
    log = Log(episodes())
    case = Case(log, facts, task, scaling)
    if not log.rows:
        nothing = (replace(finding, code="empty") for finding in lengths.empty(case))
        return Report(tuple(nothing), len(log), 0, dict.fromkeys(CHECKS, "the log has no step"))
    try:
        case.simulator = _simulator(case, simulate)
        findings = _findings(case, episodes)
    finally:
        if case.simulator is not None:
            case.simulator.close()
    return Report(ordered(findings), len(log), log.rows, dict(case.left_out))


def movements(name: str) -> str:
    """What `simulate` does to a world, in words."""
    return (
        f"{name}: {RESETS} resets, {EPISODES} episodes of up to {STEPS} uniformly random actions over their whole "
        "range, one more up to the time limit, and logged actions again"
    )


def _simulator(case: Case, simulate: bool) -> Simulator | None:
    """The task's simulator; None, and a reason in `left_out`, if there is none."""
    if case.task is None:
        case.leave_all(WORLD, "no task was given")
        return None
    try:
        case.spec = case.task.spec
        if not simulate:
            case.leave_all([code for code in WORLD if code != "observation-shape"], STILL)
            return None
        if not case.fits:
            case.leave_all([code for code in (*layout.CHECKS, "start-coverage") if code != "observation-shape"], SIZES)
        return Simulator(case.task.make_env(), case.spec.action)
    except SegueError as error:
        case.leave_all(WORLD, f"the task's environment cannot be made: {error}")
        return None


def _findings(case: Case, episodes: Callable[[], Iterator[Recorded]]) -> list[Finding]:
    checks = {code: make(case) for code, make in CHECKS.items()}
    index, number = case.log.index, -1
    for number, episode in enumerate(episodes()):
        if number >= len(case.log) or len(episode) != index["length"][number]:
            raise SegueError(f"episode {number} differs from the first pass; open the log again")
        if len(episode) and not index["odd"][number]:
            for check in checks.values():
                check.see(number, episode)
    if number + 1 != len(case.log):
        raise SegueError(f"{number + 1} episodes instead of {len(case.log)} in the first pass; open the log again")
    found: list[Finding] = []
    for code, check in checks.items():
        case.found = tuple(found)
        found += (replace(finding, code=code) for finding in check.judge())
    return found
