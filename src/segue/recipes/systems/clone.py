"""Cloning in front of a recipe: its agent's policy begins as a copy of the log's, whoever made the log.

So a policy that Segue did not train becomes a start: collect its episodes (`segue data collect --policy FILE.onnx`),
and learn from them.  As in demonstrations before reinforcement learning (DAPG: Rajeswaran et al. 2018, arXiv
1709.10087, whose first step this is); critics start fresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from segue.agents import BC
from segue.core.types import Acting, SegueError, policy_of
from segue.engine.phase import RANDOM, Phase, at_switch
from segue.recipes.common import Settings
from segue.recipes.method import tried
from segue.recipes.plan import Plan
from segue.recipes.recipe import Recipe
from segue.samplers.uniform import Mix

NAME = "clone"
# Defaults of ours, as long as the other recipes' offline phases.
SIZES: dict[str, Settings] = {
    "custom": {f"{NAME}.gradient_steps": 20_000, f"{NAME}.evaluate_every": 5_000},
    "pointmaze": {
        f"{NAME}.gradient_steps": 4_000,
        f"{NAME}.evaluate_every": 500,
        f"{NAME}.log_every": 100,
        f"{NAME}.batch.offline": 128,
        f"{NAME}.learner.learning_rate": 1e-3,
    },
    "pointmaze-medium": {f"{NAME}.gradient_steps": 20_000, f"{NAME}.evaluate_every": 2_500},
    "pointmaze-large": {f"{NAME}.gradient_steps": 20_000, f"{NAME}.evaluate_every": 2_500},
}


def clone(recipe: Recipe) -> Recipe:
    """Return the recipe with a phase `clone` in front, in which its agent's policy imitates the dataset.

    Where the recipe acts at random at first, the cloned policy acts.  Raises `SegueError` where the recipe's first
    learner has no policy.
    """
    who = f"{NAME}({recipe.name})"
    return tried(
        who,
        f"behaviour cloning in front of {recipe.paper}",
        f"what {recipe.name} gains from a policy that others have trained",
        lambda task: clone_plan(recipe(task), task.names, who),
    )


def clone_plan(plan: Plan, names: Sequence[str], who: str = NAME) -> Plan:
    """Return a plan with a cloning phase in front of its agent's first one, for a task of these names."""
    slot = plan.phases[at_switch(plan.phases, who)].slot
    first = next(p for p in plan.phases if p.slot == slot)
    if any(phase.name == NAME for phase in plan.phases):
        raise SegueError(f"{who}: the recipe clones already; write {NAME} once")
    if not isinstance(first.learner, Acting) or not policy_of(first.learner):
        raise SegueError(
            f"{who}: {type(first.learner).__name__} has no policy that could be cloned; use another recipe"
        )
    cloning = Phase(
        NAME,
        BC(first.learner),
        gradient_steps=100_000,
        batch=Mix(256),
        slot=slot,
        chunk=first.chunk,
        replan=first.replan,
        scaling=first.scaling,
        evaluate_every=10_000,
    )
    others = [replace(p, actor=None) if p.slot == slot and p.actor == RANDOM else p for p in plan.phases]
    place = plan.phases.index(first)
    phases = (*others[:place], cloning, *others[place:])
    return plan.rebuilt(phases, {NAME: [(plan, first.name)]}).preset(SIZES, names)
