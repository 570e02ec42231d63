"""A recipe that goes on from the first phases of another run."""

from __future__ import annotations

from dataclasses import replace

from segue.core import options
from segue.core.scaling import Scaling
from segue.core.types import SegueError
from segue.engine.phase import Phase
from segue.recipes.plan import Plan

INHERITED = "inherited"
"""Source of the numbers of an inherited phase."""


def continued(plan: Plan, before: Plan) -> tuple[Plan, tuple[str, ...]]:
    """Return a plan whose first phases are those of `before`, settled, and the names of those that it does without.

    If these are the plan's own first phases, the plan stays as it is.  Else they take the place of what it does before
    its first phase that collects.  An inherited phase whose name a later one has too gets another name.  Raises
    `SegueError` where nothing would follow.
    """
    whole, count = plan.settled(), len(before.phases)
    if alike(whole.phases[:count], whole.scaling) == alike(before.phases, before.scaling):
        if count == len(whole.phases):
            raise SegueError(f"it has no phase after '{before.phases[-1].name}', so nothing is left to do")
        return whole, ()
    first = next((n for n, phase in enumerate(plan.phases) if phase.collects), None)
    if first is None:
        raise SegueError(
            f"none of its phases collects, and its first ones are not those of the run up to '{before.phases[-1].name}'"
        )
    after = plan.phases[first:]
    taken = {phase.name for phase in after}
    inherited = []
    for phase in before.phases:
        name = phase.name
        while name in taken:
            name += "-before"
        taken.add(name)
        scaling = phase.scaling or (None if before.scaling == plan.scaling else before.scaling)
        inherited.append(replace(phase, name=name, scaling=scaling))
    gone = [f"{phase.name}." for phase in plan.phases[:first]]
    sources = {path: source for path, source in plan.sources.items() if not path.startswith(tuple(gone))}
    for phase in inherited:
        sources |= {f"{phase.name}.{path}": INHERITED for path in options.leaves(phase)}
    whole = replace(plan, phases=(*inherited, *after), sources=sources).settled()
    return whole, tuple(phase.name for phase in plan.phases[:first])


def alike(phases: tuple[Phase, ...], scaling: Scaling) -> list[Phase]:
    """Phases without what changes no number of them: how often they are evaluated and logged."""
    return [replace(p, scaling=p.scaling or scaling, evaluate_every=0, log_every=1) for p in phases]
