"""The training loop: dataset, envs -> replay -> sampler -> bonus -> learner -> slot -> act -> envs.

`run` is a generator of Records; the caller logs, evaluates, saves and prints.  It never returns to the host inside
a dispatch.  Its results depend only on the seeds and the clocks: not on how updates are grouped into dispatches, not on
the other seeds of the run, and not on when the caller saved or resumed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from segue.core.observations import parts_seen
from segue.core.scaling import Scaling, settled
from segue.core.types import Task
from segue.engine.ahead import Ahead
from segue.engine.envs import Simulator, here
from segue.engine.offline import Offline
from segue.engine.phase import Phase, room
from segue.engine.running import Running
from segue.engine.state import Record, RunState, new_state
from segue.engine.validate import validate

LAST = 1_000_000  # rows of own experience that are kept where nothing else is said
Plan = Callable[[tuple[dict[str, Any], ...]], Phase | None]


def run(
    plan: Plan | Sequence[Phase],
    task: Task,
    seeds: Sequence[int],
    scaling: Scaling,
    *,
    capacity: int | None = None,
    envs: int = 1,
    state: RunState | None = None,
    keep_rows: bool = False,
    checked: bool = False,
    simulators: Callable[[], Simulator] | None = None,
) -> Generator[Record, None, None]:
    """Run phases on a task with all seeds side by side and yield Records.

    `plan` is a tuple of phases, or a function from the facts of the finished phases to the next phase (None: done).
    All seeds share the task's dataset; each seed gets `envs` simulators of its own when a phase first collects.  If
    `scaling.failure` is "task", it is the task's failure reward; what depends on the dataset is computed from it.
    `capacity` is the number of own rows kept per seed (the oldest go first); by default all rows that the phases
    collect, or a million rows if `plan` is a function.  `state` continues a run.  With `keep_rows`, environment steps
    are kept in `state.unsaved` until the caller takes them.  `checked` says that `validate` has checked the phases.
    `simulators` makes a simulator; by default one of the task in this process.

    Raises `SegueError` before anything compiles if the parts do not fit, `Diverged` if a number is not finite, and
    `EnvError` if an environment fails: `state` then holds every completed step, and may be saved.
    """
    following, spec, simulators = as_plan(plan), task.spec, simulators or here(task.make_env)
    if state is None:
        if not callable(plan) and not checked:
            validate(plan, task, seeds, scaling, capacity, envs)
        most = room(plan, capacity) if not callable(plan) else LAST if capacity is None else capacity
        state = new_state(seeds, spec, most, envs)
    source, ahead = Offline(task.dataset(), spec, state.experience.groups), Ahead()
    told = task.failure, source.data, parts_seen(spec)
    handovers: dict[int, Any] = {}
    try:
        while (phase := following(state.history)) is not None:
            after = () if callable(plan) else tuple(_goes_on(plan[len(state.history) + 1 :]))
            current, *later = (settled(p.scaling or scaling, *told) for p in (phase, *after))
            running = Running(phase, state, task, current, source, handovers, keep_rows, simulators)
            ahead.wait(running.index)
            running.begin()
            if not phase.moves and not callable(plan):
                coming = enumerate(plan[running.index + 1 :], running.index + 1)
                ahead.begin(state, source, ((n, p, settled(p.scaling or scaling, *told)) for n, p in coming))
            yield from running.records(tuple(zip(after, later)))
            state.entered = False
    finally:
        ahead.close()
        if state.envs is not None:
            state.envs.close()


def as_plan(plan: Plan | Sequence[Phase]) -> Plan:
    """Return a plan that goes through phases in order, or the plan itself."""
    if callable(plan):
        return plan
    phases = tuple(plan)
    return lambda history: phases[len(history)] if len(history) < len(phases) else None


def _goes_on(after: Sequence[Phase]) -> Iterator[Phase]:
    """The phases that begin while an episode of the one before may be open."""
    return itertools.takewhile(lambda phase: phase.moves > 0, after)
