"""Chunks of actions around a recipe (Q-chunking: Li, Zhou and Levine 2025, arXiv 2507.07969): the agent plans h
actions, which are taken one after the other without looking, and values whole plans.

`chunk(bfn,5)` is QC, `chunk(fql,5)` is QC-FQL, `chunk(rlpd,5)` is RLPD with chunks (RLPD-AC).  Around other recipes it
is an experiment of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segue.agents import BFN
from segue.core.types import SegueError
from segue.recipes.common import Settings
from segue.recipes.method import tried
from segue.recipes.plan import Plan
from segue.recipes.recipe import Recipe

# Best of how many plans (QC's table); one action has the recipe's own number.
SAMPLES: dict[str, Settings] = {
    "ogbench": {"agent.samples": 32},
    "ogbench-puzzle-3x3": {"agent.samples": 64},
}


def chunk(recipe: Recipe, length: int) -> Recipe:
    """Return the recipe whose policies plan `length` actions at a time.

    Raises `SegueError` where a phase of it sums the rewards of several steps already, or plans already.
    """
    who = f"chunk({recipe.name},{length})"
    return tried(
        who,
        f"Li, Zhou and Levine 2025, Q-chunking, arXiv 2507.07969, on {recipe.paper}",
        "0.86 of 25 OGBench tasks after 1M online steps, 0.59 to 0.63 without chunks (QC's tables)",
        lambda task: chunk_plan(recipe(task), length, task.names, who),
    )


def chunk_plan(plan: Plan, length: int, names: Sequence[str], who: str = "chunk") -> Plan:
    """Return a plan whose policies plan `length` actions at a time, for a task of these names."""
    if length < 2:
        raise SegueError(f"{who}: a plan has 2 actions or more; leave chunk out for one")
    for phase in plan.phases:
        if phase.chunk > 1:
            raise SegueError(f"{who}: phase '{phase.name}' plans {phase.chunk} actions already; write chunk once")
        if phase.n_steps > 1:
            raise SegueError(
                f"{who}: phase '{phase.name}' sums the rewards of {phase.n_steps} steps, and a chunk does so already; "
                f"set {phase.name}.n_steps=1"
            )
    paths = {f"{phase.name}.chunk": length for phase in plan.phases}
    plan = replace(plan, phases=tuple(replace(phase, chunk=length) for phase in plan.phases))
    plan = replace(plan, sources={**plan.sources, **dict.fromkeys(paths, who)})
    if any(isinstance(phase.learner, BFN) for phase in plan.phases):
        plan = plan.preset(SAMPLES, names)
    return plan
